//! Requirements: what a node's labels must say for a process to run there.
//!
//! ```text
//! disk == ssd            disk != hdd            zone in (a, b)         zone not in (c)
//! gpu exists             spot not exists        cores >= 8             generation < 4
//! ```
//!
//! In flows text, out flow requirements that print as text which parses back to them, and verdicts on labels.
//! What says *not* (`!=`, `not in`, `not exists`) holds of a node without the label, and nothing else does, as
//! with Kubernetes' selectors.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    label::{LabelError, LabelKey, LabelValue, Labels},
    name::NodeName,
    text::{excerpt, wire_text},
};

/// Bytes of one requirement: a list of some fifty values.
pub const REQUIREMENT_BYTES_MAX: usize = 1_000;
/// What may stand after a key.
const OPERATORS: &str = "==, !=, <, <=, >, >=, in, not in, exists or not exists";

/// What the labels of a node must say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Requirement {
    key: LabelKey,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    In(Vec<LabelValue>),
    NotIn(Vec<LabelValue>),
    Exists,
    NotExists,
    Compare(Comparison, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Text that is no requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} at character {at}: {problem}")]
pub struct RequirementError {
    /// The text as given, cut to a printable length.
    pub text: String,
    /// Where, in characters from 1.
    pub at: usize,
    /// What is there, and what was expected.
    pub problem: String,
}

impl RequirementError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        "write KEY OPERATOR VALUE, such as disk == ssd, zone in (a, b), gpu exists or cores >= 8"
    }
}

impl Requirement {
    /// That it is this node.
    pub fn on(node: &NodeName) -> Self {
        Self {
            key: LabelKey::node(),
            test: Test::In(vec![node.into()]),
        }
    }

    /// Whether a node of this name with these labels meets it.
    pub fn holds(&self, node: &NodeName, labels: &Labels) -> bool {
        let value = if self.key.is_node() {
            Some(node.as_str())
        } else {
            labels.get(&self.key).map(LabelValue::as_str)
        };
        let is_in =
            |values: &[LabelValue]| value.is_some_and(|value| values.iter().any(|v| v.as_str() == value));
        match &self.test {
            Test::In(values) => is_in(values),
            Test::NotIn(values) => !is_in(values),
            Test::Exists => value.is_some(),
            Test::NotExists => value.is_none(),
            Test::Compare(comparison, than) => value
                .and_then(|value| value.parse::<u64>().ok())
                .is_some_and(|number| comparison.holds(number, *than)),
        }
    }

    /// What a node's label says of it: `disk is hdd`, `it has no label disk`.
    pub fn finding(&self, node: &NodeName, labels: &Labels) -> String {
        match labels.get(&self.key) {
            _ if self.key.is_node() => format!("its name is {node}"),
            Some(value) => format!("its {} is {value}", self.key),
            None => format!("it has no label {}", self.key),
        }
    }
}

impl Comparison {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn holds(self, number: u64, than: u64) -> bool {
        match self {
            Self::Less => number < than,
            Self::LessOrEqual => number <= than,
            Self::Greater => number > than,
            Self::GreaterOrEqual => number >= than,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[LabelValue]| {
            let values: Vec<&str> = values.iter().map(LabelValue::as_str).collect();
            values.join(", ")
        };
        let key = &self.key;
        let text = match &self.test {
            Test::In(values) if values.len() == 1 => format!("{key} == {}", values[0]),
            Test::NotIn(values) if values.len() == 1 => format!("{key} != {}", values[0]),
            Test::In(values) => format!("{key} in ({})", list(values)),
            Test::NotIn(values) => format!("{key} not in ({})", list(values)),
            Test::Exists => format!("{key} exists"),
            Test::NotExists => format!("{key} not exists"),
            Test::Compare(comparison, than) => format!("{key} {} {than}", comparison.as_str()),
        };
        f.pad(&text)
    }
}

wire_text!(Requirement);

impl FromStr for Requirement {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, RequirementError> {
        if text.len() > REQUIREMENT_BYTES_MAX {
            let problem = format!("it is longer than {REQUIREMENT_BYTES_MAX} bytes");
            return Err(RequirementError {
                text: excerpt(text),
                at: 1,
                problem,
            });
        }
        let mut parser = Parser { text, at: 0 };
        let key = parser.word("the key of a label")?;
        let test = parser.test()?;
        parser.end()?;
        Ok(Self { key, test })
    }
}

/// Where in a text its reader is.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn test(&mut self) -> Result<Test, RequirementError> {
        let (at, token) = self.next();
        match token {
            "==" => Ok(Test::In(vec![self.word("a value")?])),
            "!=" => Ok(Test::NotIn(vec![self.word("a value")?])),
            "in" => Ok(Test::In(self.list()?)),
            "exists" => Ok(Test::Exists),
            "not" => match self.next() {
                (_, "in") => Ok(Test::NotIn(self.list()?)),
                (_, "exists") => Ok(Test::NotExists),
                (at, found) => Err(self.unexpected(at, found, "in or exists")),
            },
            _ => match Comparison::of(token) {
                Some(comparison) => Ok(Test::Compare(comparison, self.number()?)),
                None => Err(self.unexpected(at, token, OPERATORS)),
            },
        }
    }

    fn list(&mut self) -> Result<Vec<LabelValue>, RequirementError> {
        let (at, open) = self.next();
        if open != "(" {
            return Err(self.unexpected(at, open, "a list of values such as (a, b)"));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.word("a value")?);
            match self.next() {
                (_, ",") => {}
                (_, ")") => break,
                (at, found) => return Err(self.unexpected(at, found, "a comma or )")),
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    fn number(&mut self) -> Result<u64, RequirementError> {
        let (at, token) = self.next();
        let digits = Some(token).filter(|token| token.bytes().all(|b| b.is_ascii_digit()));
        digits
            .and_then(|token| token.parse().ok())
            .ok_or_else(|| self.unexpected(at, token, "a whole number"))
    }

    fn word<T: FromStr<Err = LabelError>>(&mut self, expected: &str) -> Result<T, RequirementError> {
        let (at, token) = self.next();
        if !token.starts_with(is_word) {
            return Err(self.unexpected(at, token, expected));
        }
        token
            .parse()
            .map_err(|error: LabelError| self.error(at, error.to_string()))
    }

    fn end(&mut self) -> Result<(), RequirementError> {
        match self.next() {
            (_, "") => Ok(()),
            (at, found) => {
                Err(self.unexpected(at, found, "the end; write one requirement for each condition"))
            }
        }
    }

    /// The next token and where it begins; an empty one at the end.
    fn next(&mut self) -> (usize, &'a str) {
        let rest = &self.text[self.at..];
        let rest_at = self.at + rest.len() - rest.trim_start().len();
        let rest = &self.text[rest_at..];
        let first = rest.chars().next();
        let long = match first {
            None => 0,
            Some(c) if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            Some('=' | '!' | '<' | '>') => rest
                .find(|c| !matches!(c, '=' | '!' | '<' | '>'))
                .unwrap_or(rest.len()),
            Some(c) => c.len_utf8(),
        };
        self.at = rest_at + long;
        (rest_at, &rest[..long])
    }

    fn unexpected(&self, at: usize, found: &str, expected: &str) -> RequirementError {
        let problem = if found.is_empty() {
            format!("it ends where {expected} was expected")
        } else {
            format!("{:?} where {expected} was expected", excerpt(found))
        };
        self.error(at, problem)
    }

    fn error(&self, at: usize, problem: String) -> RequirementError {
        RequirementError {
            text: excerpt(self.text),
            at: self.text[..at].chars().count() + 1,
            problem,
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels::parse(["zone=a", "disk=ssd", "cores=16", "model=r7"]).expect("labels")
    }

    fn node() -> NodeName {
        "n1".parse().expect("name")
    }

    #[track_caller]
    fn check(text: &str, want: bool) {
        let requirement: Requirement = text.parse().expect(text);
        assert_eq!(requirement.holds(&node(), &labels()), want, "{text}");
        let printed = requirement.to_string();
        assert_eq!(printed.parse::<Requirement>().expect(&printed), requirement);
    }

    #[test]
    fn requirements_hold_or_not() {
        for (text, want) in [
            ("disk == ssd", true),
            ("disk==hdd", false),
            ("disk != hdd", true),
            ("zone in (a, b)", true),
            ("zone in (b,c)", false),
            ("zone not in (b)", true),
            ("zone not in (a, b)", false),
            ("disk exists", true),
            ("disk not exists", false),
            ("cores >= 16", true),
            ("cores > 16", false),
            ("cores < 17", true),
            ("cores <= 15", false),
            ("model > 1", false),
            ("node == n1", true),
            ("node in (n2, n3)", false),
        ] {
            check(text, want);
        }
    }

    #[test]
    fn of_a_node_without_the_label_holds_what_says_not() {
        for (text, want) in [
            ("gpu == a100", false),
            ("gpu in (a100, h100)", false),
            ("gpu exists", false),
            ("gpu >= 1", false),
            ("gpu != a100", true),
            ("gpu not in (a100, h100)", true),
            ("gpu not exists", true),
        ] {
            check(text, want);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_what_was_expected() {
        let operators = format!("where {OPERATORS} was expected");
        for (text, at, problem) in [
            ("", 1, "it ends where the key of a label was expected".to_string()),
            (
                "== ssd",
                1,
                r#""==" where the key of a label was expected"#.to_string(),
            ),
            ("disk", 5, format!("it ends {operators}")),
            ("disk = ssd", 6, format!(r#""=" {operators}"#)),
            ("disk === ssd", 6, format!(r#""===" {operators}"#)),
            ("disk is ssd", 6, format!(r#""is" {operators}"#)),
            ("disk ==", 8, "it ends where a value was expected".to_string()),
            (
                "disk == -x",
                9,
                r#"label value "-x" must begin with a letter or digit"#.to_string(),
            ),
            (
                "zone in a",
                9,
                r#""a" where a list of values such as (a, b) was expected"#.to_string(),
            ),
            ("zone in ()", 10, r#"")" where a value was expected"#.to_string()),
            (
                "zone in (a b)",
                12,
                r#""b" where a comma or ) was expected"#.to_string(),
            ),
            (
                "zone in (a, b",
                14,
                "it ends where a comma or ) was expected".to_string(),
            ),
            (
                "zone not a",
                10,
                r#""a" where in or exists was expected"#.to_string(),
            ),
            (
                "cores >= many",
                10,
                r#""many" where a whole number was expected"#.to_string(),
            ),
            (
                "disk == ssd, zone == a",
                12,
                r#""," where the end; write one requirement for each condition was expected"#.to_string(),
            ),
            (
                "größe == 1",
                1,
                r#"label key "größe" may hold only letters, digits, '-', '_', '.' and '/'"#.to_string(),
            ),
            ("disk == «x»", 9, r#""«" where a value was expected"#.to_string()),
        ] {
            let error = text.parse::<Requirement>().expect_err(text);
            assert_eq!(
                (error.at, error.problem.as_str()),
                (at, problem.as_str()),
                "{text}"
            );
        }
        let long = format!("disk == {}", "a".repeat(REQUIREMENT_BYTES_MAX));
        assert!(long.parse::<Requirement>().is_err());
        let error = "disk = ssd".parse::<Requirement>().expect_err("one =");
        assert_eq!(
            error.to_string(),
            format!(r#""disk = ssd" at character 6: "=" {operators}"#)
        );
    }
}
