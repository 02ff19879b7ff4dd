//! Runs whose standard streams a user holds: what the user sends goes on to the node of the run, and what that prints
//! to the user.
//!
//! ```text
//!   user ── POST stdin ──► input ──► GET input ─── node
//!   user ◄── GET output ── output ◄── POST output ── node
//! ```
//!
//! Bytes are passed on as they come, nothing of them is looked at, and who sends waits for who takes.
//!
//! Invariant: what is on its way is bounded: [`CHUNKS_MAX`] chunks each way, of [`ATTACHED_MAX`] runs.
//! Invariant: who takes learns whether all was sent: an end that nobody said is a cut.
//! Invariant: a session is of one life of one control plane, and ends with the user who holds it: nothing of it is in
//! the store, and the run goes on without it.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use gilliam_model::run::{OnLeave, RunId, RunInfo};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::refusal::Refusal;

/// Runs that are held at once: each holds connections of a user and a node, and up to a megabyte.
const ATTACHED_MAX: usize = 64;
/// Chunks on their way, each way.
const CHUNKS_MAX: usize = 8;
/// Most bytes of a chunk.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// How long a user may take to begin to listen.
const LISTEN_WAIT: Duration = Duration::from_secs(60);

/// Who sent is gone, or failed, before the end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it was cut off")]
pub(crate) struct Cut;

/// The runs that users hold.
#[derive(Debug)]
pub(crate) struct Attachments {
    sessions: Mutex<BTreeMap<RunId, Arc<Session>>>,
    changed: watch::Sender<u64>,
    places: Arc<Semaphore>,
}

/// A run that a user holds.
#[derive(Debug)]
pub(crate) struct Session {
    /// What becomes of the run when the user leaves.
    pub(crate) on_leave: OnLeave,
    /// From the user to the run.
    pub(crate) input: Pipe,
    /// From the run to the user.
    pub(crate) output: Pipe,
    is_heard: AtomicBool,
    _place: OwnedSemaphorePermit,
}

/// A way for bytes, with one who sends and one who takes.
#[derive(Debug)]
pub(crate) struct Pipe {
    sender: Mutex<Option<Sender>>,
    receiver: Mutex<Option<Receiver>>,
}

/// The beginning of a pipe. One that is dropped has sent all only if it was said so.
#[derive(Debug)]
pub(crate) struct Sender {
    chunks: mpsc::Sender<Bytes>,
    is_whole: Arc<AtomicBool>,
}

/// The end of a pipe.
#[derive(Debug)]
pub(crate) struct Receiver {
    chunks: mpsc::Receiver<Bytes>,
    is_whole: Arc<AtomicBool>,
}

impl Default for Attachments {
    fn default() -> Self {
        Self {
            sessions: Mutex::default(),
            changed: watch::Sender::new(0),
            places: Arc::new(Semaphore::new(ATTACHED_MAX)),
        }
    }
}

impl Attachments {
    /// A place for one more; taken before the run is asked for.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = self.places.clone().try_acquire_owned();
        place.map_err(|_| Refusal::busy("runs whose streams are held"))
    }

    /// Begins to hold a run that was asked for. Nobody who listens in time, and it is let go.
    pub(crate) fn open(self: &Arc<Self>, run: RunId, on_leave: OnLeave, place: OwnedSemaphorePermit) {
        let session = Arc::new(Session {
            on_leave,
            input: Pipe::new(),
            output: Pipe::new(),
            is_heard: AtomicBool::new(false),
            _place: place,
        });
        let (this, weak) = (self.clone(), Arc::downgrade(&session));
        self.sessions().insert(run.clone(), session);
        self.changed.send_modify(|n| *n += 1);
        tokio::spawn(async move {
            tokio::time::sleep(LISTEN_WAIT).await;
            let session = weak.upgrade();
            if session.is_some_and(|session| !session.is_heard.load(Ordering::Relaxed)) {
                this.close(&run);
            }
        });
    }

    /// Lets a run go: who still sends to it, or takes from it, hears of that.
    pub(crate) fn close(&self, run: &RunId) {
        self.sessions().remove(run);
    }

    /// The session of a run of this app and number.
    pub(crate) fn of(&self, run: &RunInfo) -> Option<Arc<Session>> {
        self.get(&id_of(run))
    }

    /// The session of a run, if it comes within `limit`.
    pub(crate) async fn wait(&self, run: &RunId, limit: Duration) -> Option<Arc<Session>> {
        let mut changed = self.changed.subscribe();
        let found = changed.wait_for(|_| self.get(run).is_some());
        // An error says only that the time is over.
        let _ = tokio::time::timeout(limit, found).await;
        self.get(run)
    }

    fn get(&self, run: &RunId) -> Option<Arc<Session>> {
        self.sessions().get(run).cloned()
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run as sessions know it.
pub(crate) fn id_of(run: &RunInfo) -> RunId {
    RunId {
        app: run.app.clone(),
        number: run.number,
        asked_at: run.asked_at,
    }
}

impl Session {
    /// Takes note that its user listens.
    pub(crate) fn heard(&self) {
        self.is_heard.store(true, Ordering::Relaxed);
    }
}

impl Pipe {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let is_whole = Arc::new(AtomicBool::new(false));
        Self {
            sender: Mutex::new(Some(Sender {
                chunks: sender,
                is_whole: is_whole.clone(),
            })),
            receiver: Mutex::new(Some(Receiver {
                chunks: receiver,
                is_whole,
            })),
        }
    }

    /// Its beginning, for the first who asks.
    pub(crate) fn sender(&self) -> Option<Sender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Its end, for the first who asks.
    pub(crate) fn receiver(&self) -> Option<Receiver> {
        self.receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Passes a body on to a pipe until it ends, or nobody takes any more. Cut off, what was sent is not whole.
pub(crate) async fn pass<E>(mut body: impl Stream<Item = Result<Bytes, E>> + Unpin, sender: Sender) {
    loop {
        let chunk = tokio::select! {
            chunk = body.next() => chunk,
            () = sender.chunks.closed() => return,
        };
        let mut bytes = match chunk {
            Some(Ok(bytes)) => bytes,
            Some(Err(_)) => return,
            None => return sender.is_whole.store(true, Ordering::Release),
        };
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
            if sender.chunks.send(piece).await.is_err() {
                return;
            }
        }
    }
}

/// How the taking of what comes out of a pipe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All was taken.
    Reached,
    /// Whoever took it is gone.
    Left,
    /// Whoever sent it is gone, or this control plane ends.
    Cut,
}

/// What comes out of a pipe, cut off once `until` is over; `then` is told, once, how it ended.
pub(crate) fn taken(
    receiver: Receiver,
    until: impl Future<Output = ()> + Send + 'static,
    then: impl FnOnce(End) + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send {
    let state = Taking {
        receiver,
        until: Box::pin(until),
        end: End::Left,
        then: Some(Box::new(then)),
    };
    stream::unfold(state, |mut state| async move {
        if state.end != End::Left {
            return None;
        }
        let chunk = tokio::select! {
            biased;
            chunk = state.receiver.chunks.recv() => chunk,
            () = &mut state.until => None,
        };
        if let Some(chunk) = chunk {
            return Some((Ok(chunk), state));
        }
        if state.receiver.is_whole.load(Ordering::Acquire) {
            state.ended(End::Reached);
            return None;
        }
        state.ended(End::Cut);
        Some((Err(Cut), state))
    })
}

struct Taking {
    receiver: Receiver,
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
    end: End,
    then: Option<Box<dyn FnOnce(End) + Send>>,
}

impl Taking {
    fn ended(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if let Some(then) = self.then.take() {
            then(self.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(
        parts: &[&'static str],
        is_cut: bool,
    ) -> impl Stream<Item = Result<Bytes, Cut>> + Unpin + use<> {
        let parts: Vec<_> = parts
            .iter()
            .map(|part| Ok(Bytes::from_static(part.as_bytes())))
            .collect();
        stream::iter(parts.into_iter().chain(is_cut.then_some(Err(Cut))))
    }

    async fn end_of(
        pipe: &Pipe,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> (Vec<u8>, bool, Option<End>) {
        let end = Arc::new(Mutex::new(None));
        let told = end.clone();
        let receiver = pipe.receiver().expect("the first");
        let taken = taken(receiver, until, move |end| {
            *told.lock().expect("told once") = Some(end)
        });
        let (mut bytes, mut is_cut) = (Vec::new(), false);
        let mut taken = Box::pin(taken);
        while let Some(chunk) = taken.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(Cut) => is_cut = true,
            }
        }
        drop(taken);
        let end = *end.lock().expect("told once");
        (bytes, is_cut, end)
    }

    #[tokio::test]
    async fn what_goes_in_comes_out_and_a_cut_is_told() {
        for is_cut in [false, true] {
            let pipe = Pipe::new();
            let sender = pipe.sender().expect("the first");
            assert!(pipe.sender().is_none(), "one sends");
            let sent = pass(chunks(&["one", "", "two"], is_cut), sender);
            let ((), (bytes, was_cut, end)) = tokio::join!(sent, end_of(&pipe, std::future::pending()));
            assert_eq!((&bytes[..], was_cut), (&b"onetwo"[..], is_cut));
            assert_eq!(end, Some(if is_cut { End::Cut } else { End::Reached }));
        }
    }

    #[tokio::test]
    async fn who_sends_and_is_dropped_has_not_sent_all() {
        let pipe = Pipe::new();
        let endless = stream::pending::<Result<Bytes, Cut>>();
        let mut sending = Box::pin(pass(endless, pipe.sender().expect("the first")));
        assert!(futures::poll!(sending.as_mut()).is_pending());
        drop(sending);
        let (_, was_cut, end) = end_of(&pipe, std::future::pending()).await;
        assert_eq!((was_cut, end), (true, Some(End::Cut)));
    }

    #[tokio::test]
    async fn the_end_of_the_control_plane_is_no_end_of_the_run() {
        let pipe = Pipe::new();
        let (_, was_cut, end) = end_of(&pipe, std::future::ready(())).await;
        assert_eq!((was_cut, end), (true, Some(End::Cut)));
        assert!(pipe.receiver().is_none(), "one takes");
    }

    #[tokio::test]
    async fn who_sends_to_nobody_hears_of_it() {
        let pipe = Pipe::new();
        drop(pipe.receiver());
        let endless = stream::repeat(Ok::<_, Cut>(Bytes::from_static(b"x")));
        pass(endless, pipe.sender().expect("the first")).await;
    }
}
