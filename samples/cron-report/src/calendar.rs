//! Days of the Gregorian calendar.

use std::fmt;

/// A day, in days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day(u64);

impl Day {
    pub fn of_epoch(days: u64) -> Self {
        Self(days)
    }

    pub fn weekday(self) -> &'static str {
        // The first day of 1970 was a Thursday.
        const NAMES: [&str; 7] = [
            "Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday",
        ];
        NAMES[(self.0 % 7) as usize]
    }

    /// Year, month and day (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    fn parts(self) -> (u64, u64, u64) {
        let days = self.0 + 719_468;
        let era = days / 146_097;
        let of_era = days % 146_097;
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year, month, day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates_and_names() {
        for (days, text, weekday) in [
            (0, "1970-01-01", "Thursday"),
            (19_782, "2024-02-29", "Thursday"),
            (20_783, "2026-11-26", "Thursday"),
            (47_540, "2100-02-28", "Sunday"),
            (47_541, "2100-03-01", "Monday"),
        ] {
            let day = Day::of_epoch(days);
            assert_eq!((day.to_string().as_str(), day.weekday()), (text, weekday));
        }
    }
}
