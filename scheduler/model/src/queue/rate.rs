//! How many jobs of a queue may begin in a span of time. Pure: the time is an argument.
//!
//! Jobs begin one by one, evenly, so that a span of time holds as many as the rate says wherever it begins (the
//! generic cell rate algorithm; ITU-T I.371, annex A). What a queue remembers of it is one number.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::excerpt;

/// Most jobs of a rate in its span: a hundred microseconds between two that are a second's.
pub const RATE_JOBS_MAX: u64 = 100_000;
/// Jobs of so many microseconds may begin together: fewer would have nodes ask for each by itself.
const TOGETHER_US: u64 = 100_000;

/// A rate: `10/s`, `600/min`, `5/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    jobs: u64,
    per: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Span {
    Second,
    Minute,
    Hour,
}

impl Span {
    const ALL: [Span; 3] = [Span::Second, Span::Minute, Span::Hour];

    fn as_str(self) -> &'static str {
        match self {
            Span::Second => "s",
            Span::Minute => "min",
            Span::Hour => "h",
        }
    }

    fn micros(self) -> u64 {
        match self {
            Span::Second => 1_000_000,
            Span::Minute => 60_000_000,
            Span::Hour => 3_600_000_000,
        }
    }
}

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate such as 10/s, 600/min or 5/h, of 1 to {RATE_JOBS_MAX} jobs")]
pub struct RateError(String);

impl Rate {
    /// Microseconds from the beginning of one job to that of the next.
    pub fn interval_us(self) -> u64 {
        self.per.micros().div_ceil(self.jobs)
    }

    /// How many jobs may begin at `now_us`; `next_us` is what [`Rate::paced`] answered last, or 0.
    pub fn allows(self, next_us: u64, now_us: u64) -> u64 {
        match now_us.checked_sub(self.earliest(next_us, now_us)) {
            Some(waited) => waited / self.interval_us() + 1,
            None => 0,
        }
    }

    /// What is to be remembered when `jobs` of those that [`Rate::allows`] begin at `now_us`.
    pub fn paced(self, next_us: u64, now_us: u64, jobs: u64) -> u64 {
        match jobs {
            0 => next_us,
            _ => self.earliest(next_us, now_us) + jobs * self.interval_us(),
        }
    }

    /// When the first job could have begun that did not.
    fn earliest(self, next_us: u64, now_us: u64) -> u64 {
        let together = TOGETHER_US.saturating_sub(self.interval_us());
        next_us.max(now_us.saturating_sub(together))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.jobs, self.per.as_str())
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let parsed = text.split_once('/').and_then(|(jobs, per)| {
            let jobs = jobs.trim_end().parse().ok()?;
            let per = Span::ALL
                .into_iter()
                .find(|span| span.as_str() == per.trim_start())?;
            (1..=RATE_JOBS_MAX).contains(&jobs).then_some(Rate { jobs, per })
        });
        parsed.ok_or_else(|| RateError(excerpt(text)))
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> String {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000_000;

    fn rate(text: &str) -> Rate {
        text.parse().expect(text)
    }

    #[test]
    fn a_rate_is_read_as_it_is_written() {
        for text in ["1/s", "600/min", "100000/h"] {
            assert_eq!(rate(text).to_string(), text);
        }
        assert_eq!(rate("10 / s"), rate("10/s"));
        for text in ["", "10", "10/", "/s", "0/s", "-1/s", "100001/s", "10/d", "1.5/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn jobs_begin_evenly_and_what_was_not_used_is_not_saved_up() {
        let rate = rate("10/s");
        assert_eq!(rate.allows(0, NOW), 1);
        let next = rate.paced(0, NOW, 1);
        assert_eq!(rate.allows(next, NOW + 99_999), 0);
        assert_eq!(rate.allows(next, NOW + 100_000), 1);
        assert_eq!(rate.allows(next, NOW + 3_600_000_000), 1);
        assert_eq!(rate.paced(next, NOW, 0), next, "none began");
    }

    #[test]
    fn no_second_has_more_than_the_rate_and_a_tenth_of_a_second_of_it() {
        for (text, most) in [
            ("10/s", 10),
            ("25/s", 27),
            ("1000/s", 1_100),
            ("100000/s", 110_000),
        ] {
            let rate = rate(text);
            // Asked for every 7 ms, after an hour of rest.
            let (mut next, mut began) = (0, Vec::new());
            for now in (NOW..NOW + 5_000_000).step_by(7_000) {
                let allowed = rate.allows(next, now);
                next = rate.paced(next, now, allowed);
                began.push((now, allowed));
            }
            for (from, _) in &began {
                let second = began
                    .iter()
                    .filter(|(at, _)| (*from..from + 1_000_000).contains(at));
                let sum: u64 = second.map(|(_, jobs)| jobs).sum();
                assert!(sum <= most, "{text}: {sum} in a second");
            }
            let all: u64 = began.iter().map(|(_, jobs)| jobs).sum();
            let least = 5 * 1_000_000 / rate.interval_us() * 9 / 10;
            assert!(all >= least, "{text}: {all} in five seconds, of {least}");
        }
    }
}
