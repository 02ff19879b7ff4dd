//! Lines with levels, for `gilliam logs`.

use std::sync::Once;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// The config that says from which level on lines are written: `error`, `warn`, `info`, `debug`, `trace` or `off`.
const LEVEL_KEY: &str = "LOG_LEVEL";

struct Stdio;

impl Log for Stdio {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = line(record.level(), &record.args().to_string());
        match record.level() {
            Level::Error | Level::Warn => eprintln!("{line}"),
            _ => println!("{line}"),
        }
    }

    fn flush(&self) {}
}

/// Has the macros of the crate `log` write lines that begin with their level: errors and warnings to standard error,
/// all else to standard output. `gilliam config set LOG_LEVEL=debug` says from which level on; `info` unless it is
/// said.
///
/// Handlers of jobs have it done already. Where another logger was set before, that one stays.
pub fn log_to_stdio() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let level = std::env::var(LEVEL_KEY).ok().and_then(|level| level.parse().ok());
        if log::set_logger(&Stdio).is_ok() {
            log::set_max_level(level.unwrap_or(LevelFilter::Info));
        }
    });
}

/// `WARN no such mailbox`; what has several lines has its level on each.
fn line(level: Level, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("{level} {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_begins_with_its_level() {
        assert_eq!(line(Level::Warn, "one\ntwo"), "WARN one\nWARN two");
    }
}
