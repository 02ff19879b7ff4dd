//! The newest log lines of each app, in memory, and those who follow them.
//!
//! In: lines from nodes; every node sends its lines to every control plane. Out: the last lines on request, and a
//! bounded stream for each follower. A follower that cannot keep up loses lines, is told how many (L11), and holds
//! nobody back.
//!
//! Invariant: bounded in lines and bytes per app; nothing here is written to the store.
//! Invariant: an app without a ring has no lines: rings are opened for apps that exist, and closed with them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _};
use gilliam_model::{
    Timestamp,
    api::LOG_LINES_MAX,
    code::Code,
    log::{LINE_BYTES_MAX, LogLine, LogStream},
    name::AppName,
};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

/// Most bytes of text kept per app: full rings of 1,000 apps stay below 2 GiB.
const RING_BYTES_MAX: usize = 2 << 20;
/// Lines a follower may be behind before it loses some: a second of a busy app.
const FOLLOW_LINES_MAX: usize = 1_024;
/// Longest source label kept: a process name and a slot number are shorter.
const SOURCE_BYTES_MAX: usize = 64;
/// The source of lines about a follower.
const CONTROL: &str = "control";

/// Which lines a reader wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// All of them.
    Any,
    /// Those of `web.1`, `router` or `control`, or those of every instance of `web`.
    Named(String),
}

/// Every app's newest lines.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    rings: Mutex<BTreeMap<AppName, Ring>>,
}

#[derive(Debug)]
struct Ring {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    followers: broadcast::Sender<Arc<LogLine>>,
}

impl Source {
    /// Whether a line is one of them.
    pub(crate) fn wants(&self, line: &LogLine) -> bool {
        match self {
            Source::Any => true,
            Source::Named(name) => {
                line.source == *name
                    || line.source.strip_prefix(name.as_str()).is_some_and(|rest| {
                        rest.strip_prefix('.')
                            .is_some_and(|slot| slot.bytes().all(|b| b.is_ascii_digit()))
                    })
            }
        }
    }
}

impl Logs {
    /// Whether lines of `app` are kept.
    pub(crate) fn is_open(&self, app: &AppName) -> bool {
        self.rings.lock().expect("no holder panics").contains_key(app)
    }

    /// Keeps lines of `app`, which exists, from now on.
    pub(crate) fn open(&self, app: &AppName) {
        self.rings
            .lock()
            .expect("no holder panics")
            .entry(app.clone())
            .or_insert_with(Ring::new);
    }

    /// Forgets the lines of one app, and ends its followers.
    pub(crate) fn close(&self, app: &AppName) {
        self.rings.lock().expect("no holder panics").remove(app);
    }

    /// Keeps a line, cut to its limits; one of an app without a ring is dropped.
    pub(crate) fn append(&self, mut line: LogLine) {
        cut(&mut line.text, LINE_BYTES_MAX);
        cut(&mut line.source, SOURCE_BYTES_MAX);
        if let Some(ring) = self.rings.lock().expect("no holder panics").get_mut(&line.app) {
            ring.append(Arc::new(line));
        }
    }

    /// The last `lines_max` lines of `app` that `source` wants, oldest first.
    pub(crate) fn last(&self, app: &AppName, source: &Source, lines_max: usize) -> Vec<Arc<LogLine>> {
        let rings = self.rings.lock().expect("no holder panics");
        rings
            .get(app)
            .map_or_else(Vec::new, |ring| ring.last(source, lines_max))
    }

    /// What [`Logs::last`] gives, and every later line as it comes, until the app is gone.
    pub(crate) fn follow(
        &self,
        app: &AppName,
        source: Source,
        lines_max: usize,
    ) -> (Vec<Arc<LogLine>>, impl Stream<Item = Arc<LogLine>> + Send + use<>) {
        // The lines so far and the subscription are taken under one lock, so none is lost or doubled between
        // them.
        let (last, followed) = {
            let mut rings = self.rings.lock().expect("no holder panics");
            let ring = rings.entry(app.clone()).or_insert_with(Ring::new);
            (ring.last(&source, lines_max), ring.followers.subscribe())
        };
        let app = app.clone();
        let later = BroadcastStream::new(followed).filter_map(move |received| {
            let line = match received {
                Ok(line) => source.wants(&line).then_some(line),
                Err(BroadcastStreamRecvError::Lagged(lost)) => Some(Arc::new(lost_line(&app, lost))),
            };
            std::future::ready(line)
        });
        (last, later)
    }
}

impl Ring {
    fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            followers: broadcast::channel(FOLLOW_LINES_MAX).0,
        }
    }

    fn append(&mut self, line: Arc<LogLine>) {
        self.bytes += line.text.len();
        self.lines.push_back(line.clone());
        while self.lines.len() > LOG_LINES_MAX || self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
        }
        // An error says that nobody follows.
        let _ = self.followers.send(line);
    }

    fn last(&self, source: &Source, lines_max: usize) -> Vec<Arc<LogLine>> {
        let newest_first = self
            .lines
            .iter()
            .rev()
            .filter(|line| source.wants(line))
            .take(lines_max);
        let mut lines: Vec<_> = newest_first.cloned().collect();
        lines.reverse();
        // Nodes send their lines in batches, so those of two nodes arrive interleaved.
        lines.sort_by_key(|line| line.at);
        lines
    }
}

fn lost_line(app: &AppName, lost: u64) -> LogLine {
    LogLine {
        at: Timestamp::now(),
        app: app.clone(),
        source: CONTROL.to_string(),
        stream: LogStream::Platform,
        text: format!("{} {lost} lines dropped: this reader is too slow", Code::L11),
    }
}

/// Cuts `text` to at most `bytes_max` bytes, at a character.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().expect("name")
    }

    fn line(source: &str, text: &str) -> LogLine {
        LogLine {
            at: Timestamp::UNIX_EPOCH,
            app: app("hello"),
            source: source.to_string(),
            stream: LogStream::Stdout,
            text: text.to_string(),
        }
    }

    fn texts(lines: &[Arc<LogLine>]) -> Vec<&str> {
        lines.iter().map(|l| l.text.as_str()).collect()
    }

    #[test]
    fn a_ring_keeps_the_newest_lines() {
        let logs = Logs::default();
        logs.open(&app("hello"));
        for i in 0..LOG_LINES_MAX + 5 {
            logs.append(line("web.1", &i.to_string()));
        }
        let all = logs.last(&app("hello"), &Source::Any, LOG_LINES_MAX + 100);
        assert_eq!((all.len(), all[0].text.as_str()), (LOG_LINES_MAX, "5"));
        assert_eq!(
            texts(&logs.last(&app("hello"), &Source::Any, 2)),
            ["1503", "1504"]
        );
    }

    #[test]
    fn a_ring_is_bounded_in_bytes_and_lines_are_cut_at_a_character() {
        let logs = Logs::default();
        logs.open(&app("hello"));
        for _ in 0..1_000 {
            logs.append(line("web.1", &"é".repeat(LINE_BYTES_MAX)));
        }
        let all = logs.last(&app("hello"), &Source::Any, LOG_LINES_MAX);
        assert_eq!(all[0].text.len(), LINE_BYTES_MAX);
        assert_eq!(all.len(), RING_BYTES_MAX / LINE_BYTES_MAX);
    }

    #[test]
    fn a_source_is_an_instance_or_a_process_type() {
        let logs = Logs::default();
        logs.open(&app("hello"));
        for source in ["web.1", "web.12", "web-admin.1", "router", "web"] {
            logs.append(line(source, source));
        }
        let named = |name: &str| {
            let lines = logs.last(&app("hello"), &Source::Named(name.to_string()), 100);
            lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>()
        };
        assert_eq!(named("web"), ["web.1", "web.12", "web"]);
        assert_eq!(named("web.1"), ["web.1"]);
        assert_eq!(named("router"), ["router"]);
        assert!(named("gone").is_empty());
    }

    #[test]
    fn lines_are_shown_in_the_order_of_time_and_then_of_arrival() {
        let logs = Logs::default();
        logs.open(&app("hello"));
        for (second, text) in [(2, "c"), (1, "a"), (2, "d"), (1, "b")] {
            let at = Timestamp::from_second(second).expect("an instant");
            logs.append(LogLine {
                at,
                ..line("web.1", text)
            });
        }
        assert_eq!(
            texts(&logs.last(&app("hello"), &Source::Any, 9)),
            ["a", "b", "c", "d"]
        );
    }

    #[test]
    fn lines_of_unknown_apps_are_dropped() {
        let logs = Logs::default();
        logs.append(line("web.1", "stray"));
        assert!(!logs.is_open(&app("hello")));
        assert!(logs.last(&app("hello"), &Source::Any, 10).is_empty());
    }

    #[tokio::test]
    async fn a_follower_sees_each_line_once_and_ends_with_its_app() {
        let logs = Logs::default();
        logs.open(&app("hello"));
        logs.append(line("web.1", "before"));
        let (last, followed) = logs.follow(&app("hello"), Source::Any, 10);
        logs.append(line("web.1", "after"));
        logs.close(&app("hello"));
        let seen: Vec<_> = followed.collect().await;
        assert_eq!((texts(&last), texts(&seen)), (vec!["before"], vec!["after"]));
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_how_many_lines_it_lost() {
        let logs = Logs::default();
        logs.open(&app("hello"));
        let (_, followed) = logs.follow(&app("hello"), Source::Any, 10);
        for i in 0..FOLLOW_LINES_MAX + 7 {
            logs.append(line("web.1", &i.to_string()));
        }
        logs.close(&app("hello"));
        let seen: Vec<_> = followed.collect().await;
        assert_eq!(seen[0].text, "L11 7 lines dropped: this reader is too slow");
        assert_eq!((seen.len(), seen[1].text.as_str()), (FOLLOW_LINES_MAX + 1, "7"));
    }
}
