//! One instance on the board.

use std::{sync::Arc, time::Duration};

use gilliam_engine::{CommandInstance, HttpInstance, Usage};
use gilliam_model::{
    Timestamp,
    instance::{Failure, InstanceId, InstanceReport, InstanceState},
};

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

/// How an instance's state changes.
#[derive(Debug)]
pub(crate) enum Change {
    Starting,
    /// Its guest is there, and may become ready.
    Booted(Guest),
    Running,
    Crashed {
        failure: Arc<Failure>,
        retry_at: Timestamp,
    },
    Stopping,
}

/// Invariant: small, for there may be half a million; what only troubled ones need is boxed.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) state: InstanceState,
    port: Option<u16>,
    since: Timestamp,
    /// The board's uptime when it came into its state.
    since_uptime: Duration,
    guest: Option<Guest>,
    figures: Figures,
    trouble: Option<Box<Trouble>>,
}

/// What an instance adds to the sums of its process type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) memory_bytes: u64,
    pub(super) fuel_per_s: u64,
    fuel_total: u64,
    /// The board's uptime when fuel was read, in milliseconds.
    sampled_ms: u64,
}

#[derive(Debug, Default)]
struct Trouble {
    restarts: u32,
    traps_total: u64,
    last_failure: Option<Arc<Failure>>,
    retry_at: Option<Timestamp>,
}

/// What a look at an instance's usage found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Figures,
    Failure,
}

impl Member {
    pub(super) fn new(now: Timestamp, uptime: Duration) -> Self {
        Self {
            state: InstanceState::Starting,
            port: None,
            since: now,
            since_uptime: uptime,
            guest: None,
            figures: Figures::default(),
            trouble: None,
        }
    }

    /// An instance that is stopping stays so: whoever runs it may not have heard yet. Gives the guest that it
    /// had and has no more.
    #[must_use]
    pub(super) fn change(&mut self, change: Change, now: Timestamp, uptime: Duration) -> Option<Guest> {
        let mut gone = None;
        let state = match change {
            Change::Booted(guest) => return self.guest.replace(guest),
            _ if self.state == InstanceState::Stopping => return None,
            Change::Starting => {
                if self.state == InstanceState::Crashed {
                    let trouble = self.trouble.get_or_insert_default();
                    trouble.restarts = trouble.restarts.saturating_add(1);
                    trouble.retry_at = None;
                }
                InstanceState::Starting
            }
            Change::Running => {
                if let Some(usage) = self.guest.as_ref().map(Guest::usage) {
                    self.figures = Figures::first(&usage, uptime);
                    if usage.traps_total > 0 {
                        self.trouble.get_or_insert_default().traps_total = usage.traps_total;
                    }
                }
                InstanceState::Running
            }
            Change::Crashed { failure, retry_at } => {
                let trouble = self.trouble.get_or_insert_default();
                trouble.last_failure = Some(failure);
                trouble.retry_at = Some(retry_at);
                trouble.traps_total = 0;
                self.figures = Figures::default();
                gone = self.guest.take();
                InstanceState::Crashed
            }
            Change::Stopping => {
                if let Some(trouble) = &mut self.trouble {
                    trouble.retry_at = None;
                }
                InstanceState::Stopping
            }
        };
        self.state = state;
        (self.since, self.since_uptime) = (now, uptime);
        gone
    }

    pub(super) fn figures(&self) -> Figures {
        self.figures
    }

    pub(super) fn restarts(&self) -> u32 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.restarts)
    }

    pub(super) fn guest(&self) -> Option<&Guest> {
        self.guest.as_ref()
    }

    /// For how long it is in its state.
    pub(super) fn age(&self, uptime: Duration) -> Duration {
        uptime.saturating_sub(self.since_uptime)
    }

    pub(super) fn set_port(&mut self, port: u16) {
        self.port = Some(port);
    }

    /// Reads its usage.
    pub(super) fn sample(&mut self, now: Timestamp, uptime: Duration) -> Found {
        if self.state != InstanceState::Running && self.state != InstanceState::Stopping {
            return Found::Nothing;
        }
        let Some(usage) = self.guest.as_ref().map(Guest::usage) else {
            return Found::Nothing;
        };
        let before = self.figures;
        self.figures = before.next(&usage, uptime);
        let known = self.trouble.as_ref().map_or(0, |trouble| trouble.traps_total);
        if usage.traps_total > known
            && let Some(trap) = usage.last_trap
        {
            let trouble = self.trouble.get_or_insert_default();
            trouble.traps_total = usage.traps_total;
            trouble.last_failure = Some(Arc::new(Failure {
                code: Some(trap.code),
                message: trap.message,
                at: now,
            }));
            return Found::Failure;
        }
        match before.shown() == self.figures.shown() {
            true => Found::Nothing,
            false => Found::Figures,
        }
    }

    pub(super) fn report(&self, id: InstanceId, memory_bytes_max: u64) -> InstanceReport {
        let trouble = self.trouble.as_deref();
        let peak = self.guest.as_ref().map(Guest::usage);
        InstanceReport {
            id,
            state: self.state,
            since: self.since,
            port: self.port,
            memory_bytes: self.figures.memory_bytes,
            memory_bytes_peak: peak.map_or(0, |usage| usage.memory_bytes_peak),
            memory_bytes_max,
            fuel_per_s: self.figures.fuel_per_s,
            restarts: self.restarts(),
            last_failure: trouble.and_then(|trouble| trouble.last_failure.as_deref().cloned()),
            retry_at: trouble.and_then(|trouble| trouble.retry_at),
        }
    }
}

impl Figures {
    fn first(usage: &Usage, uptime: Duration) -> Self {
        Self {
            memory_bytes: usage.memory_bytes,
            fuel_per_s: 0,
            fuel_total: usage.fuel_total,
            sampled_ms: millis(uptime),
        }
    }

    fn next(self, usage: &Usage, uptime: Duration) -> Self {
        let sampled_ms = millis(uptime);
        let elapsed_ms = sampled_ms.saturating_sub(self.sampled_ms).max(1);
        let burnt = usage.fuel_total.saturating_sub(self.fuel_total);
        Self {
            memory_bytes: usage.memory_bytes,
            fuel_per_s: burnt.saturating_mul(1_000) / elapsed_ms,
            fuel_total: usage.fuel_total,
            sampled_ms,
        }
    }

    fn shown(self) -> (u64, u64) {
        (self.memory_bytes, self.fuel_per_s)
    }
}

fn millis(uptime: Duration) -> u64 {
    u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)
}
