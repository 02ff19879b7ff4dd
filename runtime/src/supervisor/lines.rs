//! What the log of an app is told of its workers: a line for each, or one a second for all when they are
//! many.

use std::{fmt::Write as _, sync::Arc};

use gilliam_model::{log::LogStream, placement::SlotRange};
use tokio::time::{Duration, Instant};

use super::{instance::write_lines, spec::Spec};
use crate::slots::{Place, SlotSet};

/// Lines about single instances in one second; what more happens in it is told together.
const SINGLE_LINES_MAX: u32 = 20;
/// How long things gather that are told together.
const GATHER: Duration = Duration::from_secs(1);
/// Ranges that are named in one line.
const RANGES_COUNT_MAX: usize = 8;

/// The lines of one process type.
#[derive(Debug)]
pub(super) struct Lines {
    spec: Arc<Spec>,
    /// When the present second ends, once something was said in it.
    until: Option<Instant>,
    said: u32,
    running: SlotSet,
    stopped: SlotSet,
    crashed: SlotSet,
    /// Why the last of them did.
    why: String,
}

impl Lines {
    pub(super) fn new(spec: Arc<Spec>) -> Self {
        Self {
            spec,
            until: None,
            said: 0,
            running: SlotSet::default(),
            stopped: SlotSet::default(),
            crashed: SlotSet::default(),
            why: String::new(),
        }
    }

    /// When something gathered is to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        let is_empty = self.running.is_empty() && self.stopped.is_empty() && self.crashed.is_empty();
        self.until.filter(|_| !is_empty)
    }

    pub(super) fn running(&mut self, place: Place) {
        match self.has_room() {
            true => self.say(place, "is running"),
            false => self.running.insert(place.range()),
        }
    }

    pub(super) fn stopped(&mut self, place: Place) {
        match self.has_room() {
            true => self.say(place, "stopped"),
            false => self.stopped.insert(place.range()),
        }
    }

    /// Starts again after `wait`.
    pub(super) fn crashed(&mut self, place: Place, why: &str, wait: Duration) {
        match self.has_room() {
            true => {
                self.say(place, &format!("crashed: {why}"));
                self.say(place, &format!("starts again in {:.1} s", wait.as_secs_f64()));
            }
            false => {
                self.crashed.insert(place.range());
                why.clone_into(&mut self.why);
            }
        }
    }

    /// A remark that has no release in front: `R12 …`.
    pub(super) fn remark(&mut self, place: Place, text: &str) {
        if self.has_room() {
            write_lines(&self.spec.log, &self.spec.label(place), LogStream::Platform, text);
        }
    }

    /// Tells what has gathered, when it is time.
    pub(super) fn tell(&mut self, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            self.tell_all();
        }
    }

    /// Tells what has gathered.
    pub(super) fn tell_all(&mut self) {
        (self.until, self.said) = (None, 0);
        let (running, stopped) = (
            std::mem::take(&mut self.running),
            std::mem::take(&mut self.stopped),
        );
        let (crashed, why) = (std::mem::take(&mut self.crashed), std::mem::take(&mut self.why));
        self.say_of_all(&running, "is running", "");
        self.say_of_all(&crashed, "crashed", &format!("; the last: {why}"));
        self.say_of_all(&stopped, "stopped", "");
    }

    fn has_room(&mut self) -> bool {
        let now = Instant::now();
        self.tell(now);
        if self.until.is_none() {
            self.until = Some(now + GATHER);
        }
        self.said += 1;
        self.said <= SINGLE_LINES_MAX
    }

    fn say(&self, place: Place, what: &str) {
        let text = format!("{} {what}", self.spec.key.release);
        write_lines(
            &self.spec.log,
            &self.spec.label(place),
            LogStream::Platform,
            &text,
        );
    }

    fn say_of_all(&self, set: &SlotSet, what: &str, more: &str) {
        if set.is_empty() {
            return;
        }
        let key = &self.spec.key;
        let text = format!(
            "{} {what}: {}{more}",
            key.release,
            named(key.process.as_str(), set)
        );
        write_lines(&self.spec.log, key.process.as_str(), LogStream::Platform, &text);
    }
}

/// `worker.21 to worker.100000, worker.7 (99981 instances)`.
fn named(process: &str, set: &SlotSet) -> String {
    let ranges = set.ranges();
    let mut text = String::new();
    for SlotRange { first, last, .. } in ranges.iter().take(RANGES_COUNT_MAX) {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = match first == last {
            true => write!(text, "{comma}{process}.{first}"),
            false => write!(text, "{comma}{process}.{first} to {process}.{last}"),
        };
    }
    if ranges.len() > RANGES_COUNT_MAX {
        text.push_str(" and others");
    }
    let _ = write!(text, " ({} instances)", set.count());
    text
}

#[cfg(test)]
mod tests {
    use gilliam_model::instance::Epoch;

    use super::*;

    #[test]
    fn many_instances_are_named_by_their_ranges() {
        let range = |first, last| SlotRange {
            first,
            last,
            epoch: Epoch(1),
        };
        let set: SlotSet = [range(21, 100_000), range(7, 7)].into_iter().collect();
        assert_eq!(
            named("worker", &set),
            "worker.7, worker.21 to worker.100000 (99981 instances)"
        );
        let set: SlotSet = (1..=20).map(|n| range(n * 2, n * 2)).collect();
        assert!(named("w", &set).ends_with("w.14, w.16 and others (20 instances)"));
    }
}
