//! Placement rules of a process type: on which nodes its instances may run, where they had better, and how
//! they are spread.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU32,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    label::{LabelError, LabelKey},
    name::ProcessName,
    requirement::Requirement,
    text::wire_text,
};

/// Most requirements of one process type, and most ranks: each is asked of every node.
pub const REQUIREMENTS_MAX: usize = 32;
/// Most process types to keep away from: as many as an image has.
pub const APART_MAX: usize = crate::image::PROCESSES_MAX;
/// Largest weight of a rank, and, negated, its smallest.
pub const WEIGHT_MAX: i32 = 100;

/// Where the instances of a process type may run, and where they had better.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlacementRules {
    /// What every node must meet: `disk == ssd`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub require: Vec<Requirement>,
    /// What is added to the score of a node that meets it, from −100 to 100.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, i32>))]
    pub rank: BTreeMap<Requirement, i32>,
    /// What instances are spread over.
    #[serde(skip_serializing_if = "Spread::is_default")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub spread: Spread,
    /// Process types of the same app that never share a node with this one.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub anti_affinity: BTreeSet<ProcessName>,
    /// Most instances of one release on a node; none for no bound but what the node has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>))]
    pub max_per_node: Option<NonZeroU32>,
}

impl PlacementRules {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the instances of a process type are spread over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Spread {
    /// The values of a label, then the nodes of each. Nodes without the label are one domain.
    Over(LabelKey),
    /// Nodes alone.
    Nodes,
    /// Nothing: the fullest node that has room takes what it can.
    None,
}

impl Spread {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self::Over(LabelKey::zone())
    }
}

impl FromStr for Spread {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Ok(match text {
            "none" => Self::None,
            crate::label::NODE => Self::Nodes,
            key => Self::Over(key.parse()?),
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Over(key) => key.fmt(f),
            Self::Nodes => f.pad(crate::label::NODE),
            Self::None => f.pad("none"),
        }
    }
}

wire_text!(Spread);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_travel_and_what_is_not_said_is_left_out() {
        assert_eq!(
            serde_json::to_string(&PlacementRules::default()).expect("json"),
            "{}"
        );
        let rules = PlacementRules {
            require: vec!["disk == ssd".parse().expect("requirement")],
            rank: [("zone in (a, b)".parse().expect("requirement"), -10)].into(),
            spread: "rack".parse().expect("key"),
            anti_affinity: ["worker".parse().expect("name")].into(),
            max_per_node: NonZeroU32::new(2),
        };
        let json = serde_json::to_string(&rules).expect("json");
        assert_eq!(
            json,
            concat!(
                r#"{"require":["disk == ssd"],"rank":{"zone in (a, b)":-10},"#,
                r#""spread":"rack","anti_affinity":["worker"],"max_per_node":2}"#
            )
        );
        assert_eq!(
            serde_json::from_str::<PlacementRules>(&json).expect("rules"),
            rules
        );
    }

    #[test]
    fn spreads_round_trip() {
        for (text, spread) in [
            ("zone", Spread::default()),
            ("node", Spread::Nodes),
            ("none", Spread::None),
            ("rack", Spread::Over("rack".parse().expect("key"))),
        ] {
            assert_eq!(text.parse::<Spread>().expect(text), spread);
            assert_eq!(spread.to_string(), text);
        }
        assert!("a b".parse::<Spread>().is_err());
    }
}
