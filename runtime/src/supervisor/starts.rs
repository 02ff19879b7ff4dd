//! The pace at which a node starts instances: bounded, so that a hundred thousand starts, or crashes, leave
//! the machine to those who are served.
//!
//! In flow starts of one instance or a few; they wait for their turn, first come first served, and commands
//! are then started on a thread of lower priority.
//!
//! Invariant: nothing here runs on the threads of the ingress but waits.

use std::{
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use gilliam_engine::CommandInstance;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

/// First starts per second and node: more than two cores do of the smallest guests, and few enough that a
/// scale to half a million is no burst for the others.
const FIRST_PER_S_MAX: u32 = 25_000;
/// Starts per second and node of what crashed: a process type that cannot run must not cost what runs more
/// than a few percent of a core.
const AGAIN_PER_S_MAX: u32 = 1_000;
/// So much of the pace may be used at once after a pause.
const BURST: Duration = Duration::from_millis(50);
/// Commands that have been started and not had the processor yet: what comes to the guest threads now waits
/// behind them, some 10 ms.
const YOUNG_COUNT_MAX: usize = 256;
/// Between two looks at whether they have had it.
const YOUNG_LOOK: Duration = Duration::from_micros(500);
/// Longest wait for that; where every guest thread is busy for so long, one start more does no harm.
const YOUNG_WAIT_MAX: Duration = Duration::from_millis(200);
/// Batches that wait for the thread.
const JOBS_MAX: usize = 4;
/// From a batch until the thread gives memory back: some of it is needed again at once, and to look through that
/// of half a million instances takes some ms.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(3);
/// The thread's priority: below everything that serves, above guests.
const NICE: i32 = 5;

/// Whether an instance starts for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    First,
    Again,
}

type Job = Box<dyn FnOnce(&mut Young) + Send>;

/// The starts of a node.
pub(crate) struct Starts {
    first: Pace,
    again: Pace,
    jobs: mpsc::Sender<Job>,
    /// Has the calling thread's allocator give back memory.
    give_back: fn(),
    /// The thread is going to.
    gives_back: Arc<AtomicBool>,
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starts").finish_non_exhaustive()
    }
}

/// A rate, kept by the instant until which it is used up.
struct Pace {
    per_s_max: u32,
    used_until: Mutex<Instant>,
}

/// Commands that were started last.
#[derive(Debug, Default)]
pub(super) struct Young(VecDeque<Weak<CommandInstance>>);

impl Starts {
    /// Its thread calls `give_back` some time after it has worked.
    pub(crate) fn new(give_back: fn()) -> io::Result<Self> {
        let (jobs, mut received) = mpsc::channel::<Job>(JOBS_MAX);
        let work = move || {
            // On Linux the nice value belongs to the calling thread.
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::debug!(%error, "the thread that starts instances keeps its priority");
            }
            let mut young = Young::default();
            while let Some(job) = received.blocking_recv() {
                // Whoever waits for it hears that it failed; the thread is there for all.
                if catch_unwind(AssertUnwindSafe(|| job(&mut young))).is_err() {
                    tracing::error!("a start of instances panicked");
                }
            }
        };
        thread::Builder::new()
            .name("gilliam-starts".to_owned())
            .spawn(work)?;
        Ok(Self {
            first: Pace::new(FIRST_PER_S_MAX),
            again: Pace::new(AGAIN_PER_S_MAX),
            jobs,
            give_back,
            gives_back: Arc::default(),
        })
    }

    /// Waits until so many instances may start.
    pub(super) async fn admit(&self, turn: Turn, count: usize) {
        match turn {
            Turn::First => self.first.admit(count).await,
            Turn::Again => self.again.admit(count).await,
        }
    }

    /// Runs a batch of starts on the thread for them; none when it failed.
    pub(super) async fn run<T, F>(&self, job: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Young) -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let job = Box::new(move |young: &mut Young| {
            // Whoever asked may be gone.
            let _ = done.send(job(young));
        });
        self.jobs.send(job).await.ok()?;
        self.give_back_later();
        result.await.ok()
    }

    /// Sees to it that the thread gives back, some time after its work, the memory of what it started and others
    /// ended: while it waits for work it frees nothing.
    fn give_back_later(&self) {
        if self.gives_back.swap(true, Relaxed) {
            return;
        }
        let (jobs, give_back, is_set) = (self.jobs.clone(), self.give_back, self.gives_back.clone());
        tokio::spawn(async move {
            sleep(GIVE_BACK_AFTER).await;
            // What is sent to the thread from now on is followed by another one.
            is_set.store(false, Relaxed);
            give_back();
            // The thread may be gone with the node.
            let _ = jobs.send(Box::new(move |_| give_back())).await;
        });
    }
}

impl Pace {
    fn new(per_s_max: u32) -> Self {
        Self {
            per_s_max,
            used_until: Mutex::new(Instant::now()),
        }
    }

    /// The lock is held while waiting: who came first goes first.
    async fn admit(&self, count: usize) {
        let mut used_until = self.used_until.lock().await;
        let (begin, end) = self.booked(*used_until, Instant::now(), count);
        sleep_until(begin).await;
        *used_until = end;
    }

    /// From when to when so many starts use up the rate.
    fn booked(&self, used_until: Instant, now: Instant, count: usize) -> (Instant, Instant) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = used_until.max(earliest);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        (begin, begin + Duration::from_secs(1) / self.per_s_max * count)
    }
}

impl Young {
    /// Waits until there is room for one more.
    pub(super) fn wait(&mut self) {
        let begun = std::time::Instant::now();
        loop {
            while self.0.front().is_some_and(has_run) {
                self.0.pop_front();
            }
            if self.0.len() < YOUNG_COUNT_MAX {
                return;
            }
            if begun.elapsed() >= YOUNG_WAIT_MAX {
                self.0.pop_front();
                return;
            }
            thread::sleep(YOUNG_LOOK);
        }
    }

    pub(super) fn add(&mut self, instance: &Arc<CommandInstance>) {
        self.0.push_back(Arc::downgrade(instance));
    }
}

/// Whether a command has had the processor, or has ended.
fn has_run(instance: &Weak<CommandInstance>) -> bool {
    instance
        .upgrade()
        .is_none_or(|instance| instance.usage().cpu_ns_total > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_keep_their_pace_after_a_pause_too() {
        let now = Instant::now();
        let pace = Pace::new(1_000);
        let (begin, mut end) = pace.booked(now, now, 100);
        assert_eq!((begin, end), (now, now + Duration::from_millis(100)));
        for _ in 0..10 {
            end = pace.booked(end, now, 100).1;
        }
        assert_eq!(end, now + Duration::from_millis(1_100));
        let later = now + Duration::from_secs(60);
        let (begin, _) = pace.booked(end, later, 1);
        assert_eq!(begin, later - BURST, "a pause saves a burst and no more");
    }
}
