//! Scale: how many instances of each process type of a release are wanted.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::name::ProcessName;

/// Largest count of one process type: twice the half million of the smallest commands that a node of 24 GiB
/// is made for, so that the machine is the limit and a slip of the finger is still caught. A count costs
/// nothing here: slots are ranges everywhere.
pub const COUNT_MAX: u32 = 1_000_000;

/// Desired counts by process type; a count of 0 is kept out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = std::collections::BTreeMap<String, u32>))]
pub struct Scale(pub BTreeMap<ProcessName, u32>);

/// A `PROCESS=COUNT` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// No `=`.
    #[error("{text:?} is not PROCESS=COUNT, such as web=2")]
    Form {
        /// As given.
        text: String,
    },
    /// The process name is not one.
    #[error(transparent)]
    Name(#[from] crate::name::NameError),
    /// The count is not a number from 0 to [`COUNT_MAX`].
    #[error("count {text:?} of {process} is not a whole number from 0 to {COUNT_MAX}")]
    Count {
        /// The process type.
        process: ProcessName,
        /// As given.
        text: String,
    },
}

impl Scale {
    /// The desired count of `process`.
    pub fn count(&self, process: &ProcessName) -> u32 {
        self.0.get(process).copied().unwrap_or(0)
    }

    /// Sets the desired count of `process`.
    pub fn set(&mut self, process: ProcessName, count: u32) {
        if count == 0 {
            self.0.remove(&process);
        } else {
            self.0.insert(process, count);
        }
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Instances wanted in all.
    pub fn total(&self) -> u64 {
        self.0.values().map(|n| u64::from(*n)).sum()
    }
}

/// Parses `web=2`.
pub fn parse_count(text: &str) -> Result<(ProcessName, u32), ScaleError> {
    let (process, count) = text.split_once('=').ok_or_else(|| ScaleError::Form {
        text: text.to_string(),
    })?;
    let process: ProcessName = process.parse()?;
    let number = Some(count)
        .filter(|c| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|c| c.parse::<u32>().ok())
        .filter(|n| *n <= COUNT_MAX);
    match number {
        Some(number) => Ok((process, number)),
        None => Err(ScaleError::Count {
            process,
            text: count.to_string(),
        }),
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (process, count)) in self.0.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{process}={count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_parse_or_say_why_not() {
        assert_eq!(parse_count("web=2"), Ok(("web".parse().expect("web"), 2)));
        assert_eq!(parse_count("web=0").expect("zero").1, 0);
        for (bad, want) in [
            ("web", "not PROCESS=COUNT"),
            ("web=", "not a whole number"),
            ("web=-1", "not a whole number"),
            ("web=+1", "not a whole number"),
            ("web=two", "not a whole number"),
            ("web=1000001", "0 to 1000000"),
            ("web=99999999999999999999", "0 to 1000000"),
            ("=1", "is empty"),
            ("We b=1", "must begin"),
        ] {
            let error = parse_count(bad).expect_err(bad).to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
