//! The guest threads: an executor of our own, at low priority, for guest code that runs on.
//!
//! In flow futures that run guests, each with the account of its instance; out flow handles. The order is
//! [`RunQueue`]'s, the moments at which debts are paid are [`Debts`]'; here are the threads, the lock and
//! the bell. Timers and sockets of guests are driven by a thread of normal priority, so that they never wait
//! for a guest that spins.
//!
//! Invariant: under the lock nothing of a guest is run, woken or dropped.
//! Invariant: a task that waits costs its own allocation and nothing in the executor.

use std::{
    fmt, io,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use async_task::{Builder, FallibleTask};
use tokio::runtime::{Handle, Runtime};

use crate::{
    debts::{Debt, Debts},
    run_queue::{AppId, InstanceId, RunQueue},
    throttle::{CpuBucket, Edge, Metered, Panicked},
};

/// Threads for blocking calls of guests (name resolution): bounded, for each costs a stack.
const BLOCKING_THREADS_MAX: usize = 64;
/// Debts paid between two looks at the queue, so that neither holds the other up.
const PAID_AT_ONCE_MAX: usize = 64;

/// Threads that run guests, in fair turns, and yield to all others of this process.
pub(crate) struct GuestThreads {
    turns: Arc<Turns>,
    /// Drives timers and sockets. Taken in `drop`, where it is shut down without waiting.
    io: Option<Runtime>,
    count: usize,
}

impl fmt::Debug for GuestThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestThreads")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl GuestThreads {
    pub(crate) fn start(threads: NonZeroUsize, nice: i32) -> io::Result<Self> {
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("gilliam-guestio")
            .enable_all()
            .build()?;
        let turns = Arc::new(Turns::default());
        // Made first, so that a thread that cannot be started takes the others along.
        let guests = Self {
            turns: turns.clone(),
            io: Some(io),
            count: threads.get(),
        };
        for _ in 0..threads.get() {
            let (turns, io) = (turns.clone(), guests.io().clone());
            thread::Builder::new()
                .name("gilliam-guest".to_owned())
                .spawn(move || {
                    // On Linux the nice value belongs to the calling thread. Refusal leaves the priority as it
                    // is, which costs latency under load and nothing else.
                    if let Err(error) = rustix::process::setpriority_process(None, nice) {
                        tracing::debug!(%error, nice, "guest thread keeps its priority");
                    }
                    let _context = io.enter();
                    turns.run();
                })?;
        }
        Ok(guests)
    }

    fn io(&self) -> &Handle {
        self.io.as_ref().expect("only drop takes it").handle()
    }

    /// An account for one app, beside those of others.
    pub(crate) fn app(&self) -> Arc<AppTurns> {
        let id = self.turns.lock().queue.add_app();
        Arc::new(AppTurns {
            turns: self.turns.clone(),
            id,
        })
    }

    /// Runs a guest in turns of its instance, metered; its panic is its result. Its share is kept to here:
    /// while it is in debt it is not polled, except that dropping or cancelling the handle ends it at once.
    pub(crate) fn spawn<F>(&self, cpu: &Arc<CpuBucket>, guest: F) -> GuestTask<Result<F::Output, Panicked>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.turns.spawn(cpu, Metered::new(guest, cpu.clone(), None))
    }

    /// Runs a task that has guests metered within it, on the same account.
    pub(crate) fn adopt<F>(&self, cpu: &Arc<CpuBucket>, task: F) -> GuestTask<Result<F::Output, Panicked>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.turns.spawn(cpu, Edge::new(task))
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        // Nothing here waits: this may be an async thread, or a guest thread itself.
        self.turns.close();
        if let Some(io) = self.io.take() {
            io.shutdown_background();
        }
    }
}

/// A guest on the guest threads. Dropping it ends the guest after its slice at the latest; as a future it
/// gives the guest's result, or None when that was cut off.
pub(crate) struct GuestTask<T> {
    /// None once it was cancelled.
    task: Mutex<Option<FallibleTask<T, Arc<Ticket>>>>,
    ticket: Arc<Ticket>,
    turns: Arc<Turns>,
}

impl<T> fmt::Debug for GuestTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestTask").finish_non_exhaustive()
    }
}

impl<T> GuestTask<T> {
    /// Ends the guest, wherever it is: running, ready, waiting or in debt.
    pub(crate) fn cancel(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(task) = task else { return };
        if task.is_finished() {
            return;
        }
        self.ticket.is_cancelled.store(true, Relaxed);
        // Puts it into the queue unless it is there already; then it has to be moved to the front.
        drop(task);
        let is_cancelled = |task: &Runnable| task.metadata().is_cancelled.load(Relaxed);
        self.turns.lock().queue.cancel(self.ticket.cpu.id(), is_cancelled);
    }

    /// Lets the guest run to its end by itself.
    pub(crate) fn detach(self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.detach();
        }
    }
}

impl<T> Drop for GuestTask<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl<T> Future for GuestTask<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self
            .get_mut()
            .task
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        match task {
            Some(task) => Pin::new(task).poll(cx),
            None => Poll::Ready(None),
        }
    }
}

type Runnable = async_task::Runnable<Arc<Ticket>>;

/// What the executor knows of a task.
struct Ticket {
    cpu: Arc<CpuBucket>,
    is_cancelled: AtomicBool,
}

/// One app's place in the queue.
#[derive(Debug)]
pub(crate) struct AppTurns {
    turns: Arc<Turns>,
    id: AppId,
}

impl AppTurns {
    /// A place for an instance.
    pub(crate) fn instance(self: &Arc<Self>, cpu_millis: u32) -> InstanceTurns {
        let id = self.turns.lock().queue.add(self.id, cpu_millis);
        InstanceTurns {
            app: self.clone(),
            id,
        }
    }
}

impl Drop for AppTurns {
    fn drop(&mut self) {
        self.turns.lock().queue.remove_app(self.id);
    }
}

/// One instance's place in the queue.
#[derive(Debug)]
pub(crate) struct InstanceTurns {
    app: Arc<AppTurns>,
    id: InstanceId,
}

impl InstanceTurns {
    pub(crate) fn id(&self) -> InstanceId {
        self.id
    }

    /// Wakes `waker` at `due`.
    pub(crate) fn open_debt(&self, due: Instant, waker: Waker) -> OpenDebt {
        let turns = self.app.turns.clone();
        let due_ns = turns.ns(due);
        let debt = {
            let mut state = turns.lock();
            let debt = state.debts.open(due_ns, waker);
            turns.watch(&mut state);
            debt
        };
        OpenDebt { turns, debt }
    }
}

impl Drop for InstanceTurns {
    fn drop(&mut self) {
        let left = self.app.turns.lock().queue.remove(self.id);
        debug_assert!(left.is_empty(), "a task in the queue holds its account");
    }
}

/// A debt that is waited for; dropped, it is not.
pub(crate) struct OpenDebt {
    turns: Arc<Turns>,
    debt: Debt,
}

impl Drop for OpenDebt {
    fn drop(&mut self) {
        let waker = self.turns.lock().debts.cancel(self.debt);
        drop(waker);
    }
}

/// What the threads share.
struct Turns {
    state: Mutex<State>,
    bell: Condvar,
    start: Instant,
}

#[derive(Default)]
struct State {
    queue: RunQueue<Runnable>,
    debts: Debts<Waker>,
    /// Threads asleep.
    idle: usize,
    /// A bell has rung that no thread has answered yet.
    is_ringing: bool,
    /// The moment to which a sleeping thread has set its alarm.
    watched_ns: Option<u64>,
    is_closed: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            bell: Condvar::new(),
            start: Instant::now(),
        }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn spawn<F>(self: &Arc<Self>, cpu: &Arc<CpuBucket>, future: F) -> GuestTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let ticket = Arc::new(Ticket {
            cpu: cpu.clone(),
            is_cancelled: AtomicBool::new(false),
        });
        let turns = self.clone();
        let schedule = move |task: Runnable| turns.schedule(task);
        let (runnable, task) = Builder::new()
            .metadata(ticket.clone())
            .spawn(|_| future, schedule);
        runnable.schedule();
        GuestTask {
            task: Mutex::new(Some(task.fallible())),
            ticket,
            turns: self.clone(),
        }
    }

    /// A task is ready; also called to have one dropped that was cancelled.
    fn schedule(&self, task: Runnable) {
        let ticket = task.metadata();
        let (id, cpu_ns) = (ticket.cpu.id(), ticket.cpu.total_ns());
        let is_cancelled = ticket.is_cancelled.load(Relaxed);
        let now_ns = self.ns(Instant::now());
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            drop(task);
            return;
        }
        if is_cancelled {
            state.queue.wake_cancelled(id, task);
        } else {
            state.queue.wake(id, task, cpu_ns, now_ns);
        }
        self.ring(state);
    }

    /// Has a sleeping thread look again.
    fn ring(&self, mut state: MutexGuard<'_, State>) {
        if state.idle > 0 && !state.is_ringing {
            state.is_ringing = true;
            drop(state);
            self.bell.notify_one();
        }
    }

    /// Sees to it that somebody is awake when the next debt is paid: a thread that works looks after each
    /// slice, but a slice may be long.
    fn watch(&self, state: &mut State) {
        let Some(due_ns) = state.debts.next_due_ns() else {
            return;
        };
        let is_watched = state.watched_ns.is_some_and(|watched_ns| watched_ns <= due_ns);
        if state.idle > 0 && !state.is_ringing && !is_watched {
            state.is_ringing = true;
            self.bell.notify_one();
        }
    }

    /// The life of a guest thread.
    fn run(&self) {
        let mut paid = Vec::with_capacity(PAID_AT_ONCE_MAX);
        let mut ran: Option<Arc<CpuBucket>> = None;
        loop {
            let next = {
                let now_ns = self.ns(Instant::now());
                let mut state = self.lock();
                if let Some(cpu) = &ran {
                    state.queue.ran(cpu.id(), cpu.total_ns(), now_ns);
                }
                while paid.len() < PAID_AT_ONCE_MAX {
                    let Some(waker) = state.debts.paid(now_ns) else {
                        break;
                    };
                    paid.push(waker);
                }
                if paid.is_empty() {
                    self.next(state, now_ns)
                } else {
                    Next::Look
                }
            };
            ran = None;
            match next {
                Next::Look => paid.drain(..).for_each(Waker::wake),
                Next::Run(task) => {
                    ran = Some(task.metadata().cpu.clone());
                    task.run();
                }
                Next::End => return,
            }
        }
    }

    /// Takes the next task, or sleeps until there may be one.
    fn next(&self, mut state: MutexGuard<'_, State>, now_ns: u64) -> Next {
        if state.is_closed {
            return Next::End;
        }
        if let Some((_, task)) = state.queue.next() {
            if state.queue.len() > 0 {
                self.ring(state);
            } else {
                self.watch(&mut state);
            }
            return Next::Run(task);
        }
        state.idle += 1;
        let due_ns = state.debts.next_due_ns();
        let alarm_ns = due_ns.filter(|due_ns| state.watched_ns.is_none_or(|watched_ns| *due_ns < watched_ns));
        let mut state = match alarm_ns {
            Some(alarm_ns) => {
                state.watched_ns = Some(alarm_ns);
                let sleep = Duration::from_nanos(alarm_ns.saturating_sub(now_ns));
                let (mut state, _) = self
                    .bell
                    .wait_timeout(state, sleep)
                    .unwrap_or_else(PoisonError::into_inner);
                if state.watched_ns == Some(alarm_ns) {
                    state.watched_ns = None;
                }
                state
            }
            None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.idle -= 1;
        state.is_ringing = false;
        Next::Look
    }

    /// Ends the threads after their slices and drops what is ready.
    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let tasks: Vec<_> = std::iter::from_fn(|| state.queue.next()).collect();
        let debts = std::mem::take(&mut state.debts);
        drop(state);
        self.bell.notify_all();
        drop((tasks, debts));
    }
}

/// What a guest thread does next.
enum Next {
    /// See what has changed.
    Look,
    Run(Runnable),
    End,
}
