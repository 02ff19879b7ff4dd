//! Lanes: what is asked of one service waits in its lane, and a few threads for all lanes do it, a group at a time.
//!
//! In flow requests, each with its weight; a lane lets in so much weight at once and has the rest wait outside. A
//! lane has at most one thread at a time, so that what it serves with needs no lock, and a thread goes to the next
//! lane after each group, so that none waits for long.
//!
//! Invariant: a panic of what serves a lane ends neither the thread nor the lane.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::Semaphore;

/// Requests that are done together: those of key-value share one `fsync`.
const GROUP_MAX: usize = 256;
/// What a weight counts.
const WEIGHT_BYTES: usize = 1 << 10;
/// Weight of a request without bytes, so that no more than a thousand wait in a lane.
const WEIGHT_LEAST: usize = 16;
/// Weight that waits in one lane: 16 MiB of values, or a thousand requests.
const WEIGHT_MAX: usize = 16 << 10;

/// What does the requests of a lane.
pub(crate) trait Serve: Send + 'static {
    /// What is asked of it.
    type Request: Send + 'static;

    /// Does some requests, in their order. May wait for a disk.
    fn serve(&mut self, requests: Vec<Self::Request>);
}

/// Requests of one service.
pub(crate) struct Lane<S: Serve>(Arc<Core<S>>);

/// Threads that serve lanes.
#[derive(Debug, Clone)]
pub(crate) struct Threads {
    queue: Arc<Queue>,
    /// They end when nobody has this any more.
    _open: Arc<Open>,
}

struct Core<S: Serve> {
    server: Mutex<S>,
    waiting: Mutex<Waiting<S::Request>>,
    places: Semaphore,
    threads: Weak<Queue>,
}

struct Waiting<R> {
    requests: VecDeque<(u32, R)>,
    /// Whether a thread has the lane, or will.
    is_taken: bool,
}

trait Turn: Send + Sync {
    /// Does one group; says whether more waits.
    fn turn(&self) -> bool;
}

#[derive(Default)]
struct Queue {
    lanes: Mutex<Lanes>,
    woken: Condvar,
}

#[derive(Default)]
struct Lanes {
    ready: VecDeque<Arc<dyn Turn>>,
    closed: bool,
}

struct Open(Arc<Queue>);

/// No holder of these locks panics while what they hold is half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    /// Starts `count` threads.
    pub(crate) fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let open = Arc::new(Open(queue.clone()));
        for _ in 0..count {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(name.to_string())
                .spawn(move || queue.work())?;
        }
        Ok(Self { queue, _open: open })
    }
}

impl Queue {
    fn add(&self, lane: Arc<dyn Turn>) {
        let mut lanes = lock(&self.lanes);
        lanes.ready.push_back(lane);
        self.woken.notify_one();
    }

    fn work(&self) {
        loop {
            let mut lanes = lock(&self.lanes);
            let lane = loop {
                if let Some(lane) = lanes.ready.pop_front() {
                    break lane;
                }
                if lanes.closed {
                    return;
                }
                lanes = self.woken.wait(lanes).unwrap_or_else(PoisonError::into_inner);
            };
            drop(lanes);
            if lane.turn() {
                self.add(lane);
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0.lanes).closed = true;
        self.0.woken.notify_all();
    }
}

impl<S: Serve> Lane<S> {
    pub(crate) fn new(server: S, threads: &Threads) -> Self {
        Self(Arc::new(Core {
            server: Mutex::new(server),
            waiting: Mutex::new(Waiting {
                requests: VecDeque::new(),
                is_taken: false,
            }),
            places: Semaphore::new(WEIGHT_MAX),
            threads: Arc::downgrade(&threads.queue),
        }))
    }

    /// Hands in a request that holds so many bytes; waits while the lane is full.
    pub(crate) async fn ask(&self, bytes: usize, request: S::Request) {
        let weight = (bytes.div_ceil(WEIGHT_BYTES) + WEIGHT_LEAST).min(WEIGHT_MAX);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        if let Ok(place) = self.0.places.acquire_many(weight).await {
            place.forget();
            self.0.hand_in(weight, request);
        }
    }

    /// Hands in a request without bytes, unless the lane is full.
    pub(crate) fn tell(&self, request: S::Request) {
        let weight = u32::try_from(WEIGHT_LEAST).unwrap_or(u32::MAX);
        if let Ok(place) = self.0.places.try_acquire_many(weight) {
            place.forget();
            self.0.hand_in(weight, request);
        }
    }
}

impl<S: Serve> Core<S> {
    fn hand_in(self: &Arc<Self>, weight: u32, request: S::Request) {
        let mut waiting = lock(&self.waiting);
        waiting.requests.push_back((weight, request));
        if !std::mem::replace(&mut waiting.is_taken, true) {
            drop(waiting);
            if let Some(threads) = self.threads.upgrade() {
                threads.add(self.clone());
            }
        }
    }
}

impl<S: Serve> Turn for Core<S> {
    fn turn(&self) -> bool {
        let group: Vec<(u32, S::Request)> = {
            let mut waiting = lock(&self.waiting);
            let count = waiting.requests.len().min(GROUP_MAX);
            waiting.requests.drain(..count).collect()
        };
        let weight: usize = group.iter().map(|(weight, _)| *weight as usize).sum();
        let requests = group.into_iter().map(|(_, request)| request).collect();
        let mut server = lock(&self.server);
        // What was asked is answered by nobody then, which who asks takes for a failure.
        if catch_unwind(AssertUnwindSafe(|| server.serve(requests))).is_err() {
            tracing::error!("a request of a service panicked");
        }
        drop(server);
        self.places.add_permits(weight);
        let mut waiting = lock(&self.waiting);
        waiting.is_taken = !waiting.requests.is_empty();
        waiting.is_taken
    }
}

impl<S: Serve> Clone for Lane<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Serve> fmt::Debug for Lane<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("places", &self.0.places.available_permits())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("ready", &lock(&self.lanes).ready.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// Adds up; a request for 13 panics.
    struct Sum(u64);

    impl Serve for Sum {
        type Request = (u64, oneshot::Sender<u64>);

        fn serve(&mut self, requests: Vec<Self::Request>) {
            for (number, answer) in requests {
                assert_ne!(number, 13, "a panic that the test asks for");
                self.0 += number;
                // An error says that nobody waits any more.
                let _ = answer.send(self.0);
            }
        }
    }

    async fn add(lane: &Lane<Sum>, number: u64) -> Option<u64> {
        let (answer, answered) = oneshot::channel();
        lane.ask(0, (number, answer)).await;
        answered.await.ok()
    }

    #[tokio::test]
    async fn a_lane_serves_in_order_and_outlives_a_panic() {
        let threads = Threads::start("test", 2).expect("threads");
        let lane = Lane::new(Sum(0), &threads);
        for (number, sum) in [(1, Some(1)), (2, Some(3)), (13, None), (4, Some(7))] {
            assert_eq!(add(&lane, number).await, sum);
        }
    }

    #[tokio::test]
    async fn more_than_a_lane_holds_waits_outside_and_is_done() {
        let threads = Threads::start("test", 2).expect("threads");
        let lane = Lane::new(Sum(0), &threads);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..5_000 {
            let lane = lane.clone();
            tasks.spawn(async move { add(&lane, 1).await });
        }
        while let Some(done) = tasks.join_next().await {
            assert!(done.expect("no panic").is_some());
        }
        assert_eq!(add(&lane, 0).await, Some(5_000));
    }
}
