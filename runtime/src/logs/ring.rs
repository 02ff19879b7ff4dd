//! The last lines of one app, and how many of them have been shipped to each control plane.

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

#[derive(Debug)]
pub(super) struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// Number of the first line in `lines`; lines are numbered from 0 for ever.
    first: u64,
    /// One for each control plane.
    cursors: Vec<Cursor>,
}

/// How far the lines are shipped to one control plane.
///
/// Invariant: `first <= next <= first + lines.len()`.
#[derive(Debug, Clone, Default)]
struct Cursor {
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
    /// An empty one for so many control planes.
    pub(super) fn new(ways: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            first: 0,
            cursors: vec![Cursor::default(); ways],
        }
    }

    pub(super) fn push(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
            self.first += 1;
            for cursor in self.cursors.iter_mut().filter(|cursor| cursor.next < self.first) {
                cursor.next = self.first;
                cursor.dropped += 1;
            }
        }
    }

    /// Whether a control plane has all there is.
    pub(super) fn is_shipped(&self, way: usize) -> bool {
        let cursor = &self.cursors[way];
        cursor.dropped == 0 && cursor.next == self.first + self.lines.len() as u64
    }

    pub(super) fn rewind(&mut self, way: usize) {
        let cursor = &mut self.cursors[way];
        cursor.next = self.first;
        cursor.rewinds += 1;
    }

    /// Up to `lines_max` lines that were not shipped, after a line that counts those that got lost (L10).
    pub(super) fn take(
        &self,
        way: usize,
        lines_max: usize,
        platform_line: impl FnOnce(Timestamp, LogStream, String) -> LogLine,
    ) -> Taken {
        let cursor = &self.cursors[way];
        let skip = usize::try_from(cursor.next - self.first).unwrap_or(usize::MAX);
        let mut lines = Vec::new();
        if cursor.dropped > 0 && lines_max > 0 {
            let at = self.lines.get(skip).map_or_else(Timestamp::now, |line| line.at);
            let text = format!(
                "{} {} lines dropped: the control plane did not take them",
                Code::L10,
                cursor.dropped
            );
            lines.push(platform_line(at, LogStream::Platform, text));
        }
        let room = lines_max - lines.len();
        let before = lines.len();
        lines.extend(self.lines.iter().skip(skip).take(room).cloned());
        let next = cursor.next + (lines.len() - before) as u64;
        let dropped = if lines_max > 0 { cursor.dropped } else { 0 };
        Taken {
            lines,
            mark: Mark {
                from: cursor.next,
                next,
                dropped,
                rewinds: cursor.rewinds,
            },
        }
    }

    /// Takes note that everything up to `mark` has arrived there, unless shipping began anew meanwhile.
    pub(super) fn shipped(&mut self, way: usize, mark: &Mark) {
        let cursor = &mut self.cursors[way];
        if mark.rewinds != cursor.rewinds {
            return;
        }
        // Lines that were pushed out meanwhile count as dropped only if they were not in the batch.
        let late = mark.next.min(self.first).saturating_sub(mark.from);
        cursor.next = cursor.next.max(mark.next).max(self.first);
        cursor.dropped = cursor.dropped.saturating_sub(mark.dropped).saturating_sub(late);
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
        ring.take(0, max, |_, stream, text| LogLine {
            stream,
            ..line(&text)
        })
    }

    #[test]
    fn lines_that_are_pushed_out_unshipped_are_counted() {
        let mut ring = Ring::new(1);
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
        ring.shipped(0, &taken.mark);
        assert_eq!(take(&ring, 1).lines[0].text, "4");
    }

    #[test]
    fn shipped_lines_that_are_pushed_out_are_not_counted() {
        let mut ring = Ring::new(1);
        for n in 0..LINES_MAX {
            ring.push(line(&n.to_string()));
        }
        let taken = take(&ring, LINES_MAX);
        ring.shipped(0, &taken.mark);
        assert!(ring.is_shipped(0));
        for n in 0..LINES_MAX {
            ring.push(line(&n.to_string()));
        }
        assert_eq!(take(&ring, 1).lines[0].text, "0");
    }

    #[test]
    fn lines_that_are_pushed_out_while_they_travel_are_not_counted() {
        let mut ring = Ring::new(1);
        for n in 0..LINES_MAX {
            ring.push(line(&n.to_string()));
        }
        let taken = take(&ring, 10);
        for n in 0..15 {
            ring.push(line(&n.to_string()));
        }
        ring.shipped(0, &taken.mark);
        assert!(take(&ring, 1).lines[0].text.starts_with("L10 5 lines dropped"));
    }

    #[test]
    fn each_control_plane_gets_every_line() {
        let mut ring = Ring::new(2);
        ring.push(line("a"));
        let of_first = take(&ring, 9);
        ring.shipped(0, &of_first.mark);
        assert!(ring.is_shipped(0) && !ring.is_shipped(1));
        for n in 0..LINES_MAX {
            ring.push(line(&n.to_string()));
        }
        assert_eq!(take(&ring, 1).lines[0].text, "0");
        let of_second = ring.take(1, 1, |_, stream, text| LogLine {
            stream,
            ..line(&text)
        });
        assert!(of_second.lines[0].text.starts_with("L10 1 lines dropped"));
    }

    #[test]
    fn bytes_are_bounded() {
        let mut ring = Ring::new(1);
        for _ in 0..LINES_MAX {
            ring.push(line(&"x".repeat(8 << 10)));
        }
        assert!(ring.bytes <= BYTES_MAX);
        assert_eq!(ring.lines.len(), BYTES_MAX / (8 << 10));
    }
}
