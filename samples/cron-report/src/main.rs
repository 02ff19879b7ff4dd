//! Reports: of days, as a cron has it made, and of sales that are sent to it.
//!
//! `report day --back 1` prints one day, `report days --back 28` each of the last 28, and `report sales` sums up what
//! comes on its standard input: a line for each sale, `DAY,PRODUCT,COUNT,PRICE`.

mod calendar;
mod sales;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use calendar::Day;

const DAY_S: u64 = 86_400;
const DAYS_MAX: u64 = 366;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match report(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(arguments: &[String]) -> Result<(), String> {
    let out = &mut io::stdout().lock();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["day", "--back", back] => days(out, number(back)?, 1),
        ["days", "--back", back] => {
            let back = number(back)?;
            days(out, back, back)
        }
        ["sales"] => sales::report(io::stdin().lock(), out),
        _ => Err("it is day --back N, days --back N or sales".to_string()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|n| (1..=DAYS_MAX).contains(n));
    number.ok_or_else(|| format!("{text:?} is not a number from 1 to {DAYS_MAX}"))
}

/// Prints `count` days, the first of which was `back` days ago.
fn days(out: &mut impl Write, back: u64, count: u64) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
    let today = now.as_secs() / DAY_S;
    let title = env::var("REPORT_TITLE").unwrap_or_else(|_| "Report".to_string());
    let instance = env::var("GILLIAM_INSTANCE").unwrap_or_default();
    let written = (0..count).try_for_each(|n| {
        let day = Day::of_epoch(today - back + n);
        writeln!(out, "{title} of {day}, {} (by {instance})", day.weekday())
    });
    written.map_err(|error| error.to_string())
}
