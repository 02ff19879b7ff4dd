//! `[process.NAME.placement]`: on which nodes a process may run, and where it had better.

use std::num::NonZeroU32;

use gilliam_model::{
    name::ProcessName,
    requirement::{Requirement, RequirementError},
    rules::{APART_MAX, PlacementRules, REQUIREMENTS_MAX, Spread, WEIGHT_MAX},
};
use toml::Spanned;

use super::{ManifestError, Section, Value, content, unfit};
use crate::procfile::Entry;

/// The section's name.
pub(super) const PLACEMENT: &str = "placement";
const KEYS: &str = "require, rank, spread, anti_affinity, max_per_node";

/// Reads the rules of the process `own`; `entries` are what it can keep away from.
pub(super) fn read(
    text: &str,
    section: &Section,
    own: &ProcessName,
    entries: &[Entry],
) -> Result<PlacementRules, ManifestError> {
    let mut rules = PlacementRules::default();
    for (key, value) in section {
        let (at, key_at) = (value.span().start, key.span().start);
        let (key, value) = (key.get_ref().as_str(), value.get_ref());
        match (key, value) {
            ("require", Value::List(list)) => {
                within(text, at, "requirements", list.len(), REQUIREMENTS_MAX)?;
                let each = list.iter().map(|entry| requirement(text, entry));
                rules.require = each.collect::<Result<_, _>>()?;
            }
            ("rank", Value::Table(table)) => {
                within(text, at, "ranks", table.len(), REQUIREMENTS_MAX)?;
                for (expression, weight) in table {
                    let requirement = requirement(text, expression)?;
                    rules
                        .rank
                        .insert(requirement, self::weight(text, expression, weight)?);
                }
            }
            ("spread", Value::Text(over)) => {
                rules.spread = over.parse::<Spread>().map_err(|error| {
                    let hint = "name a label such as zone or rack, node for nodes alone, or none";
                    content(text, at, format!("spread: {error}"), Some(hint.to_string()))
                })?;
            }
            ("anti_affinity", Value::List(list)) => {
                within(text, at, "process types", list.len(), APART_MAX)?;
                for entry in list {
                    rules.anti_affinity.insert(other(text, entry, own, entries)?);
                }
            }
            ("max_per_node", Value::Integer(number)) => {
                let count = u32::try_from(*number).ok().and_then(NonZeroU32::new);
                rules.max_per_node =
                    Some(count.ok_or_else(|| unfit(text, at, key, value, "a whole number from 1"))?);
            }
            ("require", _) => return Err(unfit(text, at, key, value, "a list of requirements")),
            ("rank", _) => {
                let expected = "a table such as { \"disk == ssd\" = 10 }";
                return Err(unfit(text, at, key, value, expected));
            }
            ("spread", _) => return Err(unfit(text, at, key, value, "the key of a label, node or none")),
            ("anti_affinity", _) => return Err(unfit(text, at, key, value, "a list of process types")),
            ("max_per_node", _) => return Err(unfit(text, at, key, value, "a whole number from 1")),
            _ => {
                let message = format!("unknown key {:?} of placement", gilliam_model::text::excerpt(key));
                return Err(content(
                    text,
                    key_at,
                    message,
                    Some(format!("the keys are {KEYS}")),
                ));
            }
        }
    }
    Ok(rules)
}

fn within(text: &str, at: usize, what: &str, count: usize, max: usize) -> Result<(), ManifestError> {
    if count <= max {
        return Ok(());
    }
    let message = format!("{count} {what}; a process can have at most {max}");
    Err(content(text, at, message, None))
}

fn requirement(text: &str, entry: &Spanned<String>) -> Result<Requirement, ManifestError> {
    entry.get_ref().parse().map_err(|error: RequirementError| {
        let hint = error.hint().to_string();
        content(text, entry.span().start, error.to_string(), Some(hint))
    })
}

fn weight(text: &str, expression: &Spanned<String>, weight: &Spanned<Value>) -> Result<i32, ManifestError> {
    let number = match weight.get_ref() {
        Value::Integer(number) => i32::try_from(*number).ok(),
        _ => None,
    };
    let fitting = number.filter(|n| *n != 0 && (-WEIGHT_MAX..=WEIGHT_MAX).contains(n));
    fitting.ok_or_else(|| {
        let expected = format!("a whole number from -{WEIGHT_MAX} to {WEIGHT_MAX} other than 0");
        unfit(
            text,
            weight.span().start,
            expression.get_ref(),
            weight.get_ref(),
            &expected,
        )
    })
}

/// A process type of the Procfile other than `own`.
fn other(
    text: &str,
    entry: &Spanned<String>,
    own: &ProcessName,
    entries: &[Entry],
) -> Result<ProcessName, ManifestError> {
    let name = entry.get_ref().as_str();
    let at = entry.span().start;
    if name == own.as_str() {
        let message = format!("anti_affinity of {own} names itself");
        let hint = "max_per_node = 1 keeps its instances apart".to_string();
        return Err(content(text, at, message, Some(hint)));
    }
    let known = entries.iter().find(|entry| entry.name.as_str() == name);
    known.map(|entry| entry.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let message = format!(
            "anti_affinity names {:?}, which is not in the Procfile",
            gilliam_model::text::excerpt(name)
        );
        content(
            text,
            at,
            message,
            Some(format!("the Procfile has {}", names.join(", "))),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    fn entries() -> Vec<Entry> {
        crate::procfile::parse(b"web: web.wasm\nworker: worker.wasm").expect("Procfile")
    }

    #[track_caller]
    fn refused(rules: &str, message: &str, hint: Option<&str>) {
        let text = format!("[process.web.placement]\n{rules}");
        let error = parse(text.as_bytes(), &entries()).expect_err(&text);
        assert_eq!(error.to_string(), format!("gilliam.toml line {message}"));
        let found = error.hint().unwrap_or_default();
        assert!(hint.is_none_or(|hint| found.contains(hint)), "{found}");
    }

    #[test]
    fn every_rule_is_read() {
        let text = r#"
            [process.web]
            memory = "64MiB"
            [process.web.placement]
            require = ["disk == ssd", "zone in (a, b)", "gpu not exists"]
            spread = "rack"
            anti_affinity = ["worker"]
            max_per_node = 2
            [process.web.placement.rank]
            "disk == ssd" = 10
            "zone == b" = -5
        "#;
        let settings = parse(text.as_bytes(), &entries()).expect(text).processes;
        let requirement = |text: &str| text.parse::<Requirement>().expect(text);
        let rules = PlacementRules {
            require: ["disk == ssd", "zone in (a, b)", "gpu not exists"]
                .map(requirement)
                .into(),
            rank: [(requirement("disk == ssd"), 10), (requirement("zone == b"), -5)].into(),
            spread: "rack".parse().expect("a label"),
            anti_affinity: ["worker".parse().expect("name")].into(),
            max_per_node: NonZeroU32::new(2),
        };
        assert_eq!(settings["web"].placement, rules);
        assert_eq!(settings["web"].limits.memory_bytes_max, 64 << 20);
        assert!(settings["worker"].placement.is_empty());
    }

    #[test]
    fn a_rank_may_be_written_in_one_line() {
        let text = "[process.web]\nplacement = { rank = { \"disk exists\" = 1 }, spread = \"none\" }";
        let settings = parse(text.as_bytes(), &entries()).expect(text).processes;
        assert_eq!(settings["web"].placement.rank.len(), 1);
        assert_eq!(settings["web"].placement.spread, Spread::None);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_what_was_expected() {
        refused(
            "require = [\"zone == a\", \"disk = ssd\"]",
            "2, column 25: \"disk = ssd\" at character 6: \"=\" where ==, !=, <, <=, >, >=, in, not in, \
             exists or not exists was expected",
            Some("disk == ssd"),
        );
        refused(
            "require = \"disk == ssd\"",
            "2, column 11: require = \"disk == ssd\" is not a list of requirements",
            None,
        );
        refused(
            "rank = { \"disk == ssd\" = 1000 }",
            "2, column 26: disk == ssd = 1000 is not a whole number from -100 to 100 other than 0",
            None,
        );
        refused(
            "rank = [\"disk == ssd\"]",
            "2, column 8: rank = […] is not a table such as { \"disk == ssd\" = 10 }",
            None,
        );
        refused(
            "spread = \"a b\"",
            "2, column 10: spread: label key \"a b\" may hold only letters, digits, '-', '_', '.' and '/'",
            Some("name a label"),
        );
        refused(
            "anti_affinity = [\"clock\"]",
            "2, column 18: anti_affinity names \"clock\", which is not in the Procfile",
            Some("web, worker"),
        );
        refused(
            "anti_affinity = [\"web\"]",
            "2, column 18: anti_affinity of web names itself",
            Some("max_per_node = 1"),
        );
        refused(
            "max_per_node = 0",
            "2, column 16: max_per_node = 0 is not a whole number from 1",
            None,
        );
        refused(
            "spred = \"zone\"",
            "2, column 1: unknown key \"spred\" of placement",
            Some(KEYS),
        );
    }
}
