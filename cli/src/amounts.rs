//! Amounts as people read them: bytes, fuel, spans of time.

use std::time::Duration;

use gilliam_model::Timestamp;

/// `4.1 MiB`, `128 MiB`, `512 B`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut size: u64 = 1;
    while n / size >= 1024 && unit + 1 < UNITS.len() {
        size <<= 10;
        unit += 1;
    }
    let tenths = (u128::from(n) * 10 + u128::from(size) / 2) / u128::from(size);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {}", UNITS[unit]),
        (whole @ 100.., _) => format!("{whole} {}", UNITS[unit]),
        (whole, tenth) => format!("{whole}.{tenth} {}", UNITS[unit]),
    }
}

/// `0.2 M fuel/s`, `1.4 G fuel/s`.
pub(crate) fn fuel_per_s(n: u64) -> String {
    let (unit, size) = match n {
        1_000_000_000.. => ("G", 1_000_000_000),
        _ => ("M", 1_000_000),
    };
    // Rounded up, so that a little is not shown as none.
    let tenths = (u128::from(n) * 10).div_ceil(size);
    format!("{}.{} {unit} fuel/s", tenths / 10, tenths % 10)
}

/// `just now`, `12 s ago`, `3 min ago`; an instant to come counts as now, for two clocks may differ.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    /// Below it a person has just seen it happen.
    const JUST_NOW_S: i64 = 10;
    let seconds = now.as_second() - at.as_second();
    match seconds {
        ..JUST_NOW_S => "just now".to_string(),
        _ => format!("{} ago", age(at, now)),
    }
}

/// `465 ms`, `1.2 s`, `2 min 5 s`.
pub(crate) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        s @ 1..60 => format!("{s}.{} s", duration.subsec_millis() / 100),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// `1 slot`, `2 slots`, `43,120 slots`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", number(n))
}

/// `5000`, `43,120`: from five digits on in groups of three.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `12 s`, `3 min`: how long something has been so.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - since.as_second()).max(0);
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        let read: Vec<String> = [0, 1023, 1024, 4_300_000, 128 << 20, 1_572_864, 1_115_328]
            .map(bytes)
            .to_vec();
        assert_eq!(
            read,
            [
                "0 B", "1023 B", "1 KiB", "4.1 MiB", "128 MiB", "1.5 MiB", "1.1 MiB"
            ]
        );
        let read: Vec<String> = [0, 1, 200_000, 2_345_000_000].map(fuel_per_s).to_vec();
        assert_eq!(
            read,
            ["0.0 M fuel/s", "0.1 M fuel/s", "0.2 M fuel/s", "2.4 G fuel/s"]
        );
        let read: Vec<String> = [7, 9_999, 10_000, 43_120, 1_000_000].map(number).to_vec();
        assert_eq!(read, ["7", "9999", "10,000", "43,120", "1,000,000"]);
        let read: Vec<String> = [465, 1_230, 125_000]
            .map(|ms| span(Duration::from_millis(ms)))
            .to_vec();
        assert_eq!(read, ["465 ms", "1.2 s", "2 min 5 s"]);
    }

    #[test]
    fn ages_read_well() {
        let at = |s| Timestamp::from_second(s).expect("in range");
        let read: Vec<String> = [-5, 3, 15, 600, 7_200, 400_000]
            .map(|s| ago(at(0), at(s)))
            .to_vec();
        assert_eq!(
            read,
            [
                "just now",
                "just now",
                "15 s ago",
                "10 min ago",
                "2 h ago",
                "4 d ago"
            ]
        );
    }
}
