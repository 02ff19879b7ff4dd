//! One line of the app's log for each request.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use gilliam_engine::{RequestFigures, RequestUsage};
use gilliam_model::{code::Code, log::LogStream};
use http::{HeaderValue, Method, StatusCode, uri::PathAndQuery};

use super::{group::Group, place::Place};

/// Router lines per second and app; an app with more traffic learns nothing from more lines.
const LINES_PER_S_MAX: u64 = 100;
/// Characters of a path in a line.
const PATH_CHARS_MAX: usize = 512;
/// A guest may go on after its response has ended; its figures are waited for this long.
const FIGURES_WAIT: Duration = Duration::from_secs(1);
/// The source of router lines.
const SOURCE: &str = "router";

/// Lets a number of lines pass each second, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct AccessGate {
    /// The present second in the upper half, lines that asked in it in the lower.
    window: AtomicU64,
    dropped: AtomicU64,
}

impl AccessGate {
    /// Whether a line may pass in `second`; with it the number dropped before, when that is to be said now.
    fn admit(&self, second: u32) -> Option<u64> {
        let second = u64::from(second) << 32;
        let step = |window: u64| match window & !0xffff_ffff == second {
            true => (window & 0xffff_ffff != 0xffff_ffff).then_some(window + 1),
            false => Some(second | 1),
        };
        let before = self
            .window
            .fetch_update(Relaxed, Relaxed, step)
            .unwrap_or_else(|window| window);
        let is_new = before & !0xffff_ffff != second;
        if !is_new && before & 0xffff_ffff >= LINES_PER_S_MAX {
            self.dropped.fetch_add(1, Relaxed);
            return None;
        }
        Some(if is_new { self.dropped.swap(0, Relaxed) } else { 0 })
    }
}

/// Read for each request, so of the clock that costs next to nothing and is a few milliseconds behind.
pub(super) fn second_now() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // From 1, so that no second looks like the gate's first state.
    u32::try_from(now.tv_sec).unwrap_or(u32::MAX - 1) + 1
}

/// A request from its arrival to the end of its answer; writes its line when it is dropped.
#[derive(Debug)]
pub(crate) struct Record {
    arrived: Instant,
    method: Method,
    /// Its path is shown, as far as it is read.
    target: Option<PathAndQuery>,
    host: String,
    request_id: HeaderValue,
    /// The app that calls, inside the cluster.
    caller: Option<HeaderValue>,
    group: Option<Arc<Group>>,
    place: Option<Place>,
    usage: Option<RequestUsage>,
    status: Option<StatusCode>,
    code: Option<Code>,
    cause: Option<Code>,
    bytes: u64,
    complete: bool,
}

impl Record {
    pub(super) fn new(
        arrived: Instant,
        method: Method,
        target: Option<PathAndQuery>,
        request_id: HeaderValue,
    ) -> Self {
        Self {
            arrived,
            method,
            target,
            host: String::new(),
            request_id,
            caller: None,
            group: None,
            place: None,
            usage: None,
            status: None,
            code: None,
            cause: None,
            bytes: 0,
            complete: false,
        }
    }

    pub(super) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    pub(super) fn for_host(&mut self, host: String) {
        self.host = host;
    }

    pub(super) fn of_caller(&mut self, caller: Option<HeaderValue>) {
        self.caller = caller;
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn for_group(&mut self, group: Arc<Group>) {
        self.group = Some(group);
    }

    pub(super) fn group(&self) -> Option<&Arc<Group>> {
        self.group.as_ref()
    }

    /// The request has a place at an instance, until it is over.
    pub(super) fn at(&mut self, place: Place) -> &Place {
        self.place.insert(place)
    }

    /// The request gives its place back: the instance could not be reached.
    pub(super) fn leave(&mut self) -> Option<Place> {
        self.place.take()
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The guest used this for the request, whatever comes of it.
    pub(super) fn used(&mut self, usage: Option<RequestUsage>) {
        self.usage = usage;
    }

    pub(super) fn refused(&mut self, status: StatusCode, code: Code, cause: Option<Code>) {
        (self.status, self.code, self.cause) = (Some(status), Some(code), cause);
    }

    /// Whether no body follows the head of the answer, whatever the app gives.
    pub(super) fn is_bodyless(&self) -> bool {
        self.method == Method::HEAD || matches!(self.status.map(|s| s.as_u16()), Some(204 | 304))
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(super) fn aborted(&mut self) {
        self.code = Some(Code::H18);
        self.complete = true;
    }

    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    fn line(&self, figures: Option<&RequestFigures>) -> String {
        let mut line = String::with_capacity(256);
        let status = self.status.map_or(Code::H27.status(), |status| status.as_u16());
        let code = self.code.or((!self.complete).then_some(Code::H27));
        let mut field = |name: &str, value: &dyn std::fmt::Display| {
            let space = if line.is_empty() { "" } else { " " };
            write!(line, "{space}{name}={value}").expect("writing to a String cannot fail");
        };
        field("method", &self.method);
        let path = self.target.as_ref().map_or("", PathAndQuery::path);
        let path: String = path.chars().take(PATH_CHARS_MAX).collect();
        field("path", &path.escape_default());
        field("host", &self.host);
        if let Some(caller) = self.caller.as_ref().and_then(|caller| caller.to_str().ok()) {
            field("caller", &caller);
        }
        field("status", &status);
        match &self.place {
            Some(Place::Here(place)) => {
                field("instance", &place.backend().label);
                field("release", &place.backend().id.release);
            }
            Some(Place::There(place)) => field("node", place.node()),
            None => {}
        }
        if let Some(figures) = figures {
            field("fuel", &figures.fuel);
            field("memory", &figures.memory_bytes_peak);
        }
        let wall = self.arrived.elapsed();
        field(
            "ms",
            &format_args!("{}.{:03}", wall.as_millis(), wall.subsec_micros() % 1_000),
        );
        field("bytes", &self.bytes);
        field("request_id", &self.request_id.to_str().unwrap_or_default());
        if let Some(code) = code {
            field("code", &code);
        }
        if let Some(cause) = self.cause.or(figures.and_then(|figures| figures.failure)) {
            field("cause", &cause);
        }
        line
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(group) = self.group.take() else { return };
        // The node that ran the guest has written the line.
        if self.code.is_none() && self.place.as_ref().is_some_and(Place::is_elsewhere) {
            return;
        }
        let Some(dropped) = group.access.admit(second_now()) else {
            return;
        };
        if dropped > 0 {
            let text = format!(
                "{} {dropped} lines dropped: more than {LINES_PER_S_MAX} per second",
                Code::L12
            );
            group.log.write(SOURCE, LogStream::Platform, text);
        }
        let figures = self.usage.as_ref().and_then(RequestUsage::figures);
        let line = self.line(figures.as_ref());
        match (self.usage.take(), figures, tokio::runtime::Handle::try_current()) {
            (Some(usage), None, Ok(runtime)) => {
                runtime.spawn(async move {
                    let line = match tokio::time::timeout(FIGURES_WAIT, usage.finished()).await {
                        Ok(figures) => with_figures(&line, &figures),
                        Err(_) => line,
                    };
                    group.log.write(SOURCE, LogStream::Router, line);
                });
            }
            _ => group.log.write(SOURCE, LogStream::Router, line),
        }
    }
}

/// Adds figures that came after the line was written.
fn with_figures(line: &str, figures: &RequestFigures) -> String {
    let (before, after) = line.split_once(" ms=").unwrap_or((line, ""));
    let mut line = format!(
        "{before} fuel={} memory={} ms={after}",
        figures.fuel, figures.memory_bytes_peak
    );
    if let Some(cause) = figures.failure.filter(|_| !after.contains(" cause=")) {
        write!(line, " cause={cause}").expect("writing to a String cannot fail");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_lines_pass_each_second_and_the_rest_is_counted() {
        let gate = AccessGate::default();
        let passed = (0..250).filter(|_| gate.admit(1).is_some()).count();
        assert_eq!(passed, 100);
        assert_eq!(gate.admit(2), Some(150));
        assert_eq!(gate.admit(2), Some(0));
    }
}
