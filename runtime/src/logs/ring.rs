//! The last lines of one app, and how many of them have been shipped.

use std::collections::VecDeque;

use gilliam_model::{
    Timestamp,
    api::LOG_LINES_MAX,
    code::Code,
    log::{LogLine, LogStream},
};

/// Lines kept: as many as the control plane keeps, so that all of them come back after it restarted.
pub(super) const LINES_MAX: usize = LOG_LINES_MAX;
/// Bytes of text kept: lines are short as a rule, and full ones must not cost 12 MiB for each app.
pub(super) const BYTES_MAX: usize = 2 << 20;

/// Invariant: `first <= next <= first + lines.len()`.
#[derive(Debug, Default)]
pub(super) struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// Number of the first line in `lines`; lines are numbered from 0 for ever.
    first: u64,
    /// Number of the first line that was not shipped.
    next: u64,
    /// Lines that went before they were shipped.
    dropped: u64,
    /// How often shipping began anew.
    rewinds: u64,
}

/// How far a batch goes.
#[derive(Debug)]
pub(super) struct Mark {
    from: u64,
    next: u64,
    dropped: u64,
    rewinds: u64,
}

pub(super) struct Taken {
    pub(super) lines: Vec<LogLine>,
    pub(super) mark: Mark,
}

impl Ring {
    pub(super) fn push(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
            self.first += 1;
            if self.next < self.first {
                self.next = self.first;
                self.dropped += 1;
            }
        }
    }

    pub(super) fn is_shipped(&self) -> bool {
        self.dropped == 0 && self.next == self.first + self.lines.len() as u64
    }

    pub(super) fn rewind(&mut self) {
        self.next = self.first;
        self.rewinds += 1;
    }

    /// Up to `lines_max` lines that were not shipped, after a line that counts those that got lost (L10).
    pub(super) fn take(
        &self,
        lines_max: usize,
        platform_line: impl FnOnce(Timestamp, LogStream, String) -> LogLine,
    ) -> Taken {
        let skip = usize::try_from(self.next - self.first).unwrap_or(usize::MAX);
        let mut lines = Vec::new();
        if self.dropped > 0 && lines_max > 0 {
            let at = self.lines.get(skip).map_or_else(Timestamp::now, |line| line.at);
            let text = format!(
                "{} {} lines dropped: the control plane did not take them",
                Code::L10,
                self.dropped
            );
            lines.push(platform_line(at, LogStream::Platform, text));
        }
        let room = lines_max - lines.len();
        let before = lines.len();
        lines.extend(self.lines.iter().skip(skip).take(room).cloned());
        let next = self.next + (lines.len() - before) as u64;
        let dropped = if lines_max > 0 { self.dropped } else { 0 };
        Taken {
            lines,
            mark: Mark {
                from: self.next,
                next,
                dropped,
                rewinds: self.rewinds,
            },
        }
    }

    /// Takes note that everything up to `mark` has arrived, unless shipping began anew meanwhile.
    pub(super) fn shipped(&mut self, mark: &Mark) {
        if mark.rewinds != self.rewinds {
            return;
        }
        // Lines that were pushed out meanwhile count as dropped only if they were not in the batch.
        let late = mark.next.min(self.first).saturating_sub(mark.from);
        self.next = self.next.max(mark.next).max(self.first);
        self.dropped = self.dropped.saturating_sub(mark.dropped).saturating_sub(late);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        let app = "a".parse().expect("app");
        let (at, source) = (Timestamp::UNIX_EPOCH, "web.1".to_owned());
        LogLine {
            at,
            app,
            source,
            stream: LogStream::Stdout,
            text: text.to_owned(),
        }
    }

    fn take(ring: &Ring, max: usize) -> Taken {
        ring.take(max, |_, stream, text| LogLine {
            stream,
            ..line(&text)
        })
    }

    #[test]
    fn lines_that_are_pushed_out_unshipped_are_counted() {
        let mut ring = Ring::default();
        for n in 0..LINES_MAX + 3 {
            ring.push(line(&n.to_string()));
        }
        let taken = take(&ring, 2);
        assert!(
            taken.lines[0].text.starts_with("L10 3 lines dropped"),
            "{}",
            taken.lines[0].text
        );
        assert_eq!(taken.lines[1].text, "3");
        ring.shipped(&taken.mark);
        assert_eq!(take(&ring, 1).lines[0].text, "4");
    }

    #[test]
    fn shipped_lines_that_are_pushed_out_are_not_counted() {
        let mut ring = Ring::default();
        for n in 0..LINES_MAX {
            ring.push(line(&n.to_string()));
        }
        let taken = take(&ring, LINES_MAX);
        ring.shipped(&taken.mark);
        assert!(ring.is_shipped());
        for n in 0..LINES_MAX {
            ring.push(line(&n.to_string()));
        }
        assert_eq!(take(&ring, 1).lines[0].text, "0");
    }

    #[test]
    fn lines_that_are_pushed_out_while_they_travel_are_not_counted() {
        let mut ring = Ring::default();
        for n in 0..LINES_MAX {
            ring.push(line(&n.to_string()));
        }
        let taken = take(&ring, 10);
        for n in 0..15 {
            ring.push(line(&n.to_string()));
        }
        ring.shipped(&taken.mark);
        assert!(take(&ring, 1).lines[0].text.starts_with("L10 5 lines dropped"));
    }

    #[test]
    fn bytes_are_bounded() {
        let mut ring = Ring::default();
        for _ in 0..LINES_MAX {
            ring.push(line(&"x".repeat(8 << 10)));
        }
        assert!(ring.bytes <= BYTES_MAX);
        assert_eq!(ring.lines.len(), BYTES_MAX / (8 << 10));
    }
}
