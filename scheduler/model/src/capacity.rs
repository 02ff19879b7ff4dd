//! What a node has for instances, where an operator says so: `memory=8GiB,cpu=4,instances=1000`.

use std::{fmt, str::FromStr};

use crate::{
    quantity::Unit,
    text::{excerpt, wire_text},
};
use serde::{Deserialize, Serialize};

/// Most cores of one node: what fits thousandths of a core in a number of 32 bits, and more than is built.
const CORES_MAX: u64 = 100_000;

/// What a node is said to have; what is left out is what its machine has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capacity {
    /// Bytes of memory that instances may be promised.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core that instances may be promised.
    pub cpu_millis: Option<u32>,
    /// Instances at once.
    pub instances_max: Option<u32>,
}

/// A capacity that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("capacity {text:?} {reason}")]
pub struct CapacityError {
    /// The part as given, cut to a printable length.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl CapacityError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        "write memory=8GiB,cpu=4,instances=1000, or some of these"
    }
}

impl FromStr for Capacity {
    type Err = CapacityError;

    fn from_str(text: &str) -> Result<Self, CapacityError> {
        let mut capacity = Self::default();
        for part in text.split(',') {
            let refused = |reason: &str| CapacityError {
                text: excerpt(part),
                reason: reason.to_string(),
            };
            let (key, value) = part.split_once('=').ok_or_else(|| refused("is not KEY=VALUE"))?;
            let positive = |unit: Unit, max: u64| {
                let number = unit.parse(value).filter(|n| (1..=max).contains(n));
                number.ok_or_else(|| refused(&format!("is not {}, more than none", unit.expected())))
            };
            let number = |unit, max| Ok(u32::try_from(positive(unit, max)?).unwrap_or(u32::MAX));
            let is_new = match key.trim() {
                "memory" => capacity
                    .memory_bytes
                    .replace(positive(Unit::Bytes, u64::MAX)?)
                    .is_none(),
                "cpu" => capacity
                    .cpu_millis
                    .replace(number(Unit::CpuShare, CORES_MAX * 1_000)?)
                    .is_none(),
                "instances" => capacity
                    .instances_max
                    .replace(number(Unit::Count, u32::MAX.into())?)
                    .is_none(),
                _ => return Err(refused("is neither memory, cpu nor instances")),
            };
            if !is_new {
                return Err(refused("is given twice"));
            }
        }
        Ok(capacity)
    }
}

wire_text!(Capacity);

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part =
            |key: &str, unit: Unit, value: Option<u64>| value.map(|n| format!("{key}={}", unit.show(n)));
        let parts = [
            part("memory", Unit::Bytes, self.memory_bytes),
            part("cpu", Unit::CpuShare, self.cpu_millis.map(u64::from)),
            part("instances", Unit::Count, self.instances_max.map(u64::from)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.pad(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_read_and_printed() {
        let capacity: Capacity = "memory=8GiB,cpu=3.5,instances=1000".parse().expect("capacity");
        let want = Capacity {
            memory_bytes: Some(8 << 30),
            cpu_millis: Some(3_500),
            instances_max: Some(1_000),
        };
        assert_eq!(capacity, want);
        assert_eq!(capacity.to_string(), "memory=8GiB,cpu=3.5,instances=1000");
        assert_eq!("cpu=4".parse::<Capacity>().expect("cpu").cpu_millis, Some(4_000));
    }

    #[test]
    fn what_is_no_capacity_is_refused() {
        for (text, message) in [
            ("", r#"capacity "" is not KEY=VALUE"#),
            ("memory", r#"capacity "memory" is not KEY=VALUE"#),
            (
                "memory=8",
                r#"capacity "memory=8" is not a size such as 64MiB, more than none"#,
            ),
            (
                "cpu=0",
                r#"capacity "cpu=0" is not a share of a core such as 0.25, more than none"#,
            ),
            (
                "cpu=999999999",
                r#"capacity "cpu=999999999" is not a share of a core such as 0.25, more than none"#,
            ),
            ("cpu=1,cpu=2", r#"capacity "cpu=2" is given twice"#),
            (
                "disk=1GiB",
                r#"capacity "disk=1GiB" is neither memory, cpu nor instances"#,
            ),
        ] {
            assert_eq!(text.parse::<Capacity>().expect_err(text).to_string(), message);
        }
    }
}
