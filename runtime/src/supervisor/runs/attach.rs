//! The standard streams of a run that a user holds, by way of the control plane that the user speaks to.
//!
//! In: what is sent to the run. Out: what it prints, as frames. Whoever is slower sets the pace.
//!
//! Invariant: a run whose streams nobody holds any more goes on: what it prints is in the log all the same.

use std::{io, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{Stream, stream};
use gilliam_client::{Client, ClientError, RunInput};
use gilliam_engine::{Attached, InputCut, Piece, Standard, attach};
use gilliam_model::{
    name::NodeName,
    run::{AssignedRun, FRAME_BYTES_MAX, RunId, RunStream, frame_head},
};
use tokio::{
    sync::mpsc::{Receiver, Sender},
    task::JoinHandle,
};

use crate::control::Control;

/// Rounds in which all control planes are asked whether they hold the streams.
const ROUNDS_MAX: u32 = 5;
/// Between two rounds.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for one control plane's answer: it waits some seconds itself for the one who asked for the run.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long the end of a run waits for its last output to be taken: a user who takes it later has it in the log.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(10);

/// What carries the streams of a run.
#[derive(Debug)]
pub(super) struct Pumps {
    feeding: JoinHandle<()>,
    sending: JoinHandle<()>,
}

impl Pumps {
    /// Waits until all that the run printed is taken, but not for ever.
    pub(super) async fn finish(mut self) {
        self.feeding.abort();
        if tokio::time::timeout(LAST_OUTPUT_WAIT, &mut self.sending)
            .await
            .is_err()
        {
            self.sending.abort();
        }
    }
}

/// Takes up the streams of a run; those that nobody holds any more are cut off, and where nobody asked for any there
/// are none.
pub(super) async fn take_up(
    control: &Control,
    node: &NodeName,
    run: &AssignedRun,
) -> (Option<Attached>, Option<Pumps>) {
    let Some(holder) = run.attached.as_deref() else {
        return (None, None);
    };
    let found = find(control, node, &run.id, holder).await;
    let (attached, streams) = attach();
    let Some((client, input)) = found else {
        let cut = streams.input.try_send(Err(InputCut));
        cut.expect("it is the first");
        return (Some(attached), None);
    };
    let feeding = tokio::spawn(feed(input, streams.input));
    let (node, id, holder) = (node.clone(), run.id.clone(), holder.to_owned());
    let sending = tokio::spawn(async move {
        let output = frames(streams.output);
        if let Err(error) = client.send_run_output(&node, &id, &holder, output).await {
            tracing::debug!(run = %id, %error, "what it prints is in the log alone");
        }
    });
    (Some(attached), Some(Pumps { feeding, sending }))
}

/// The control plane that holds the streams, and what is sent to the run.
async fn find(control: &Control, node: &NodeName, run: &RunId, holder: &str) -> Option<(Client, RunInput)> {
    for round in 0..ROUNDS_MAX {
        if round > 0 {
            tokio::time::sleep(ROUND_INTERVAL).await;
        }
        let mut is_known = true;
        for way in 0..control.count() {
            let Ok(client) = control.client_of(way) else {
                is_known = false;
                continue;
            };
            let asked = tokio::time::timeout(ANSWER_WAIT, client.run_input(node, run, holder)).await;
            match asked {
                Ok(Ok(input)) => return Some((client, input)),
                Ok(Err(ClientError::Api { .. })) => {}
                Ok(Err(_)) | Err(_) => is_known = false,
            }
        }
        // All have answered, and none of them holds it.
        if is_known {
            return None;
        }
    }
    None
}

/// Passes on what is sent to the run, until that ends or the run does.
async fn feed(mut input: RunInput, to: Sender<Result<Bytes, InputCut>>) {
    loop {
        let next = tokio::select! {
            next = input.next() => next,
            () = to.closed() => return,
        };
        let mut bytes = match next {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(_) => {
                // A run that has ended needs not know.
                let _ = to.send(Err(InputCut)).await;
                return;
            }
        };
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(FRAME_BYTES_MAX));
            if to.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    }
}

/// What a run prints, as it is sent: what waits goes together.
fn frames(output: Receiver<Piece>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(output, |mut output| async move {
        let mut framed = BytesMut::new();
        frame(&mut framed, output.recv().await?);
        while framed.len() < FRAME_BYTES_MAX
            && let Ok(piece) = output.try_recv()
        {
            frame(&mut framed, piece);
        }
        Some((Ok(framed.freeze()), output))
    })
}

fn frame(framed: &mut BytesMut, Piece { stream, mut bytes }: Piece) {
    let stream = match stream {
        Standard::Out => RunStream::Stdout,
        Standard::Err => RunStream::Stderr,
    };
    while !bytes.is_empty() {
        let part = bytes.split_to(bytes.len().min(FRAME_BYTES_MAX));
        framed.put_slice(&frame_head(stream, part.len()));
        framed.put_slice(&part);
    }
}
