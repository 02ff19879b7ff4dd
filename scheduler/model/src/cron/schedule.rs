//! Schedules: a cron expression in a time zone.
//!
//! In: what a user wrote, and instants. Out: the instants at which it is due, before and after.
//!
//! Of a day on which clocks are set forward or back: what is due at one time of the day is due once, at the first
//! instant after an hour that there is not, and in the first of two hours of one name; what is due again and again
//! (`*/5`, `0-30`, `8,20`) is due whenever the clock shows it. So Vixie's cron has it.
//!
//! Invariant: a schedule fires: one that never does cannot be made.
//! Invariant: the rules of time zones are those that the program was built with, on every machine the same.

use std::{fmt, sync::LazyLock};

use croner::{
    Cron, Weekday,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, date},
    tz::{TimeZone, TimeZoneDatabase},
};

use crate::text::excerpt;

/// Longest expression: every field with all that makes sense in it.
pub const EXPRESSION_BYTES_MAX: usize = 128;
/// Days that are looked at for one on which a schedule fires: after 28 years days of the week come again.
const DAYS: (Date, Date) = (date(2000, 1, 1), date(2028, 1, 1));
const DAY_S: u64 = 86_400;
/// The time zone of a schedule that names none.
pub const UTC: &str = "UTC";

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// When something is due, again and again.
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    expression: String,
    zone: String,
}

/// Text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Too long.
    #[error("the expression has {bytes} bytes; at most {EXPRESSION_BYTES_MAX} are read")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// No cron expression.
    #[error("{expression:?} is not a cron expression: {reason}")]
    Expression {
        /// As it was given, cut.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It names days that there are not.
    #[error("{expression:?} never fires: there is no such day")]
    Never {
        /// As it was given.
        expression: String,
    },
    /// A place that the time zone database does not have.
    #[error("{zone:?} is not a time zone")]
    Zone {
        /// As it was given, cut.
        zone: String,
        /// One that it has, if only the case of letters differs or it is the end of one.
        like: Option<String>,
    },
}

impl ScheduleError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            ScheduleError::TooLong { .. } | ScheduleError::Expression { .. } => {
                "write minute, hour, day of month, month and day of week, such as 0 3 * * *, with seconds before \
                 them if you like, or @hourly, @daily, @weekly, @monthly or @yearly"
                    .to_string()
            }
            ScheduleError::Never { .. } => {
                "look at its day of month and its month; L as day of month is the last one".to_string()
            }
            ScheduleError::Zone { like: Some(like), .. } => format!("is it {like}?"),
            ScheduleError::Zone { like: None, .. } => {
                "name one of the IANA database, such as Europe/Stockholm, or UTC".to_string()
            }
        }
    }
}

impl Schedule {
    /// The schedule of an expression in a time zone.
    pub fn new(expression: &str, zone: &str) -> Result<Self, ScheduleError> {
        let found = zone_of(zone).ok_or_else(|| ScheduleError::Zone {
            zone: excerpt(zone),
            like: like(zone),
        })?;
        let words: Vec<&str> = expression.split_whitespace().collect();
        let expression = words.join(" ");
        let cron = parse(&expression)?;
        if !has_day(&cron) {
            return Err(ScheduleError::Never { expression });
        }
        let zone = found.iana_name().unwrap_or(UTC).to_string();
        Ok(Self { expression, zone })
    }

    /// The expression.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The name of the time zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// When it is due next, later than `after`; none beyond the end of time.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let (cron, from) = self.at(after)?;
        let found = cron.find_next_occurrence(&from, false).ok()?;
        Some(found.timestamp())
    }

    /// When it was due last, at `until` at the latest; none before the beginning of time.
    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        let (cron, from) = self.at(until)?;
        let found = cron.find_previous_occurrence(&from, true).ok()?;
        Some(found.timestamp())
    }

    /// The least time between two instants at which it is due, in seconds, as clocks show it.
    pub fn interval_s_min(&self) -> u64 {
        let Ok(cron) = parse(&self.expression) else {
            return DAY_S;
        };
        let pattern = &cron.pattern;
        let mut times: Vec<u64> = Vec::new();
        for hour in pattern.hours.values() {
            for minute in pattern.minutes.values() {
                let at = (u64::from(hour) * 60 + u64::from(minute)) * 60;
                times.extend(
                    pattern
                        .seconds
                        .values()
                        .iter()
                        .map(|second| at + u64::from(*second)),
                );
            }
        }
        times.sort_unstable();
        let over_night = times.first().zip(times.last());
        let over_night = over_night.map(|(first, last)| first + DAY_S - last);
        let within = times.windows(2).map(|pair| pair[1] - pair[0]);
        within.chain(over_night).min().unwrap_or(DAY_S)
    }

    /// What it says, in words: `at 03:00`.
    pub fn words(&self) -> String {
        let Ok(cron) = parse(&self.expression) else {
            return self.expression.clone();
        };
        let text = cron.pattern.describe();
        let text = text.trim_end_matches('.').replace(", ", ",").replace(',', ", ");
        let mut text = text
            .strip_prefix("At every")
            .map_or(text.clone(), |rest| format!("every{rest}"));
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        text
    }

    /// An instant as clocks of its time zone show it.
    pub fn shown(&self, at: Timestamp) -> String {
        let zone = zone_of(&self.zone).unwrap_or(TimeZone::UTC);
        at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    fn at(&self, instant: Timestamp) -> Option<(Cron, jiff::Zoned)> {
        let cron = parse(&self.expression).ok()?;
        let second = Timestamp::from_second(instant.as_second()).ok()?;
        Some((cron, second.to_zoned(zone_of(&self.zone)?)))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.expression, self.zone)
    }
}

fn zone_of(name: &str) -> Option<TimeZone> {
    // `unknown` is a name that jiff has for itself.
    let is_name = !name.is_empty() && name.len() <= 64 && !name.eq_ignore_ascii_case("Etc/Unknown");
    let found = is_name.then(|| ZONES.get(name).ok()).flatten()?;
    match name == UTC {
        true => Some(TimeZone::UTC),
        false => Some(found),
    }
}

/// The zone of which `name` is the last part.
fn like(name: &str) -> Option<String> {
    let wanted = name.replace(' ', "_");
    let mut names = ZONES.available();
    names.find_map(|known| {
        let last = known.as_str().rsplit('/').next()?;
        last.eq_ignore_ascii_case(&wanted)
            .then(|| known.as_str().to_string())
    })
}

fn parse(expression: &str) -> Result<Cron, ScheduleError> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        let bytes = expression.len();
        return Err(ScheduleError::TooLong { bytes });
    }
    let refused = |reason: String| ScheduleError::Expression {
        expression: excerpt(expression),
        reason,
    };
    let fields = expression.split_whitespace().count();
    if !expression.starts_with('@') && !(5..=6).contains(&fields) {
        return Err(refused(format!("it has {fields} fields")));
    }
    if !expression.is_ascii() {
        return Err(refused("it has characters that mean nothing".to_string()));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Optional)
        .build();
    let parsed = parser.parse(expression);
    parsed.map_err(|error| refused(reason(&error)))
}

/// What is wrong, without the names of the parser's own parts.
fn reason(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError;
    let text = match error {
        CronError::InvalidPattern(text)
        | CronError::IllegalCharacters(text)
        | CronError::ComponentError(text) => text.clone(),
        CronError::EmptyPattern => "it is empty".to_string(),
        other => other.to_string(),
    };
    let mut text = excerpt(text.trim_end_matches('.'));
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

fn has_day(cron: &Cron) -> bool {
    let (first, end) = DAYS;
    let days = first.series(1.day()).take_while(|day| *day < end);
    let mut days = days.filter_map(|day| {
        let number = |n: i8| u32::try_from(n).ok();
        let weekday = number(day.weekday().to_sunday_zero_offset())?;
        Some((
            i32::from(day.year()),
            number(day.month())?,
            number(day.day())?,
            weekday,
        ))
    });
    days.any(|(year, month, day, weekday)| {
        let weekday = Weekday::from_days_from_sunday(weekday);
        cron.pattern.month_match(month).unwrap_or(false)
            && cron.pattern.day_match(year, month, day, weekday).unwrap_or(false)
    })
}

#[cfg(test)]
mod tests;
