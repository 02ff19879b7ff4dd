//! Numbers with units, as people write and read them: `64MiB`, `2G`, `30s`, `0.25`, `always`.
//!
//! Text or numbers in, whole numbers in the smallest unit out, and back. Ranges are checked elsewhere.

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Units of fuel.
    Fuel,
    /// Milliseconds.
    Millis,
    /// Thousandths of a core, written as a share of one.
    CpuShare,
    /// A count of something.
    Count,
    /// A count of uses, of which the largest is written `always`.
    Uses,
}

/// No bound, as [`Unit::Uses`] counts it.
pub const ALWAYS: u64 = u32::MAX as u64;
const ALWAYS_TEXT: &str = "always";

impl Unit {
    /// What such a value is called and looks like, for messages.
    pub fn expected(self) -> &'static str {
        match self {
            Unit::Bytes => "a size such as 64MiB",
            Unit::Fuel => "an amount of fuel such as 2G",
            Unit::Millis => "a time such as 30s or 500ms",
            Unit::CpuShare => "a share of a core such as 0.25",
            Unit::Count => "a whole number",
            Unit::Uses => "a whole number or always",
        }
    }

    /// The suffixes, each with how many of the smallest unit it stands for; tried in order.
    fn suffixes(self) -> &'static [(&'static str, u64)] {
        match self {
            Unit::Bytes => &[
                ("KiB", 1 << 10),
                ("MiB", 1 << 20),
                ("GiB", 1 << 30),
                ("KB", 1_000),
                ("kB", 1_000),
                ("MB", 1_000_000),
                ("GB", 1_000_000_000),
                ("B", 1),
            ],
            Unit::Fuel => &[
                ("K", 1_000),
                ("M", 1_000_000),
                ("G", 1_000_000_000),
                ("T", 1_000_000_000_000),
                ("", 1),
            ],
            Unit::Millis => &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)],
            Unit::CpuShare => &[("", 1_000)],
            Unit::Count | Unit::Uses => &[("", 1)],
        }
    }

    /// How much a bare 1 is; none when a unit must be written.
    fn bare(self) -> Option<u64> {
        let bare = self.suffixes().iter().find(|(suffix, _)| suffix.is_empty());
        bare.map(|(_, size)| *size)
    }

    /// The value of a text such as `64MiB`; none when it is no such value.
    pub fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim();
        if self == Unit::Uses && text == ALWAYS_TEXT {
            return Some(ALWAYS);
        }
        self.suffixes()
            .iter()
            .find_map(|(suffix, size)| scaled(text.strip_suffix(suffix)?.trim_end(), *size))
    }

    /// The value of a bare whole number.
    pub fn of_integer(self, number: i64) -> Option<u64> {
        u64::try_from(number).ok()?.checked_mul(self.bare()?)
    }

    /// The value of a bare decimal number.
    pub fn of_decimal(self, number: f64) -> Option<u64> {
        // Its shortest decimal form is what was written.
        scaled(&number.to_string(), self.bare().filter(|bare| *bare > 1)?)
    }

    /// The value with the largest unit that divides it.
    pub fn show(self, value: u64) -> String {
        match self {
            Unit::Uses if value == ALWAYS => return ALWAYS_TEXT.to_string(),
            Unit::Millis if value == 0 => return "0s".to_string(),
            Unit::CpuShare if !value.is_multiple_of(1_000) => {
                let decimal = format!("{}.{:03}", value / 1_000, value % 1_000);
                return decimal.trim_end_matches('0').to_string();
            }
            _ => {}
        }
        let sizes = self.suffixes().iter();
        let fitting = sizes.filter(|(_, size)| value >= *size && value.is_multiple_of(*size));
        match fitting.max_by_key(|(_, size)| *size) {
            Some((suffix, size)) => format!("{}{suffix}", value / size),
            None => value.to_string(),
        }
    }
}

/// `1.5` times `size`, when that is a whole number.
fn scaled(number: &str, size: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(size)?;
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = fraction.parse::<u128>().ok()?.checked_mul(u128::from(size))?;
    if !parts.is_multiple_of(denominator) {
        return None;
    }
    whole.checked_add(u64::try_from(parts / denominator).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly() {
        assert_eq!(Unit::Bytes.parse("64MiB"), Some(64 << 20));
        assert_eq!(Unit::Bytes.parse("1.5 GiB"), Some(3 << 29));
        assert_eq!(Unit::Bytes.parse("64MB"), Some(64_000_000));
        assert_eq!(Unit::Fuel.parse("2G"), Some(2_000_000_000));
        assert_eq!(Unit::Fuel.parse("12345"), Some(12_345));
        assert_eq!(Unit::Millis.parse("500ms"), Some(500));
        assert_eq!(Unit::Millis.parse("0.5s"), Some(500));
        assert_eq!(Unit::Millis.parse("2m"), Some(120_000));
        assert_eq!(Unit::CpuShare.parse("0.25"), Some(250));
        assert_eq!(Unit::CpuShare.of_decimal(0.25), Some(250));
        assert_eq!(Unit::CpuShare.of_integer(1), Some(1_000));
        assert_eq!(Unit::Uses.parse("always"), Some(ALWAYS));
        assert_eq!(Unit::Uses.of_integer(100), Some(100));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for bad in [
            "",
            "MiB",
            "64",
            "-1MiB",
            "1e3MiB",
            "0x10MiB",
            "64 mib",
            "1.MiB",
            ".5MiB",
            "0.0000001KiB",
            "∞",
            "always",
        ] {
            assert_eq!(Unit::Bytes.parse(bad), None, "{bad}");
        }
        assert_eq!(Unit::Bytes.parse("99999999999999999999MiB"), None);
        assert_eq!(Unit::Bytes.parse("999999999999999999GiB"), None);
        assert_eq!(Unit::Millis.parse("30"), None);
        assert_eq!(Unit::Bytes.of_integer(64), None);
        assert_eq!(Unit::Count.of_integer(-1), None);
        assert_eq!(Unit::Count.of_decimal(1.5), None);
        assert_eq!(Unit::Count.parse("1.5"), None);
        assert_eq!(Unit::CpuShare.of_decimal(f64::NAN), None);
    }

    #[test]
    fn values_print_as_they_are_written() {
        for (unit, value, text) in [
            (Unit::Bytes, 64 << 20, "64MiB"),
            (Unit::Bytes, 65_537, "65537B"),
            (Unit::Fuel, 100_000, "100K"),
            (Unit::Millis, 3_600_000, "1h"),
            (Unit::Millis, 0, "0s"),
            (Unit::CpuShare, 10, "0.01"),
            (Unit::CpuShare, 1_000, "1"),
            (Unit::Count, 17, "17"),
            (Unit::Uses, ALWAYS, "always"),
            (Unit::Uses, 1, "1"),
        ] {
            assert_eq!(unit.show(value), text);
        }
    }
}
