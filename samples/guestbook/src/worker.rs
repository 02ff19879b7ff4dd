//! The worker process of guestbook: prints a line every so often, until it is stopped.
//!
//! `worker.wasm [--interval SECONDS]`

use std::env;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

const INTERVAL_SECONDS_DEFAULT: f64 = 5.0;
/// A day: longer is taken for a mistake.
const INTERVAL_SECONDS_MAX: f64 = 86_400.0;

fn main() -> ExitCode {
    let interval = match interval(env::args().skip(1)) {
        Ok(interval) => interval,
        Err(reason) => {
            eprintln!("worker: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let value = |name: &str| env::var(name).unwrap_or_else(|_| "(not set)".to_owned());
    let (instance, release, pool) = (
        value("GILLIAM_INSTANCE"),
        value("GILLIAM_RELEASE"),
        value("POOL_SIZE"),
    );
    for round in 1_u64.. {
        println!("{instance} of {release}: round {round}, POOL_SIZE {pool}");
        sleep(interval);
    }
    ExitCode::SUCCESS
}

fn interval(mut arguments: impl Iterator<Item = String>) -> Result<Duration, String> {
    let mut seconds = INTERVAL_SECONDS_DEFAULT;
    while let Some(argument) = arguments.next() {
        if argument != "--interval" {
            return Err(format!(
                "unknown argument {argument}; it takes --interval SECONDS"
            ));
        }
        let value = arguments.next().ok_or("--interval needs a number of seconds")?;
        seconds = value
            .parse()
            .map_err(|_| format!("--interval is not a number: {value}"))?;
    }
    if seconds > 0.0 && seconds <= INTERVAL_SECONDS_MAX {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!(
            "--interval must be more than 0 and at most {INTERVAL_SECONDS_MAX}: {seconds}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Duration, String> {
        interval(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn interval_is_read_in_seconds() {
        assert_eq!(parse("--interval 1"), Ok(Duration::from_secs(1)));
        assert_eq!(parse("--interval 0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(parse(""), Ok(Duration::from_secs(5)));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for line in [
            "--interval",
            "--interval x",
            "--interval 0",
            "--interval -1",
            "--interval NaN",
            "--fast",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
