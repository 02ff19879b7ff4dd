//! What a connection is waiting for, and since when.
//!
//! Written by the connection's socket and its service, read by its watch: atomics, for all three run on every
//! request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{
    config::{CROWDED_MS_MAX, ServeConfig},
    head::{HeadBytes, Look},
    refusal::BodyOf,
};

/// Shared between a connection's socket, service and watch.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    /// Requests whose response is not fully written.
    busy: AtomicU32,
    /// Milliseconds after `opened` at which the last request ended or the next head began.
    since_ms: AtomicU64,
    /// Bytes of the next head have arrived. Only kept for HTTP/1: in HTTP/2 frames of any kind arrive at any
    /// time.
    in_head: AtomicBool,
    /// Milliseconds after `opened`, plus one, since when the client has not read; 0 when it does.
    stalled_ms: AtomicU64,
    /// A response or a part of one was given to the connection, and is not flushed yet.
    answering: AtomicBool,
    head: HeadBytes,
}

/// What the watch should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Idle for too long: close politely.
    Finish,
    /// The client breaks a limit: cut.
    Cut(&'static str),
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            busy: AtomicU32::new(0),
            since_ms: AtomicU64::new(0),
            in_head: AtomicBool::new(false),
            stalled_ms: AtomicU64::new(0),
            answering: AtomicBool::new(false),
            head: HeadBytes::default(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Bytes arrived.
    pub(crate) fn read(&self, bytes: &[u8]) {
        if self.busy.load(Relaxed) > 0 {
            return;
        }
        if !self.in_head.load(Relaxed) {
            self.since_ms.store(self.now_ms(), Relaxed);
            self.in_head.store(true, Relaxed);
        }
        self.head.record(bytes);
    }

    /// A write went through.
    pub(crate) fn wrote(&self) {
        if self.stalled_ms.load(Relaxed) != 0 {
            self.stalled_ms.store(0, Relaxed);
        }
    }

    /// A write has to wait for the client.
    pub(crate) fn blocked(&self) {
        if self.stalled_ms.load(Relaxed) == 0 {
            self.stalled_ms.store(self.now_ms() + 1, Relaxed);
        }
    }

    /// The service gives a response, or a part of one.
    pub(crate) fn answers(&self) {
        self.answering.store(true, Relaxed);
    }

    /// All that was given to the connection is written.
    pub(crate) fn flushed(&self) {
        self.answering.store(false, Relaxed);
    }

    /// Whether what is written now comes from no request.
    pub(crate) fn is_unasked(&self) -> bool {
        self.busy.load(Relaxed) == 0 && !self.answering.load(Relaxed)
    }

    /// Whether the answer to the head that is arriving may have a body.
    pub(crate) fn body_of(&self) -> BodyOf {
        match self.head.starts_with(b"HEAD ") {
            true => BodyOf::Head,
            false => BodyOf::Any,
        }
    }

    /// Whether the head that has just been read had a Content-Length, if that is asked for.
    pub(crate) fn head_had_length(&self, look: Look) -> bool {
        self.head.had_length(look)
    }

    /// A request begins; it lasts until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Relaxed);
        self.in_head.store(false, Relaxed);
        Busy {
            activity: self.clone(),
        }
    }

    /// Judges the connection now; `is_crowded` when others wait for its place.
    pub(crate) fn verdict(&self, config: &ServeConfig, protocol: Protocol, is_crowded: bool) -> Verdict {
        let now = self.now_ms();
        let over = |since: u64, limit: Duration| Duration::from_millis(now.saturating_sub(since)) >= limit;
        let stalled = self.stalled_ms.load(Relaxed);
        if stalled != 0 && over(stalled, config.write_timeout) {
            return Verdict::Cut("the client does not read");
        }
        if self.busy.load(Relaxed) > 0 {
            return Verdict::Keep;
        }
        let since = self.since_ms.load(Relaxed);
        let limit = |limit: Duration| match is_crowded {
            true => limit.min(Duration::from_millis(CROWDED_MS_MAX)),
            false => limit,
        };
        if protocol == Protocol::Http1 && self.in_head.load(Relaxed) {
            return match over(since, limit(config.head_timeout)) {
                true => Verdict::Cut("the request head does not arrive"),
                false => Verdict::Keep,
            };
        }
        if over(since, limit(config.idle_timeout)) {
            Verdict::Finish
        } else {
            Verdict::Keep
        }
    }
}

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Arc<Activity>,
}

impl Busy {
    /// A part of the response is given to the connection.
    pub(crate) fn answers(&self) {
        self.activity.answers();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // What ends a response may be written after its body is gone.
        self.activity.answers();
        self.activity.since_ms.store(self.activity.now_ms(), Relaxed);
        self.activity.busy.fetch_sub(1, Relaxed);
    }
}
