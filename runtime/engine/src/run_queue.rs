//! Which guest runs next: a queue ordered by the CPU time already had, between apps first, then between the
//! instances of one app.
//!
//! In flow tasks that became ready, each for an instance, and the CPU time that instances have had; out flow
//! tasks, one at a time. Pure: the clock is an argument, a task may be anything.
//!
//! - Apps have equal weight, whatever the number of their instances; within an app an instance's weight is
//!   its CPU share. So an app with a thousand busy instances leaves half of the CPU to one with one.
//! - Who wakes is placed beside the one that has had least, and a little before it: a quiet guest goes at
//!   once, and a sleeper saves up nothing more than that little.
//! - Every [`AGE_PICKS`]th pick goes to whoever waits longest, so that no stream of quiet ones starves a
//!   busy one.
//! - Tasks that have been cancelled go before all: what they still do is to be dropped.
//!
//! Invariant: an app in line is picked within [`AGE_PICKS`] picks per app in line, an instance within as
//! many of its app's picks per instance in line, and the tasks of an instance run in turn.
//! Invariant: memory is bounded by registered apps and instances and by ready tasks; a task that waits for
//! something has none here.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use slab::Slab;

/// Of so many picks one is made by age: that part of the CPU keeps everyone moving, and shares bend by no
/// more than it.
pub(crate) const AGE_PICKS: u32 = 16;
/// How far before the others a waking one is placed, in CPU time at full weight: some slices, so that one
/// that comes and goes keeps its place for a request.
pub(crate) const WAKE_BONUS_NS: u64 = 2_000_000;
/// CPU time forgiven per second asleep: who uses less than this much of a core never queues behind those
/// that use all they get.
const FORGIVEN_PER_MILLE: u64 = 50;
/// Full weight: a whole core.
const WEIGHT_FULL: u64 = 1_000;
/// Entries of a line that may be out of date before it is cleaned, besides as many as are valid.
const STALE_ENTRIES_MAX: usize = 64;

/// Names an app in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppId(usize);

/// Names an instance in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InstanceId(usize);

/// Ready tasks, in the order of the module's rules.
#[derive(Debug)]
pub(crate) struct RunQueue<T> {
    apps: Slab<App>,
    instances: Slab<Instance>,
    tasks: Slab<Task<T>>,
    cancelled: VecDeque<(InstanceId, T)>,
    line: Line,
    stamps: u64,
}

#[derive(Debug)]
struct App {
    turn: Turn,
    line: Line,
    instances: usize,
    is_kept: bool,
}

#[derive(Debug)]
struct Instance {
    turn: Turn,
    app: usize,
    weight: u64,
    /// CPU time it was charged for so far.
    cpu_ns: u64,
    /// Its ready tasks, a list through `tasks`.
    first: usize,
    last: usize,
}

const NONE: usize = usize::MAX;

#[derive(Debug)]
struct Task<T> {
    task: T,
    next: usize,
}

/// One member's place in its line.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// CPU time had, divided by weight.
    vtime: u64,
    /// Of its entries in the line, those with this stamp are valid; 0 while it does not wait.
    stamp: u64,
    /// Tasks taken from the queue and not yet given back.
    running: u32,
    /// When it last ran; for ever ahead while it never did, so that it has slept for no time.
    ran_at_ns: u64,
}

impl Turn {
    fn new(vtime: u64) -> Self {
        Self {
            vtime,
            stamp: 0,
            running: 0,
            ran_at_ns: u64::MAX,
        }
    }
}

impl<T> Default for RunQueue<T> {
    fn default() -> Self {
        Self {
            apps: Slab::new(),
            instances: Slab::new(),
            tasks: Slab::new(),
            cancelled: VecDeque::new(),
            line: Line::default(),
            stamps: 0,
        }
    }
}

impl<T> RunQueue<T> {
    /// Ready tasks.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len() + self.cancelled.len()
    }

    /// Registers an app. It starts as one that wakes does; apps are few and begin seldom.
    pub(crate) fn add_app(&mut self) -> AppId {
        let turn = Turn::new(self.line.floor.saturating_sub(WAKE_BONUS_NS));
        AppId(self.apps.insert(App {
            turn,
            line: Line::default(),
            instances: 0,
            is_kept: true,
        }))
    }

    /// Forgets an app once its last instance is gone.
    pub(crate) fn remove_app(&mut self, AppId(app): AppId) {
        self.apps[app].is_kept = false;
        self.forget(app);
    }

    /// Registers an instance with the weight of its CPU share. It starts level with the one of its app that
    /// has had least, so that a hundred thousand that start leave those that wake alone.
    pub(crate) fn add(&mut self, AppId(app): AppId, cpu_millis: u32) -> InstanceId {
        self.apps[app].instances += 1;
        let turn = Turn::new(self.apps[app].line.floor);
        InstanceId(self.instances.insert(Instance {
            turn,
            app,
            weight: u64::from(cpu_millis.max(1)),
            cpu_ns: 0,
            first: NONE,
            last: NONE,
        }))
    }

    /// Forgets an instance; returns the tasks that it still had in the queue.
    pub(crate) fn remove(&mut self, id: InstanceId) -> Vec<T> {
        let mut left = Vec::new();
        while let Some(task) = self.pop_task(id) {
            left.push(task);
        }
        let app = self.instances.remove(id.0).app;
        self.apps[app].instances -= 1;
        self.forget(app);
        left
    }

    fn forget(&mut self, app: usize) {
        if !self.apps[app].is_kept && self.apps[app].instances == 0 {
            self.apps.remove(app);
        }
    }

    /// A task of this instance is ready. `cpu_ns` is all the CPU time the instance has had.
    pub(crate) fn wake(&mut self, id: InstanceId, task: T, cpu_ns: u64, now_ns: u64) {
        self.charge(id, cpu_ns);
        let at = self.tasks.insert(Task { task, next: NONE });
        let instance = &mut self.instances[id.0];
        let is_first = instance.first == NONE;
        if is_first {
            instance.first = at;
        } else {
            self.tasks[instance.last].next = at;
        }
        instance.last = at;
        if !is_first {
            return;
        }
        let app = &mut self.apps[instance.app];
        app.line.place(&mut instance.turn, instance.weight, now_ns);
        self.stamps += 1;
        app.line.enter(id.0, &mut instance.turn, self.stamps);
        clean(&mut app.line, |id| {
            self.instances.get(id).map(|member| member.turn)
        });
        let app_id = self.instances[id.0].app;
        let app = &mut self.apps[app_id];
        if app.turn.stamp == 0 {
            self.line.place(&mut app.turn, WEIGHT_FULL, now_ns);
            self.stamps += 1;
            self.line.enter(app_id, &mut app.turn, self.stamps);
            clean(&mut self.line, |id| self.apps.get(id).map(|member| member.turn));
        }
    }

    /// A task of this instance was cancelled while it did not wait here.
    pub(crate) fn wake_cancelled(&mut self, id: InstanceId, task: T) {
        self.cancelled.push_back((id, task));
    }

    /// Moves those of an instance's tasks to the front that are cancelled.
    pub(crate) fn cancel(&mut self, id: InstanceId, is_cancelled: impl Fn(&T) -> bool) {
        let (mut at, mut before) = (self.instances[id.0].first, NONE);
        while at != NONE {
            let next = self.tasks[at].next;
            if !is_cancelled(&self.tasks[at].task) {
                (before, at) = (at, next);
                continue;
            }
            let instance = &mut self.instances[id.0];
            if before == NONE {
                instance.first = next;
            } else {
                self.tasks[before].next = next;
            }
            if next == NONE {
                instance.last = before;
            }
            let task = self.tasks.remove(at).task;
            self.cancelled.push_back((id, task));
            at = next;
        }
        self.leave_if_empty(id);
    }

    /// The task to run now. Every one is given back by [`RunQueue::ran`].
    pub(crate) fn next(&mut self) -> Option<(InstanceId, T)> {
        if let Some((id, task)) = self.cancelled.pop_front() {
            self.start(id);
            return Some((id, task));
        }
        let by = self.line.by();
        let app_id = self
            .line
            .first(by, |id| self.apps.get(id).map(|member| member.turn))?;
        let app = &mut self.apps[app_id];
        let by = app.line.by();
        let instances = &self.instances;
        let id = app
            .line
            .first(by, |id| instances.get(id).map(|member| member.turn))
            .expect("an app in line has an instance in line");
        let id = InstanceId(id);
        let task = self.pop_task(id).expect("an instance in line has a task");
        self.start(id);
        // Whoever has more to do lines up again, at its age from now.
        let instance = &mut self.instances[id.0];
        let app = &mut self.apps[instance.app];
        if instance.turn.stamp != 0 {
            self.stamps += 1;
            app.line.enter(id.0, &mut instance.turn, self.stamps);
        }
        if app.turn.stamp != 0 {
            self.stamps += 1;
            self.line.enter(app_id, &mut app.turn, self.stamps);
        }
        Some((id, task))
    }

    fn start(&mut self, id: InstanceId) {
        let instance = &mut self.instances[id.0];
        instance.turn.running += 1;
        self.apps[instance.app].turn.running += 1;
    }

    /// A task of this instance has had its slice.
    pub(crate) fn ran(&mut self, id: InstanceId, cpu_ns: u64, now_ns: u64) {
        self.charge(id, cpu_ns);
        let instance = &mut self.instances[id.0];
        for turn in [&mut instance.turn, &mut self.apps[instance.app].turn] {
            turn.running = turn.running.saturating_sub(1);
            turn.ran_at_ns = now_ns;
        }
    }

    fn charge(&mut self, id: InstanceId, cpu_ns: u64) {
        let instance = &mut self.instances[id.0];
        let spent = cpu_ns.saturating_sub(instance.cpu_ns);
        instance.cpu_ns = instance.cpu_ns.max(cpu_ns);
        instance.turn.vtime += spent * WEIGHT_FULL / instance.weight;
        self.apps[instance.app].turn.vtime += spent;
    }

    fn pop_task(&mut self, id: InstanceId) -> Option<T> {
        let instance = &mut self.instances[id.0];
        if instance.first == NONE {
            return None;
        }
        let Task { task, next } = self.tasks.remove(instance.first);
        instance.first = next;
        self.leave_if_empty(id);
        Some(task)
    }

    fn leave_if_empty(&mut self, id: InstanceId) {
        let instance = &mut self.instances[id.0];
        if instance.first != NONE || instance.turn.stamp == 0 {
            return;
        }
        instance.turn.stamp = 0;
        let app = &mut self.apps[instance.app];
        app.line.waiting -= 1;
        if app.line.waiting == 0 {
            app.turn.stamp = 0;
            self.line.waiting -= 1;
        }
    }
}

/// What a pick goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The least CPU time had.
    Need,
    /// The longest wait.
    Age,
}

/// Members in line for a turn. Entries are never searched for: those out of date are skipped where they
/// come up.
#[derive(Debug, Default)]
struct Line {
    /// Time had, stamp and member: the time may have grown since.
    by_need: BinaryHeap<Reverse<(u64, u64, usize)>>,
    by_age: VecDeque<(u64, usize)>,
    /// The time that the last one picked by need had had; it never falls.
    floor: u64,
    waiting: usize,
    picks: u32,
}

impl Line {
    /// Where a member that did not wait stands from now on.
    fn place(&self, turn: &mut Turn, weight: u64, now_ns: u64) {
        let asleep_ns = match turn.running {
            0 => now_ns.saturating_sub(turn.ran_at_ns),
            _ => 0,
        };
        let forgiven = asleep_ns / 1_000 * FORGIVEN_PER_MILLE * WEIGHT_FULL / weight;
        let least = self.floor.saturating_sub(WAKE_BONUS_NS);
        turn.vtime = turn.vtime.saturating_sub(forgiven).max(least);
    }

    fn enter(&mut self, id: usize, turn: &mut Turn, stamp: u64) {
        if turn.stamp == 0 {
            self.waiting += 1;
        }
        turn.stamp = stamp;
        self.by_need.push(Reverse((turn.vtime, stamp, id)));
        self.by_age.push_back((stamp, id));
    }

    fn by(&mut self) -> By {
        self.picks = (self.picks + 1) % AGE_PICKS;
        if self.picks == 0 { By::Age } else { By::Need }
    }

    /// The member whose turn it is; it stays in line.
    fn first(&mut self, by: By, turn: impl Fn(usize) -> Option<Turn>) -> Option<usize> {
        let valid = |id, stamp| turn(id).filter(|turn| turn.stamp == stamp);
        match by {
            By::Age => loop {
                let (stamp, id) = self.by_age.pop_front()?;
                if valid(id, stamp).is_some() {
                    return Some(id);
                }
            },
            By::Need => loop {
                let Reverse((key, stamp, id)) = self.by_need.pop()?;
                let Some(turn) = valid(id, stamp) else { continue };
                if turn.vtime > key {
                    self.by_need.push(Reverse((turn.vtime, stamp, id)));
                    continue;
                }
                self.floor = self.floor.max(key);
                return Some(id);
            },
        }
    }
}

/// Drops entries out of date once they are too many; amortised, this costs nothing.
fn clean(line: &mut Line, turn: impl Fn(usize) -> Option<Turn>) {
    let most = 2 * line.waiting + STALE_ENTRIES_MAX;
    let valid = |id, stamp| turn(id).is_some_and(|turn| turn.stamp == stamp);
    if line.by_need.len() > most {
        line.by_need.retain(|Reverse((_, stamp, id))| valid(*id, *stamp));
    }
    if line.by_age.len() > most {
        line.by_age.retain(|(stamp, id)| valid(*id, *stamp));
    }
}

#[cfg(test)]
mod tests;
