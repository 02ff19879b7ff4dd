//! What instances and requests used.
//!
//! In flow additions from lanes, out flow snapshots for `ps`, `usage` and the access log.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gilliam_model::code::Code;

use crate::{exchange::Exchange, failure::Failure};

/// What one instance uses and has used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of linear memory and tables, all lanes.
    pub memory_bytes: u64,
    /// The most it ever was.
    pub memory_bytes_peak: u64,
    /// Fuel burnt. Exact for what has ended; of a command that runs, what is known (see
    /// `CommandInstance::usage`).
    pub fuel_total: u64,
    /// Requests taken.
    pub requests_total: u64,
    /// Requests in a lane now.
    pub in_flight: u64,
    /// Requests that wait for a lane now.
    pub waiting: u64,
    /// CPU time of the guest and of host calls made for it.
    pub cpu_ns_total: u64,
    /// Traps, panics and limits that ended a lane.
    pub traps_total: u64,
    /// The last of them.
    pub last_trap: Option<LastTrap>,
}

/// Why a lane ended that should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastTrap {
    /// Its code.
    pub code: Code,
    /// What happened, with the wasm backtrace.
    pub message: String,
}

/// The running sums behind [`Usage`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) fuel: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) waiting: AtomicU64,
    traps: AtomicU64,
    last_trap: Mutex<Option<LastTrap>>,
}

impl Counters {
    pub(crate) fn trapped(&self, failure: &Failure) {
        self.traps.fetch_add(1, Relaxed);
        let last = LastTrap {
            code: failure.code,
            message: failure.message.clone(),
        };
        *self.last_trap.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    pub(crate) fn snapshot(&self) -> Usage {
        Usage {
            fuel_total: self.fuel.load(Relaxed),
            requests_total: self.requests.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            traps_total: self.traps.load(Relaxed),
            last_trap: self
                .last_trap
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            ..Usage::default()
        }
    }
}

/// What one request used. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestUsage(Arc<Exchange>);

/// Figures of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestFigures {
    /// Fuel burnt.
    pub fuel: u64,
    /// Bytes of linear memory and tables of its lane.
    pub memory_bytes_peak: u64,
    /// CPU time, host calls included.
    pub cpu: Duration,
    /// From the call until the lane was done with it.
    pub wall: Duration,
    /// What ended its lane, when that was a failure.
    pub failure: Option<Code>,
}

impl RequestUsage {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self(exchange)
    }

    /// The figures, once the guest is done with the request; until then None.
    pub fn figures(&self) -> Option<RequestFigures> {
        self.0.is_finished().then(|| self.0.figures())
    }

    /// Waits until the guest is done with the request: after the end of the body, or after its lane was
    /// dropped. The guest may go on for a few seconds after the body's end.
    pub async fn finished(&self) -> RequestFigures {
        self.0.finished().await;
        self.0.figures()
    }
}
