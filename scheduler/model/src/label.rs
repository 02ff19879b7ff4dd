//! Labels of nodes: `zone=a`, `disk=ssd`. What placement is decided by, beside capacity.
//!
//! Every node has one label without being told: `node`, its name. A label `zone` is the domain that instances
//! are spread over unless their process says otherwise.

use std::{borrow::Borrow, collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    name::{NODE_NAME_BYTES_MAX, NodeName},
    text::{excerpt, wire_text},
};

/// Most labels of one node: each is in every report of it.
pub const LABELS_MAX: usize = 64;
/// Longest key: what fits a column of a table.
pub const LABEL_KEY_BYTES_MAX: usize = 63;
/// Longest value: a node's name is one.
pub const LABEL_VALUE_BYTES_MAX: usize = NODE_NAME_BYTES_MAX;
/// The label whose value is the node's name.
pub const NODE: &str = "node";
/// The label that instances are spread over by default.
pub const ZONE: &str = "zone";
/// Words that have a meaning where a key may stand.
const RESERVED: [&str; 4] = [NODE, "none", "not", "in"];

/// A label that cannot be used, with the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label {what}{value:?} {reason}")]
pub struct LabelError {
    /// Which part of it: `key `, `value `, or nothing for the whole.
    pub what: &'static str,
    /// The text as given, cut to a printable length.
    pub value: String,
    /// The rule it breaks.
    pub reason: &'static str,
}

impl LabelError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        "write KEY=VALUE, such as zone=a or disk=ssd"
    }
}

fn refused(what: &'static str, value: &str, reason: &'static str) -> LabelError {
    LabelError {
        what,
        value: excerpt(value),
        reason,
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(Box<str>);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = LabelError;

            fn from_str(text: &str) -> Result<Self, LabelError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        wire_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text! {
    /// The key of a label: a letter, then letters, digits, `-`, `_`, `.` or `/`; at most 63 characters.
    LabelKey, check_key
}
text! {
    /// The value of a label: letters, digits, `-`, `_` and `.`, the first a letter or digit; at most 253.
    LabelValue, check_value
}

impl LabelKey {
    /// The key `zone`.
    pub fn zone() -> Self {
        Self(ZONE.into())
    }

    /// The key `node`.
    pub fn node() -> Self {
        Self(NODE.into())
    }

    /// Whether it is the key of the label that every node has: its name.
    pub fn is_node(&self) -> bool {
        &*self.0 == NODE
    }
}

impl From<&NodeName> for LabelValue {
    /// Every node name is one.
    fn from(name: &NodeName) -> Self {
        Self(name.as_str().into())
    }
}

fn check_key(text: &str) -> Result<(), LabelError> {
    let err = |reason| Err(refused("key ", text, reason));
    if text.is_empty() || text.len() > LABEL_KEY_BYTES_MAX {
        return err("must have 1 to 63 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return err("must begin with a letter");
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
    {
        return err("may hold only letters, digits, '-', '_', '.' and '/'");
    }
    Ok(())
}

fn check_value(text: &str) -> Result<(), LabelError> {
    let err = |reason| Err(refused("value ", text, reason));
    if text.is_empty() || text.len() > LABEL_VALUE_BYTES_MAX {
        return err("must have 1 to 253 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return err("must begin with a letter or digit");
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    {
        return err("may hold only letters, digits, '-', '_' and '.'");
    }
    Ok(())
}

/// The labels of a node.
///
/// Invariant: at most [`LABELS_MAX`], and none is a word that has a meaning of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<LabelKey, LabelValue>",
    into = "BTreeMap<LabelKey, LabelValue>"
)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(value_type = std::collections::BTreeMap<String, String>)
)]
pub struct Labels(BTreeMap<LabelKey, LabelValue>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &LabelKey) -> Option<&LabelValue> {
        self.0.get(key)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every label, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&LabelKey, &LabelValue)> {
        self.0.iter()
    }

    /// The labels of `KEY=VALUE` texts; a key that comes twice is refused.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, LabelError> {
        let mut labels = BTreeMap::new();
        for text in texts {
            let Some((key, value)) = text.split_once('=') else {
                return Err(refused("", text, "is not KEY=VALUE"));
            };
            if labels.insert(key.parse()?, value.parse()?).is_some() {
                return Err(refused("key ", key, "is given twice"));
            }
        }
        Self::try_from(labels)
    }
}

impl TryFrom<BTreeMap<LabelKey, LabelValue>> for Labels {
    type Error = LabelError;

    fn try_from(labels: BTreeMap<LabelKey, LabelValue>) -> Result<Self, LabelError> {
        if let Some(one_too_many) = labels.keys().nth(LABELS_MAX) {
            return Err(refused(
                "key ",
                one_too_many.as_str(),
                "is one more than the 64 that a node can have",
            ));
        }
        match labels.keys().find(|key| RESERVED.contains(&key.as_str())) {
            Some(key) if key.is_node() => {
                Err(refused("key ", NODE, "is the node's name, which it has anyway"))
            }
            Some(key) => Err(refused("key ", key.as_str(), "is a word of placement rules")),
            None => Ok(Self(labels)),
        }
    }
}

impl From<Labels> for BTreeMap<LabelKey, LabelValue> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

impl fmt::Display for Labels {
    /// `disk=ssd zone=a`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self
            .0
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        f.pad(&all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_and_printed() {
        let labels = Labels::parse(["zone=a", "disk=ssd", "example.com/rack=R-7.1"]).expect("labels");
        assert_eq!(labels.to_string(), "disk=ssd example.com/rack=R-7.1 zone=a");
        assert_eq!(labels.get(&LabelKey::zone()).map(LabelValue::as_str), Some("a"));
        let json = serde_json::to_string(&labels).expect("json");
        assert_eq!(json, r#"{"disk":"ssd","example.com/rack":"R-7.1","zone":"a"}"#);
        assert_eq!(serde_json::from_str::<Labels>(&json).expect("labels"), labels);
    }

    #[test]
    fn what_is_no_label_is_refused_with_the_rule() {
        for (text, message) in [
            ("zone", r#"label "zone" is not KEY=VALUE"#),
            ("=a", r#"label key "" must have 1 to 63 characters"#),
            ("9=a", r#"label key "9" must begin with a letter"#),
            (
                "a b=c",
                r#"label key "a b" may hold only letters, digits, '-', '_', '.' and '/'"#,
            ),
            ("zone=", r#"label value "" must have 1 to 253 characters"#),
            (
                "zone=a=b",
                r#"label value "a=b" may hold only letters, digits, '-', '_' and '.'"#,
            ),
            (
                "node=n1",
                r#"label key "node" is the node's name, which it has anyway"#,
            ),
            ("none=n1", r#"label key "none" is a word of placement rules"#),
        ] {
            assert_eq!(Labels::parse([text]).expect_err(text).to_string(), message);
        }
        let twice = Labels::parse(["zone=a", "zone=b"]).expect_err("twice");
        assert_eq!(twice.to_string(), r#"label key "zone" is given twice"#);
        let many: Vec<String> = (0..=LABELS_MAX).map(|n| format!("l{n:02}=x")).collect();
        let many = Labels::parse(many.iter().map(String::as_str)).expect_err("too many");
        assert!(many.to_string().contains("one more than the 64"), "{many}");
        assert!(serde_json::from_str::<Labels>(r#"{"node":"n1"}"#).is_err());
    }
}
