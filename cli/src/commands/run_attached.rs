//! A run whose standard streams are those of the command: bytes both ways, as they come.
//!
//! In: standard input, signals. Out: what the run prints, to standard output and standard error, and how it ended.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::Either, stream};
use gilliam_client::{Client, RunOutput};
use gilliam_model::{
    name::AppName,
    run::{RunInfo, RunStream},
};
use tokio::sync::mpsc;

use super::run_log;
use crate::{
    failure::{CommandError, CommandResult},
    shutdown,
    ui::Ui,
};

/// Bytes of standard input that are read at once.
const READ_BYTES: usize = 64 << 10;
/// Readings that wait to be sent.
const READINGS_MAX: usize = 4;
/// Longest silence before the last output of a run that has ended.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(3);

/// What a run is given as its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdin {
    /// The command's own.
    Own,
    /// Nothing: it is at its end.
    Ended,
}

/// Holds the streams of a run that was asked for, until it has ended; as it is then.
pub(super) async fn hold(
    ui: &Ui,
    client: &Client,
    app: &AppName,
    asked: &RunInfo,
    stdin: Stdin,
) -> CommandResult<RunInfo> {
    let (sender, to, number) = (client.clone(), app.clone(), asked.number);
    let input = match stdin {
        Stdin::Own => Either::Left(standard_input()),
        Stdin::Ended => Either::Right(stream::empty()),
    };
    let input = input.boxed();
    // How it goes is told by the run itself.
    let sending = tokio::spawn(async move { drop(sender.send_run_input(&to, number, input).await) });
    let ended = follow(ui, client, app, asked).await;
    sending.abort();
    ended
}

async fn follow(ui: &Ui, client: &Client, app: &AppName, asked: &RunInfo) -> CommandResult<RunInfo> {
    let mut output = match client.run_output(app, asked.number).await {
        Ok(output) => Some(output),
        Err(error) if error.is_transient() => {
            say_gone(ui, asked);
            None
        }
        Err(error) => return Err(error.into()),
    };
    let mut ended = std::pin::pin!(run_log::end_of(client, app, asked.number));
    let mut interrupted = Box::pin(shutdown::requested());
    let mut is_stopping = false;
    let run = loop {
        tokio::select! {
            more = next(&mut output) => match more {
                Some(Ok((stream, bytes))) => ui.raw(stream, &bytes)?,
                Some(Err(())) => {
                    output = None;
                    say_gone(ui, asked);
                }
                None => output = None,
            },
            run = &mut ended => break run?,
            () = &mut interrupted => {
                if is_stopping {
                    return Err(CommandError::exit(130));
                }
                is_stopping = true;
                interrupted = Box::pin(shutdown::requested());
                ui.note(&format!("Stopping {}; once more ends the wait", asked.name));
                client.stop_run(app, asked.number).await?;
            }
        }
    };
    while let Ok(Some(Ok((stream, bytes)))) = tokio::time::timeout(LAST_OUTPUT_WAIT, next(&mut output)).await
    {
        ui.raw(stream, &bytes)?;
    }
    Ok(run)
}

/// What the run printed next; none at its end, an error when the control plane is gone. Without output it waits for
/// ever.
async fn next(output: &mut Option<RunOutput>) -> Option<Result<(RunStream, Bytes), ()>> {
    match output {
        None => std::future::pending().await,
        Some(output) => output.next().await.map_err(drop).transpose(),
    }
}

fn say_gone(ui: &Ui, asked: &RunInfo) {
    let name = &asked.name;
    ui.note(&format!(
        "The connection to {name} was cut; if it goes on, gilliam logs {name} shows what it prints"
    ));
}

/// Standard input, read by a thread of its own: nobody waits for that, since a terminal may never say more.
fn standard_input() -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(READINGS_MAX);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let has_failed = read.is_err();
            if sender.blocking_send(read).is_err() || has_failed {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        let read = receiver.recv().await?;
        Some((read, receiver))
    })
}
