//! What is known of every instance here: written by their tasks, read by supervisor and agent.
//!
//! Whoever waits for a change waits for a version and reads the whole board again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use gilliam_engine::{CommandInstance, HttpInstance, Usage};
use gilliam_model::{
    Timestamp,
    instance::{Failure, InstanceId, InstanceReport, InstanceState},
};
use tokio::sync::watch;

/// A running guest.
#[derive(Debug, Clone)]
pub(crate) enum Guest {
    Http(Arc<HttpInstance>),
    Command(Arc<CommandInstance>),
}

impl Guest {
    fn usage(&self) -> Usage {
        match self {
            Guest::Http(instance) => instance.usage(),
            Guest::Command(instance) => instance.usage(),
        }
    }
}

/// The reports of all instances.
#[derive(Debug)]
pub(crate) struct Board {
    entries: Mutex<BTreeMap<InstanceId, Entry>>,
    /// Grows when a state, a port or a failure changes.
    states: watch::Sender<u64>,
    /// Grows when only figures change.
    figures: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    report: InstanceReport,
    guest: Option<Guest>,
    /// When fuel was last read, and what it was.
    sampled: (Instant, u64),
    traps_total: u64,
}

/// How an instance's state changes.
#[derive(Debug)]
pub(crate) enum Change {
    Starting,
    Running(Guest),
    Crashed { failure: Failure, retry_at: Timestamp },
    Stopping,
}

impl Board {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            states: watch::Sender::new(0),
            figures: watch::Sender::new(0),
        })
    }

    /// Puts a new instance on the board, starting.
    pub(crate) fn add(&self, id: &InstanceId, memory_bytes_max: u64) {
        let report = InstanceReport {
            id: id.clone(),
            state: InstanceState::Starting,
            since: Timestamp::now(),
            port: None,
            memory_bytes: 0,
            memory_bytes_peak: 0,
            memory_bytes_max,
            fuel_per_s: 0,
            restarts: 0,
            last_failure: None,
            retry_at: None,
        };
        let entry = Entry {
            report,
            guest: None,
            sampled: (Instant::now(), 0),
            traps_total: 0,
        };
        self.entries().insert(id.clone(), entry);
        self.states.send_modify(|version| *version += 1);
    }

    /// Takes note of a change. An instance that is stopping stays so: its task may not have heard yet.
    pub(crate) fn change(&self, id: &InstanceId, change: Change) {
        self.edit(id, |entry| entry.change(change));
    }

    pub(crate) fn set_port(&self, id: &InstanceId, port: u16) {
        self.edit(id, |entry| entry.report.port = Some(port));
    }

    pub(crate) fn remove(&self, id: &InstanceId) {
        self.entries().remove(id);
        self.states.send_modify(|version| *version += 1);
    }

    /// The state of every instance.
    pub(crate) fn states(&self) -> BTreeMap<InstanceId, InstanceState> {
        self.entries()
            .iter()
            .map(|(id, entry)| (id.clone(), entry.report.state))
            .collect()
    }

    pub(crate) fn reports(&self) -> Vec<InstanceReport> {
        self.entries()
            .values()
            .map(|entry| entry.report.clone())
            .collect()
    }

    pub(crate) fn watch_states(&self) -> watch::Receiver<u64> {
        self.states.subscribe()
    }

    pub(crate) fn watch_figures(&self) -> watch::Receiver<u64> {
        self.figures.subscribe()
    }

    /// Reads the usage of every running instance.
    pub(crate) fn sample(&self) {
        let (mut figures, mut failures) = (false, false);
        for entry in self.entries().values_mut() {
            let (changed, failed) = entry.sample();
            figures |= changed;
            failures |= failed;
        }
        if figures {
            self.figures.send_modify(|version| *version += 1);
        }
        if failures {
            self.states.send_modify(|version| *version += 1);
        }
    }

    fn edit(&self, id: &InstanceId, edit: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries().get_mut(id) {
            edit(entry);
        }
        self.states.send_modify(|version| *version += 1);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn change(&mut self, change: Change) {
        if self.report.state == InstanceState::Stopping {
            return;
        }
        let report = &mut self.report;
        let state = match change {
            Change::Starting => {
                if report.state == InstanceState::Crashed {
                    report.restarts = report.restarts.saturating_add(1);
                }
                report.retry_at = None;
                InstanceState::Starting
            }
            Change::Running(guest) => {
                let usage = guest.usage();
                report.memory_bytes = usage.memory_bytes;
                report.memory_bytes_peak = usage.memory_bytes_peak;
                self.sampled = (Instant::now(), usage.fuel_total);
                self.traps_total = usage.traps_total;
                self.guest = Some(guest);
                InstanceState::Running
            }
            Change::Crashed { failure, retry_at } => {
                report.last_failure = Some(failure);
                report.retry_at = Some(retry_at);
                (report.memory_bytes, report.fuel_per_s) = (0, 0);
                self.guest = None;
                InstanceState::Crashed
            }
            Change::Stopping => {
                report.retry_at = None;
                InstanceState::Stopping
            }
        };
        report.state = state;
        report.since = Timestamp::now();
    }

    /// Whether a figure changed, and whether there is a new failure.
    fn sample(&mut self) -> (bool, bool) {
        let Some(guest) = &self.guest else {
            return (false, false);
        };
        let usage = guest.usage();
        let now = Instant::now();
        let millis = u64::try_from((now - self.sampled.0).as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let fuel_per_s = usage
            .fuel_total
            .saturating_sub(self.sampled.1)
            .saturating_mul(1_000)
            / millis;
        self.sampled = (now, usage.fuel_total);
        let report = &mut self.report;
        let changed = (report.memory_bytes, report.fuel_per_s) != (usage.memory_bytes, fuel_per_s);
        (report.memory_bytes, report.fuel_per_s) = (usage.memory_bytes, fuel_per_s);
        report.memory_bytes_peak = usage.memory_bytes_peak;
        let failed = usage.traps_total > self.traps_total;
        self.traps_total = usage.traps_total;
        if let Some(trap) = usage.last_trap.filter(|_| failed) {
            let (code, message) = (Some(trap.code), trap.message);
            report.last_failure = Some(Failure {
                code,
                message,
                at: Timestamp::now(),
            });
        }
        (changed, failed)
    }
}
