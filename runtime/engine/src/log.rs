//! Lines of one instance on their way out: cut, limited in rate, never in the guest's way.
//!
//! In flow bytes of stdout and stderr and the platform's own remarks, out flow [`LogEntry`]s to the process
//! type's sink, which never waits.
//!
//! Invariant: nothing here waits, and nothing grows beyond one line per stream and store.
//! Invariant: only the platform can make a platform entry.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gilliam_model::{
    code::Code,
    hint::{hint, with_hint},
    log::LINE_BYTES_MAX,
};

use crate::config::ProcessConfig;

/// Seconds of the line rate that may come at once.
const BURST_S: u64 = 10;
/// Least time between two remarks of the same kind about one instance.
const REMARK_INTERVAL: Duration = Duration::from_secs(1);
/// Longest platform remark; a backtrace is the longest there is.
const REMARK_BYTES_MAX: usize = LINE_BYTES_MAX;

/// Where an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryStream {
    /// The guest's standard output.
    Stdout,
    /// The guest's standard error.
    Stderr,
    /// The platform, about this instance.
    Platform(Code),
}

/// One line of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it came from.
    pub stream: EntryStream,
    /// The text without its line end, at most 8 KiB, valid UTF-8, without NUL. It may hold control
    /// characters: whoever prints it to a terminal neutralises them.
    pub text: String,
}

/// The gate between one instance and its log.
#[derive(Debug)]
pub(crate) struct LogGate {
    process: Arc<ProcessConfig>,
    label: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In thousandths of a line, so that slow refills are not rounded away.
    tokens_milli: u64,
    at: Instant,
    dropped: u64,
    /// When it was last said how many lines were dropped.
    said_at: Option<Instant>,
    remarks: Vec<Remark>,
}

/// When a kind of remark was last made, and how many have been held back since.
#[derive(Debug)]
struct Remark {
    code: Code,
    at: Instant,
    held: u64,
}

impl LogGate {
    pub(crate) fn new(process: Arc<ProcessConfig>, label: String, now: Instant) -> Self {
        let tokens_milli = u64::from(process.limits.log_lines_per_s_max) * BURST_S * 1_000;
        let state = State {
            tokens_milli,
            at: now,
            dropped: 0,
            said_at: None,
            remarks: Vec::new(),
        };
        Self {
            process,
            label,
            state: Mutex::new(state),
        }
    }

    fn lines_per_s(&self) -> u64 {
        u64::from(self.process.limits.log_lines_per_s_max)
    }

    /// A line of the guest: sent, or counted and dropped.
    pub(crate) fn line(&self, stream: EntryStream, line: &[u8], cut_bytes: usize) {
        if !self.admit(Instant::now()) {
            return;
        }
        self.send(stream, text_of(line));
        if cut_bytes > 0 {
            self.platform(
                Code::L13,
                format_args!("log line cut at {LINE_BYTES_MAX} bytes, {cut_bytes} bytes dropped"),
            );
        }
    }

    /// The instance in messages.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// A remark of the platform; the same code at most once a second.
    pub(crate) fn platform(&self, code: Code, text: fmt::Arguments<'_>) {
        let now = Instant::now();
        let held = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match state.remarks.iter_mut().find(|remark| remark.code == code) {
                Some(remark) if now.duration_since(remark.at) < REMARK_INTERVAL => {
                    remark.held += 1;
                    return;
                }
                Some(remark) => {
                    remark.at = now;
                    std::mem::take(&mut remark.held)
                }
                None => {
                    state.remarks.push(Remark {
                        code,
                        at: now,
                        held: 0,
                    });
                    0
                }
            }
        };
        let mut text = text.to_string();
        if held > 0 {
            text = format!("{text} ({held} more like it in between)");
        }
        let mut text = self.hinted(code, &text);
        truncate(&mut text, REMARK_BYTES_MAX);
        self.send(EntryStream::Platform(code), text);
    }

    /// The text, and what the user changes.
    fn hinted(&self, code: Code, text: &str) -> String {
        let process = self.label.split('.').next().and_then(|name| name.parse().ok());
        // The message follows the code's title, if that is there.
        let message = text.strip_prefix(code.title()).unwrap_or(text);
        let message = message.trim_start_matches(": ");
        let hint = process.and_then(|process| hint(code, message, &process, &self.process.limits));
        with_hint(text, hint.as_deref())
    }

    /// Says how many lines were dropped, unless that was said within the last second: called when a lane
    /// ends.
    pub(crate) fn settle(&self) {
        let dropped = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unsaid(Instant::now());
        self.say_dropped(dropped);
    }

    /// Takes a token; without one the line counts as dropped.
    fn admit(&self, now: Instant) -> bool {
        let dropped = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let elapsed =
                u64::try_from(now.saturating_duration_since(state.at).as_millis()).unwrap_or(u64::MAX);
            if elapsed > 0 {
                let refill = elapsed.saturating_mul(self.lines_per_s());
                state.tokens_milli = state
                    .tokens_milli
                    .saturating_add(refill)
                    .min(self.lines_per_s() * BURST_S * 1_000);
                state.at = now;
            }
            if state.tokens_milli < 1_000 {
                state.dropped += 1;
                return false;
            }
            state.tokens_milli -= 1_000;
            state.unsaid(now)
        };
        self.say_dropped(dropped);
        true
    }

    fn say_dropped(&self, dropped: u64) {
        if dropped > 0 {
            let text = format!(
                "{dropped} lines dropped: more than {} per second",
                self.lines_per_s()
            );
            self.send(EntryStream::Platform(Code::L12), self.hinted(Code::L12, &text));
        }
    }

    fn send(&self, stream: EntryStream, text: String) {
        self.process.log.write(&self.label, LogEntry { stream, text });
    }
}

impl Drop for LogGate {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::take(&mut state.dropped);
        self.say_dropped(dropped);
    }
}

impl State {
    /// Lines dropped since that was last said; none within a second of it, so that remarks are no flood
    /// themselves.
    fn unsaid(&mut self, now: Instant) -> u64 {
        if self.dropped == 0
            || self
                .said_at
                .is_some_and(|at| now.duration_since(at) < REMARK_INTERVAL)
        {
            return 0;
        }
        self.said_at = Some(now);
        std::mem::take(&mut self.dropped)
    }
}

/// Splits what a guest writes into lines, without ever holding more than one.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    stream: EntryStream,
    line: Vec<u8>,
    cut_bytes: usize,
}

impl LineSplitter {
    pub(crate) fn new(stream: EntryStream) -> Self {
        Self {
            stream,
            line: Vec::new(),
            cut_bytes: 0,
        }
    }

    pub(crate) fn write(&mut self, gate: &LogGate, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.append(&bytes[..end]);
            self.end_line(gate);
            bytes = &bytes[end + 1..];
        }
        self.append(bytes);
    }

    /// Sends a last line without a line end.
    pub(crate) fn finish(&mut self, gate: &LogGate) {
        if !self.line.is_empty() {
            self.end_line(gate);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.line.len();
        let kept = bytes.len().min(room);
        self.line.extend_from_slice(&bytes[..kept]);
        self.cut_bytes += bytes.len() - kept;
    }

    fn end_line(&mut self, gate: &LogGate) {
        gate.line(self.stream, &self.line, self.cut_bytes);
        self.line.clear();
        self.cut_bytes = 0;
    }
}

fn text_of(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::from_utf8_lossy(line).into_owned();
    text.retain(|c| c != '\0');
    // Replacement characters are longer than what they replace.
    truncate(&mut text, LINE_BYTES_MAX);
    text
}

pub(crate) fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::limits::Limits;
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::LogSink;

    #[derive(Debug)]
    struct Lines(mpsc::Sender<String>);

    impl LogSink for Lines {
        fn write(&self, label: &str, entry: LogEntry) {
            assert_eq!(label, "worker.1");
            self.0.try_send(entry.text).expect("room");
        }
    }

    fn gate(lines_per_s: u32) -> (LogGate, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(2_000);
        let process = ProcessConfig {
            app: "app".into(),
            args: Vec::new(),
            env: Vec::new(),
            limits: Limits {
                log_lines_per_s_max: lines_per_s,
                ..Limits::default()
            },
            outbound: Vec::new(),
            internal: None,
            services: Default::default(),
            log: Arc::new(Lines(sender)),
        };
        let gate = LogGate::new(Arc::new(process), "worker.1".to_owned(), Instant::now());
        (gate, receiver)
    }

    fn texts(receiver: &mut mpsc::Receiver<String>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn lines_are_split_cleaned_and_finished() {
        let (gate, mut receiver) = gate(100);
        let mut splitter = LineSplitter::new(EntryStream::Stdout);
        splitter.write(&gate, b"one\r\ntw");
        splitter.write(&gate, b"o\n\nbad \xff\0 byte\nlast");
        splitter.finish(&gate);
        splitter.finish(&gate);
        assert_eq!(
            texts(&mut receiver),
            ["one", "two", "", "bad \u{fffd} byte", "last"]
        );
    }

    #[test]
    fn a_long_line_is_cut_and_said_so() {
        let (gate, mut receiver) = gate(100);
        let mut splitter = LineSplitter::new(EntryStream::Stderr);
        for _ in 0..100 {
            splitter.write(&gate, &[b'x'; 1_000]);
        }
        splitter.write(&gate, b"\nshort\n");
        let lines = texts(&mut receiver);
        assert_eq!(lines[0].len(), LINE_BYTES_MAX);
        assert_eq!(
            lines[1],
            format!(
                "log line cut at 8192 bytes, {} bytes dropped",
                100_000 - LINE_BYTES_MAX
            )
        );
        assert_eq!(lines[2], "short");
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let (gate, mut receiver) = gate(10);
        for _ in 0..500 {
            gate.line(EntryStream::Stdout, b"flood", 0);
        }
        gate.settle();
        let lines = texts(&mut receiver);
        let kept = lines.iter().filter(|line| *line == "flood").count();
        let last = lines.last().expect("a remark");
        assert!((100..=102).contains(&kept), "{kept}");
        assert_eq!(
            *last,
            format!(
                "{} lines dropped: more than 10 per second; hint: gilliam limits worker log_lines=20",
                500 - kept
            )
        );
    }
}
