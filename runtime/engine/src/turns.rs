//! Turns: who waits for a guest thread, who for its debt to be paid, and the threads that wait for either.
//!
//! In flow runnable tasks and debts, out flow tasks to run. The order is [`RunQueue`]'s, the moments are
//! [`Debts`]'; here are the lock and the bell.
//!
//! Invariant: under the lock nothing of a guest is run, woken or dropped.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Waker,
    time::{Duration, Instant},
};

use crate::{
    debts::{Debt, Debts},
    give_back::GiveBack,
    may_run::MayRun,
    run_queue::{AppId, InstanceId, RunQueue},
    throttle::CpuBucket,
};

/// Debts paid between two looks at the queue, so that neither holds the other up.
const PAID_AT_ONCE_MAX: usize = 64;

/// A task that is ready to run.
pub(crate) type Runnable = async_task::Runnable<Arc<Ticket>>;

/// What the executor knows of a task.
pub(crate) struct Ticket {
    cpu: Arc<CpuBucket>,
    is_cancelled: AtomicBool,
}

impl Ticket {
    pub(crate) fn new(cpu: Arc<CpuBucket>) -> Arc<Self> {
        Arc::new(Self {
            cpu,
            is_cancelled: AtomicBool::new(false),
        })
    }

    /// From now on the task is run for nothing but to be dropped.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Relaxed)
    }
}

/// One app's place in the queue.
#[derive(Debug)]
pub(crate) struct AppTurns {
    turns: Arc<Turns>,
    name: Arc<str>,
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
        let mut state = self.turns.lock();
        state.queue.remove_app(self.id);
        // One of the same name may have taken its place already.
        if state
            .apps
            .get(&self.name)
            .is_some_and(|app| app.strong_count() == 0)
        {
            state.apps.remove(&self.name);
        }
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

    /// Whether guests may run now.
    pub(crate) fn may_run(&self) -> bool {
        self.app.turns.may_run.now()
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
pub(crate) struct Turns {
    state: Mutex<State>,
    bell: Condvar,
    start: Instant,
    may_run: MayRun,
}

#[derive(Default)]
struct State {
    apps: BTreeMap<Arc<str>, Weak<AppTurns>>,
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

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl Turns {
    pub(crate) fn new(may_run: MayRun) -> Self {
        Self {
            state: Mutex::default(),
            bell: Condvar::new(),
            start: Instant::now(),
            may_run,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The place of the app of this name: one for all its instances, while it has any.
    pub(crate) fn app(self: &Arc<Self>, name: &str) -> Arc<AppTurns> {
        let mut state = self.lock();
        if let Some(app) = state.apps.get(name).and_then(Weak::upgrade) {
            return app;
        }
        let name: Arc<str> = name.into();
        let app = Arc::new(AppTurns {
            turns: self.clone(),
            name: name.clone(),
            id: state.queue.add_app(),
        });
        state.apps.insert(name, Arc::downgrade(&app));
        app
    }

    /// A task is ready; also called to have one dropped that was cancelled.
    pub(crate) fn schedule(&self, task: Runnable) {
        let ticket = task.metadata();
        let (id, cpu_ns) = (ticket.cpu.id(), ticket.cpu.total_ns());
        let is_cancelled = ticket.is_cancelled();
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

    /// Moves a task that was cancelled to the front, if it is in the queue.
    pub(crate) fn hasten(&self, ticket: &Ticket) {
        let mut state = self.lock();
        state
            .queue
            .cancel(ticket.cpu.id(), |task| task.metadata().is_cancelled());
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
    pub(crate) fn run(&self, mut give_back: GiveBack) {
        let mut paid = Vec::with_capacity(PAID_AT_ONCE_MAX);
        let mut ran: Option<Arc<CpuBucket>> = None;
        loop {
            let now = Instant::now();
            match &ran {
                Some(_) => give_back.worked(now),
                None => give_back.look(now),
            }
            let next = {
                let now_ns = self.ns(now);
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
                    self.next(state, now_ns, give_back.wait_max(now))
                } else {
                    Next::Look
                }
            };
            ran = None;
            match next {
                Next::Look => paid.drain(..).for_each(Waker::wake),
                Next::Run(task) => {
                    ran = Some(task.metadata().cpu.clone());
                    // A task that nobody can wake any more is ended when its last waker goes; without one
                    // its memory would go and its guest stay.
                    let waker = task.waker();
                    task.run();
                    drop(waker);
                }
                Next::End => return,
            }
        }
    }

    /// Takes the next task, or sleeps until there may be one, for `wait_max` at most.
    fn next(&self, mut state: MutexGuard<'_, State>, now_ns: u64, wait_max: Option<Duration>) -> Next {
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
        let alarm = alarm_ns.map(|alarm_ns| Duration::from_nanos(alarm_ns.saturating_sub(now_ns)));
        if alarm_ns.is_some() {
            state.watched_ns = alarm_ns;
        }
        let mut state = match [alarm, wait_max].into_iter().flatten().min() {
            Some(sleep) => {
                let woken = self.bell.wait_timeout(state, sleep);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        if alarm_ns.is_some() && state.watched_ns == alarm_ns {
            state.watched_ns = None;
        }
        state.idle -= 1;
        state.is_ringing = false;
        Next::Look
    }

    /// Ends the threads after their slices and drops what is ready.
    pub(crate) fn close(&self) {
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
