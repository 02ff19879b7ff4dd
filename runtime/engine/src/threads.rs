//! The guest threads: an executor of our own, at low priority, for guest code that runs on.
//!
//! In flow futures that run guests, each with the account of its instance; out flow handles. Whose turn it
//! is, [`Turns`] says. Timers and sockets of guests are driven by a thread of normal priority, so that they
//! never wait for a guest that spins.
//!
//! Invariant: a task that waits costs its own allocation and nothing in the executor.

use std::{
    fmt, io,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    thread,
};

use async_task::{Builder, FallibleTask};
use tokio::runtime::{Handle, Runtime};

use crate::{
    give_back::GiveBack,
    may_run::MayRun,
    throttle::{CpuBucket, Edge, Metered, Panicked},
    turns::{AppTurns, Runnable, Ticket, Turns},
};

/// Threads for blocking calls of guests (name resolution): bounded, for each costs a stack.
const BLOCKING_THREADS_MAX: usize = 64;

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
    pub(crate) fn start(
        threads: NonZeroUsize,
        nice: i32,
        give_back: fn(),
        may_run: MayRun,
    ) -> io::Result<Self> {
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("gilliam-guestio")
            .enable_all()
            .build()?;
        let turns = Arc::new(Turns::new(may_run));
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
                    turns.run(GiveBack::new(give_back));
                })?;
        }
        Ok(guests)
    }

    fn io(&self) -> &Handle {
        self.io.as_ref().expect("only drop takes it").handle()
    }

    /// The place of the app of this name among all apps.
    pub(crate) fn app(&self, name: &str) -> Arc<AppTurns> {
        self.turns.app(name)
    }

    /// Runs a guest in turns of its instance, metered; its panic is its result. Its share is kept to here:
    /// while it is in debt it is not polled, except that dropping or cancelling the handle ends it at once.
    pub(crate) fn spawn<F>(&self, cpu: &Arc<CpuBucket>, guest: F) -> GuestTask<Result<F::Output, Panicked>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start_task(cpu, Metered::new(guest, cpu.clone(), None))
    }

    /// Runs a task that has guests metered within it, on the same account.
    pub(crate) fn adopt<F>(&self, cpu: &Arc<CpuBucket>, task: F) -> GuestTask<Result<F::Output, Panicked>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start_task(cpu, Edge::new(task))
    }

    /// `future` catches its panics.
    fn start_task<F>(&self, cpu: &Arc<CpuBucket>, future: F) -> GuestTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let ticket = Ticket::new(cpu.clone());
        let turns = self.turns.clone();
        let schedule = move |task: Runnable| turns.schedule(task);
        let (runnable, task) = Builder::new()
            .metadata(ticket.clone())
            .spawn(|_| future, schedule);
        runnable.schedule();
        GuestTask {
            task: Mutex::new(Some(task.fallible())),
            ticket,
            turns: self.turns.clone(),
        }
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
        self.ticket.cancel();
        // Puts it into the queue unless it is there already; then it has to be moved to the front.
        drop(task);
        self.turns.hasten(&self.ticket);
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

#[cfg(test)]
mod tests;
