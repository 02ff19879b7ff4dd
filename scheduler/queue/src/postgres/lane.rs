//! Operations that are done many at a time: what waits while one transaction is made durable goes together
//! with the next.
//!
//! Invariant: an answer follows the commit of the transaction in which it was found.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
};

use super::{engine::Engine, fault::Fault};
use crate::QueueError;

/// Operations that wait for a lane; who comes later waits to be let in.
const WAITING_MAX: usize = 1_024;
/// Operations in one transaction, and bytes of payloads: the first of them waits for the last.
const GROUP_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Transactions of a kind at once: one is prepared while another is made durable.
const TURNS: usize = 2;
/// Pauses before a transaction is tried again that failed without having done anything: PostgreSQL may be
/// starting anew.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(450),
    Duration::from_millis(1_350),
];

/// What became of each operation of a group.
pub(super) type Answers<T> = Vec<Result<T, QueueError>>;

/// An operation.
pub(super) trait Ask: Send + Sync + 'static {
    type Answer: Send + 'static;

    /// Bytes that it brings.
    fn bytes(&self) -> usize;

    /// Does a group of them in one transaction; answers for each in its turn. A fault says that none was done.
    fn together(
        engine: &Engine,
        asked: &[Self],
    ) -> impl Future<Output = Result<Answers<Self::Answer>, Fault>> + Send
    where
        Self: Sized;
}

type Answer<A> = oneshot::Sender<Result<<A as Ask>::Answer, QueueError>>;
type Waiting<A> = mpsc::Receiver<(A, Answer<A>)>;

/// Where operations of a kind are asked for.
#[derive(Debug)]
pub(super) struct Lane<A: Ask>(mpsc::Sender<(A, Answer<A>)>);

impl<A: Ask> Clone for Lane<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Ask> Lane<A> {
    pub(super) fn start(engine: &Arc<Engine>, tasks: &mut JoinSet<()>) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..TURNS {
            tasks.spawn(run(Arc::clone(engine), Arc::clone(&waiting)));
        }
        Self(sender)
    }

    pub(super) async fn ask(&self, asked: A) -> Result<A::Answer, QueueError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send((asked, answer)).await;
        sent.map_err(|_| QueueError::Closed)?;
        answered.await.map_err(|_| QueueError::Closed)?
    }
}

async fn run<A: Ask>(engine: Arc<Engine>, waiting: Arc<Mutex<Waiting<A>>>) {
    loop {
        let (asked, answers) = group(&mut *waiting.lock().await).await;
        if asked.is_empty() {
            return;
        }
        match settle(&engine, &asked).await {
            Ok(done) => {
                for (answer, done) in answers.into_iter().zip(done) {
                    // An error says that nobody waits any more.
                    let _ = answer.send(done);
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// What waits, or the first that comes; nothing when nobody can come any more.
async fn group<A: Ask>(waiting: &mut Waiting<A>) -> (Vec<A>, Vec<Answer<A>>) {
    let (mut asked, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut next = waiting.recv().await;
    while let Some((one, answer)) = next {
        bytes += one.bytes();
        // Who waits no more is not served.
        if !answer.is_closed() {
            asked.push(one);
            answers.push(answer);
        }
        next = match asked.len() {
            0 => waiting.recv().await,
            n if n < GROUP_MAX && bytes < GROUP_BYTES_MAX => waiting.try_recv().ok(),
            _ => None,
        };
    }
    (asked, answers)
}

async fn settle<A: Ask>(engine: &Engine, asked: &[A]) -> Result<Answers<A::Answer>, QueueError> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let fault = match engine.within(A::together(engine, asked)).await {
            Ok(done) => return Ok(done),
            Err(fault) => fault,
        };
        match pauses.next().filter(|_| fault.is_passing()) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(fault.said(engine)),
        }
    }
}
