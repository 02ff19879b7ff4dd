//! Numbers with units, as `gilliam.toml` has them: `"64MiB"`, `"2G"`, `"30s"`, `0.25`.
//!
//! Pure: text or numbers in, whole numbers in one unit out. Ranges are the model's to check.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{self, Deserializer, Visitor},
};

/// A kind of quantity: its units, and how it is printed.
pub(crate) trait Unit {
    /// What the value is called and looks like, for messages.
    const EXPECTED: &'static str;
    /// The suffixes, each with how many of the smallest unit it stands for; tried in order. Empty for a bare
    /// number.
    const SUFFIXES: &'static [(&'static str, u64)];
    /// What a bare TOML number counts, in the smallest unit; none when a unit must be written.
    const BARE: Option<u64>;
}

/// Bytes.
pub(crate) struct Bytes;
/// Units of fuel.
pub(crate) struct Fuel;
/// Milliseconds.
pub(crate) struct Millis;
/// Thousandths of a core.
pub(crate) struct CpuShare;
/// A count of something.
pub(crate) struct Count;

impl Unit for Bytes {
    const EXPECTED: &'static str = "a size such as \"64MiB\"";
    const SUFFIXES: &'static [(&'static str, u64)] = &[
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    const BARE: Option<u64> = None;
}

impl Unit for Fuel {
    const EXPECTED: &'static str = "an amount of fuel such as \"2G\"";
    const SUFFIXES: &'static [(&'static str, u64)] = &[
        ("K", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("", 1),
    ];
    const BARE: Option<u64> = Some(1);
}

impl Unit for Millis {
    const EXPECTED: &'static str = "a time such as \"30s\" or \"500ms\"";
    const SUFFIXES: &'static [(&'static str, u64)] =
        &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    const BARE: Option<u64> = None;
}

impl Unit for CpuShare {
    const EXPECTED: &'static str = "a share of a core such as 0.25";
    const SUFFIXES: &'static [(&'static str, u64)] = &[];
    const BARE: Option<u64> = Some(1_000);
}

impl Unit for Count {
    const EXPECTED: &'static str = "a whole number";
    const SUFFIXES: &'static [(&'static str, u64)] = &[];
    const BARE: Option<u64> = Some(1);
}

/// A quantity in its smallest unit.
pub(crate) struct Quantity<U> {
    pub(crate) value: u64,
    unit: PhantomData<U>,
}

/// Prints a value with the largest unit that divides it.
pub(crate) fn show<U: Unit>(value: u64) -> String {
    if let (Some(bare), true) = (U::BARE, U::SUFFIXES.is_empty()) {
        return match value % bare {
            0 => (value / bare).to_string(),
            _ => format!("{}.{:03}", value / bare, value % bare)
                .trim_end_matches('0')
                .to_string(),
        };
    }
    let unit = U::SUFFIXES
        .iter()
        .filter(|(_, size)| value >= *size && value.is_multiple_of(*size));
    match unit.max_by_key(|(_, size)| *size) {
        Some((suffix, size)) => format!("{}{suffix}", value / size),
        None => value.to_string(),
    }
}

fn parse<U: Unit>(text: &str) -> Option<u64> {
    let text = text.trim();
    U::SUFFIXES
        .iter()
        .find_map(|(suffix, size)| scaled(text.strip_suffix(suffix)?.trim_end(), *size))
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

impl<'de, U: Unit> Deserialize<'de> for Quantity<U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<U>(PhantomData<U>);
        impl<U: Unit> Visitor<'_> for Parts<U> {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(U::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                parse::<U>(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
                let scaled = || u64::try_from(number).ok()?.checked_mul(U::BARE?);
                scaled().ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
                // Its shortest decimal form is what was written.
                let decimal = || scaled(&number.to_string(), U::BARE.filter(|bare| *bare > 1)?);
                decimal().ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
            }
        }
        let value = deserializer.deserialize_any(Parts::<U>(PhantomData))?;
        Ok(Self {
            value,
            unit: PhantomData,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly() {
        assert_eq!(parse::<Bytes>("64MiB"), Some(64 << 20));
        assert_eq!(parse::<Bytes>("1.5 GiB"), Some(3 << 29));
        assert_eq!(parse::<Bytes>("64MB"), Some(64_000_000));
        assert_eq!(parse::<Fuel>("2G"), Some(2_000_000_000));
        assert_eq!(parse::<Fuel>("12345"), Some(12_345));
        assert_eq!(parse::<Millis>("500ms"), Some(500));
        assert_eq!(parse::<Millis>("0.5s"), Some(500));
        assert_eq!(parse::<Millis>("2m"), Some(120_000));
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
        ] {
            assert_eq!(parse::<Bytes>(bad), None, "{bad}");
        }
        assert_eq!(parse::<Bytes>("99999999999999999999MiB"), None);
        assert_eq!(parse::<Bytes>("999999999999999999GiB"), None);
        assert_eq!(parse::<Millis>("30"), None);
        assert_eq!(parse::<CpuShare>("0.5"), None);
    }

    #[test]
    fn values_print_as_they_are_written() {
        assert_eq!(show::<Bytes>(64 << 20), "64MiB");
        assert_eq!(show::<Bytes>(65_537), "65537");
        assert_eq!(show::<Fuel>(100_000), "100K");
        assert_eq!(show::<Millis>(3_600_000), "1h");
        assert_eq!(show::<Millis>(0), "0");
        assert_eq!(show::<CpuShare>(10), "0.01");
        assert_eq!(show::<CpuShare>(1_000), "1");
        assert_eq!(show::<Count>(17), "17");
    }
}
