//! What-if: a change that is only thought of, and what would come of it.
//!
//! ```text
//! scale v2 web=400 worker=2        kill n3        drain n2        undrain n2        rebalance
//! ```

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    api::ScalePatch,
    name::{AppName, NameError, NodeName, ProcessName},
    release::ReleaseId,
    scale::{ScaleError, parse_count},
    text::{excerpt, wire_text},
};

/// Bytes of a change: a count for each of some forty process types.
const CHANGE_BYTES_MAX: usize = 2_000;

/// A change that is only thought of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WhatIf {
    /// Counts of an app's process types.
    Scale(ScalePatch),
    /// A node is lost.
    Kill(NodeName),
    /// A node is to be emptied.
    Drain(NodeName),
    /// A node takes slots again.
    Undrain(NodeName),
    /// Slots move for the sake of a better spread.
    Rebalance,
}

/// Text that is no change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhatIfError {
    /// Not one of the forms.
    #[error("{text:?} is not a change that can be asked about")]
    Form {
        /// As given, cut to a printable length.
        text: String,
    },
    /// A count is not one.
    #[error(transparent)]
    Scale(#[from] ScaleError),
    /// A node's name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl WhatIfError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        "ask about 'scale [vN] web=4 …', 'kill NODE', 'drain NODE', 'undrain NODE' or 'rebalance'"
    }
}

impl FromStr for WhatIf {
    type Err = WhatIfError;

    fn from_str(text: &str) -> Result<Self, WhatIfError> {
        let form = || WhatIfError::Form { text: excerpt(text) };
        if text.len() > CHANGE_BYTES_MAX {
            return Err(form());
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["scale", first, rest @ ..] => {
                let (release, counts) = match first.parse::<ReleaseId>() {
                    Ok(release) => (Some(release), rest),
                    Err(_) => (None, &words[1..]),
                };
                let counts: Result<BTreeMap<_, _>, _> =
                    counts.iter().map(|count| parse_count(count)).collect();
                let counts = counts?;
                if counts.is_empty() {
                    return Err(form());
                }
                Ok(Self::Scale(ScalePatch { release, counts }))
            }
            ["kill", node] => Ok(Self::Kill(node.parse()?)),
            ["drain", node] => Ok(Self::Drain(node.parse()?)),
            ["undrain", node] => Ok(Self::Undrain(node.parse()?)),
            ["rebalance"] => Ok(Self::Rebalance),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for WhatIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale(ScalePatch { release, counts }) => {
                f.write_str("scale")?;
                if let Some(release) = release {
                    write!(f, " {release}")?;
                }
                counts
                    .iter()
                    .try_for_each(|(process, count)| write!(f, " {process}={count}"))
            }
            Self::Kill(node) => write!(f, "kill {node}"),
            Self::Drain(node) => write!(f, "drain {node}"),
            Self::Undrain(node) => write!(f, "undrain {node}"),
            Self::Rebalance => f.write_str("rebalance"),
        }
    }
}

wire_text!(WhatIf);

/// `POST /v1/plan/what-if`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Question {
    /// The change: `scale v2 web=400`, `kill n3`, `drain n2`, `undrain n2`, `rebalance`.
    pub change: String,
    /// The app that a `scale` is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

/// What would come of a change, once all has come to rest, compared with what will come without it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Difference {
    /// Slots that would be placed in addition.
    pub placed: u64,
    /// Slots that would stop and not start elsewhere.
    pub stopped: u64,
    /// Slots that would stop on one node and start on another.
    pub moved: u64,
    /// Process types of which something would change, by app, release and name.
    pub processes: Vec<ProcessDifference>,
    /// Slots that no node could take: those of process types for which that would change.
    pub blocked: Vec<BlockedProcess>,
}

/// What would change of a process type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessDifference {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// Slots on nodes without the change.
    pub before: u64,
    /// Slots on nodes with it.
    pub after: u64,
    /// Of those, how many would have moved.
    pub moved: u64,
    /// The nodes on which the count would change, by name.
    pub nodes: Vec<NodeDifference>,
}

/// What would change of a process type on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeDifference {
    /// The node.
    pub node: NodeName,
    /// Slots on it without the change.
    pub before: u64,
    /// Slots on it with the change.
    pub after: u64,
}

/// Slots that no node could take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlockedProcess {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// The process type.
    pub process: ProcessName,
    /// How many, with the change.
    pub count: u32,
    /// How many are without it.
    pub before: u32,
    /// Why, by node; `cluster` for what no node can change, `others` for the sums of nodes that are too many
    /// to be named.
    pub reasons: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_round_trip() {
        for text in [
            "scale v2 web=400 worker=2",
            "scale web=0",
            "kill n3",
            "drain n2",
            "undrain n2",
            "rebalance",
        ] {
            assert_eq!(text.parse::<WhatIf>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for (text, message) in [
            ("", r#""" is not a change that can be asked about"#),
            ("scale", r#""scale" is not a change that can be asked about"#),
            (
                "scale v2",
                r#""scale v2" is not a change that can be asked about"#,
            ),
            ("scale web", r#""web" is not PROCESS=COUNT, such as web=2"#),
            ("kill", r#""kill" is not a change that can be asked about"#),
            (
                "kill a b",
                r#""kill a b" is not a change that can be asked about"#,
            ),
            ("kill -", r#"node name "-" must begin with a letter or digit"#),
        ] {
            assert_eq!(text.parse::<WhatIf>().expect_err(text).to_string(), message);
        }
    }
}
