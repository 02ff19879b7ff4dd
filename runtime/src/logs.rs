//! The logs of the apps that run here: kept in rings, shipped to every control plane in batches, so that each
//! can be asked for them.
//!
//! Lines flow in from instances, the ingress and the supervisor, without ever waiting; the shipper takes them
//! out.
//!
//! Invariant: an app's lines cost at most [`ring::LINES_MAX`] lines and [`ring::BYTES_MAX`] bytes, whatever
//! it writes.

mod ring;
mod ship;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gilliam_model::{
    Timestamp,
    log::{LINE_BYTES_MAX, LogLine, LogStream},
    name::AppName,
};
use tokio::sync::{Notify, watch};

use ring::Ring;
pub(crate) use ship::ship;

/// Between two looks at whether all is shipped, at a node's end.
const FLUSH_LOOK: Duration = Duration::from_millis(10);

/// All logs of a node.
#[derive(Debug)]
pub(crate) struct Logs {
    apps: Mutex<BTreeMap<AppName, Arc<AppLog>>>,
    ways: Arc<[Way]>,
}

/// The way to one control plane.
#[derive(Debug, Default)]
struct Way {
    written: Notify,
    /// Whether the control plane that is there is the one whose lines are counted as shipped.
    open: watch::Sender<bool>,
}

/// The log of one app.
#[derive(Debug)]
pub(crate) struct AppLog {
    app: AppName,
    ring: Mutex<Ring>,
    ways: Arc<[Way]>,
}

/// Lines taken for shipping, and how far each app's log is shipped when they have arrived.
#[derive(Debug, Default)]
struct Batch {
    way: usize,
    lines: Vec<LogLine>,
    marks: Vec<(Arc<AppLog>, ring::Mark)>,
}

impl Logs {
    /// Logs that go to so many control planes, numbered from 0.
    pub(crate) fn new(ways: usize) -> Self {
        Self {
            apps: Mutex::default(),
            ways: (0..ways).map(|_| Way::default()).collect(),
        }
    }

    /// The log of an app.
    pub(crate) fn app(&self, app: &AppName) -> Arc<AppLog> {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = apps.get(app) {
            return log.clone();
        }
        let ring = Mutex::new(Ring::new(self.ways.len()));
        let log = Arc::new(AppLog {
            app: app.clone(),
            ring,
            ways: self.ways.clone(),
        });
        apps.insert(app.clone(), log.clone());
        log
    }

    /// Lets no line go out until [`Logs::release`]: the control plane is gone, and another life may be next.
    pub(crate) fn hold(&self, way: usize) {
        self.ways[way].open.send_replace(false);
    }

    /// Lets lines go out to a control plane that is there.
    pub(crate) fn release(&self, way: usize) {
        let open = &self.ways[way].open;
        open.send_if_modified(|open| !std::mem::replace(open, true));
    }

    /// Makes all lines that are still here go out again: the control plane lost what it had.
    pub(crate) fn rewind(&self, way: usize) {
        for log in self.all() {
            log.ring().rewind(way);
        }
        self.ways[way].written.notify_one();
    }

    /// Waits until every line has been shipped.
    pub(crate) async fn shipped(&self) {
        while !self.all().iter().all(|log| log.is_shipped()) {
            tokio::time::sleep(FLUSH_LOOK).await;
        }
    }

    /// Lets go of logs that nobody writes to and that are shipped.
    pub(crate) fn forget_unused(&self) {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        apps.retain(|_, log| Arc::strong_count(log) > 1 || !log.is_shipped());
    }

    fn all(&self) -> Vec<Arc<AppLog>> {
        self.apps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Up to `lines_max` lines that were not shipped there; every app gets an equal share of the room.
    fn batch(&self, way: usize, lines_max: usize) -> Batch {
        let waiting: Vec<_> = self
            .all()
            .into_iter()
            .filter(|log| !log.ring().is_shipped(way))
            .collect();
        let mut batch = Batch {
            way,
            ..Batch::default()
        };
        for (index, log) in waiting.iter().enumerate() {
            let share = (lines_max - batch.lines.len()) / (waiting.len() - index);
            let taken = log
                .ring()
                .take(way, share, |at, stream, text| log.line(at, "logs", stream, text));
            batch.lines.extend(taken.lines);
            batch.marks.push((log.clone(), taken.mark));
        }
        batch
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn arrived(&self) {
        for (log, mark) in &self.marks {
            log.ring().shipped(self.way, mark);
        }
    }
}

impl AppLog {
    /// Writes a line; the oldest goes when there is no room.
    pub(crate) fn write(&self, source: &str, stream: LogStream, text: String) {
        let line = self.line(Timestamp::now(), source, stream, text);
        let mut ring = self.ring();
        for (way, known) in self.ways.iter().enumerate() {
            // Whoever has lines to ship already looks for more by itself.
            if ring.is_shipped(way) {
                known.written.notify_one();
            }
        }
        ring.push(line);
    }

    /// Whether every control plane that is there has all lines, and there is one.
    fn is_shipped(&self) -> bool {
        let ring = self.ring();
        let mut there = (0..self.ways.len())
            .filter(|way| *self.ways[*way].open.borrow())
            .peekable();
        there.peek().is_some() && there.all(|way| ring.is_shipped(way))
    }

    fn line(&self, at: Timestamp, source: &str, stream: LogStream, mut text: String) -> LogLine {
        if text.len() > LINE_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
        }
        LogLine {
            at,
            app: self.app.clone(),
            source: source.to_owned(),
            stream,
            text,
        }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(batch: &Batch) -> Vec<&str> {
        batch.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_go_out_once_and_again_when_the_control_plane_lost_them() {
        let logs = Logs::new(1);
        let (a, b) = (
            logs.app(&"a".parse().expect("app")),
            logs.app(&"b".parse().expect("app")),
        );
        for n in 0..4 {
            a.write("web.1", LogStream::Stdout, format!("a{n}"));
        }
        b.write("router", LogStream::Router, "b0".to_owned());
        let first = logs.batch(0, 4);
        assert_eq!(texts(&first), ["a0", "a1", "b0"]);
        assert_eq!(
            texts(&logs.batch(0, 4)),
            ["a0", "a1", "b0"],
            "what has not arrived goes out again"
        );
        first.arrived();
        let second = logs.batch(0, 4);
        assert_eq!(texts(&second), ["a2", "a3"]);
        second.arrived();
        assert!(logs.batch(0, 4).is_empty());
        logs.rewind(0);
        assert_eq!(logs.batch(0, 10).lines.len(), 5);
    }

    #[test]
    fn an_unused_log_is_forgotten_once_it_is_shipped() {
        let logs = Logs::new(2);
        logs.release(0);
        logs.app(&"a".parse().expect("app"))
            .write("web.1", LogStream::Stdout, "line".to_owned());
        logs.forget_unused();
        let batch = logs.batch(0, 10);
        assert_eq!(texts(&batch), ["line"]);
        batch.arrived();
        drop(batch);
        logs.forget_unused();
        assert!(logs.all().is_empty());
    }
}
