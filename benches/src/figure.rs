//! Figures, for people and for scripts.

use std::path::Path;

use serde_json::{Value, json};

use crate::plot;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Within so many percent of it.
    About(f64, f64),
}

impl Goal {
    /// By how many percent a value misses it; none when it is met.
    pub fn missed_by(self, value: f64) -> Option<f64> {
        let percent = |apart: f64, of: f64| 100.0 * apart / of.abs().max(f64::MIN_POSITIVE);
        match self {
            Goal::AtLeast(goal) => (value < goal).then(|| percent(goal - value, goal)),
            Goal::AtMost(goal) => (value > goal).then(|| percent(value - goal, goal)),
            Goal::About(goal, within) => {
                let apart = percent((value - goal).abs(), goal);
                (apart > within).then_some(apart)
            }
        }
    }

    fn shown(self) -> String {
        match self {
            Goal::AtLeast(goal) => format!(">= {}", number(goal)),
            Goal::AtMost(goal) => format!("<= {}", number(goal)),
            Goal::About(goal, within) => format!("{} ±{within} %", number(goal)),
        }
    }

    /// The value that a line in a plot stands at.
    pub(crate) fn line(self) -> f64 {
        match self {
            Goal::AtLeast(goal) | Goal::AtMost(goal) | Goal::About(goal, _) => goal,
        }
    }
}

/// One measured number.
#[derive(Debug, Clone)]
pub struct Figure {
    /// The scenario.
    pub bench: &'static str,
    /// What it is.
    pub name: String,
    /// The median where it was measured several times.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Smallest and largest measurement.
    pub spread: Option<(f64, f64)>,
    /// What it should be.
    pub goal: Option<Goal>,
    /// Whether it is a peer's.
    pub is_peer: bool,
}

impl Figure {
    pub(crate) fn new(bench: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            bench,
            name: name.into(),
            value,
            unit,
            spread: None,
            goal: None,
            is_peer: false,
        }
    }

    /// The median of measurements, with their spread; zero for none.
    pub(crate) fn median(
        bench: &'static str,
        name: impl Into<String>,
        values: &[f64],
        unit: &'static str,
    ) -> Self {
        let spread = spread(values);
        Self {
            spread: (values.len() > 1).then_some(spread),
            ..Self::new(bench, name, median(values), unit)
        }
    }

    pub(crate) fn goal(self, goal: Goal) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    pub(crate) fn of_peer(self) -> Self {
        Self {
            is_peer: true,
            ..self
        }
    }

    /// What the goal is and whether it is met.
    fn verdict(&self) -> String {
        let Some(goal) = self.goal else {
            return String::new();
        };
        match goal.missed_by(self.value) {
            None => format!("{} met", goal.shown()),
            Some(percent) => format!("{} missed by {} %", goal.shown(), number(percent)),
        }
    }

    fn json(&self) -> Value {
        let mut value =
            json!({"bench": self.bench, "name": self.name, "value": self.value, "unit": self.unit});
        if let Some((min, max)) = self.spread {
            (value["min"], value["max"]) = (min.into(), max.into());
        }
        if let Some(goal) = self.goal {
            value["goal"] = goal.shown().into();
            value["met"] = goal.missed_by(self.value).is_none().into();
        }
        if self.is_peer {
            value["peer"] = true.into();
        }
        value
    }
}

/// The middle of measurements; zero for none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

fn spread(values: &[f64]) -> (f64, f64) {
    let fold = |start: f64, pick: fn(f64, f64) -> f64| values.iter().copied().fold(start, pick);
    (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// Everything that a run measured.
#[derive(Debug)]
pub struct Report {
    facts: Vec<(&'static str, String)>,
    /// In the order they were measured.
    pub figures: Vec<Figure>,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(facts: Vec<(&'static str, String)>) -> Self {
        Self {
            facts,
            figures: Vec::new(),
            notes: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Says something that a reader of the figures must know.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn fail(&mut self, text: String) {
        self.failures.push(text);
    }

    /// What went wrong; empty when everything was measured.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// What was left out, and how something is to be understood.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// `cpu  AMD EPYC`: what it was measured on, a line each.
    pub fn facts(&self) -> Vec<String> {
        self.facts
            .iter()
            .map(|(name, value)| format!("{name:<14} {value}"))
            .collect()
    }

    /// The columns of [`Report::rows`].
    pub const HEADER: &'static [&'static str] = &["BENCH", "FIGURE", "VALUE", "UNIT", "MIN", "MAX", "GOAL"];

    /// A row for each figure, for people.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |f: &Figure| {
            let (min, max) = f
                .spread
                .map_or_else(Default::default, |(min, max)| (number(min), number(max)));
            vec![
                f.bench.to_owned(),
                f.name.clone(),
                number(f.value),
                f.unit.to_owned(),
                min,
                max,
                f.verdict(),
            ]
        };
        self.figures.iter().map(row).collect()
    }

    /// A JSON document for each figure, after one of the machine.
    pub fn lines(&self) -> Vec<Value> {
        let mut machine = json!({"bench": "machine"});
        for (name, value) in &self.facts {
            machine[*name] = value.clone().into();
        }
        let mut lines = vec![machine];
        lines.extend(self.figures.iter().map(Figure::json));
        lines.extend(
            self.notes
                .iter()
                .map(|note| json!({"bench": "note", "text": note})),
        );
        lines.extend(
            self.failures
                .iter()
                .map(|text| json!({"bench": "failure", "text": text})),
        );
        lines
    }

    /// Writes `bench.json` and a plot of each scenario; returns the files' names.
    pub fn write(&self, folder: &Path) -> std::io::Result<Vec<String>> {
        std::fs::create_dir_all(folder)?;
        let mut names = vec!["bench.json".to_owned()];
        std::fs::write(
            folder.join(&names[0]),
            format!("{:#}\n", Value::Array(self.lines())),
        )?;
        let mut benches: Vec<&str> = self.figures.iter().map(|f| f.bench).collect();
        benches.dedup();
        for bench in benches {
            let figures: Vec<&Figure> = self.figures.iter().filter(|f| f.bench == bench).collect();
            let name = format!("{bench}.svg");
            std::fs::write(folder.join(&name), plot::svg(bench, &figures))?;
            names.push(name);
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_missed_by_a_share_of_it() {
        assert_eq!(Goal::AtLeast(100.0).missed_by(100.0), None);
        assert_eq!(Goal::AtLeast(100.0).missed_by(75.0), Some(25.0));
        assert_eq!(Goal::AtMost(4.0).missed_by(4.0), None);
        assert_eq!(Goal::AtMost(4.0).missed_by(5.0), Some(25.0));
        assert_eq!(Goal::About(10.0, 10.0).missed_by(9.0), None);
        assert_eq!(Goal::About(10.0, 10.0).missed_by(12.0), Some(20.0));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]).to_bits(), 0.0f64.to_bits());
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0f64.to_bits());
        assert_eq!(median(&[1.0, 2.0]).to_bits(), 1.5f64.to_bits());
    }

    #[test]
    fn a_line_has_the_four_fields_and_a_row_says_how_the_goal_fares() {
        let mut report = Report::new(vec![("cores", "2".to_owned())]);
        let figure = Figure::median("density", "instances", &[90.0, 80.0, 100.0], "1");
        report.add(figure.goal(Goal::AtLeast(100.0)));
        let lines = report.lines();
        assert_eq!(lines[0]["cores"], "2");
        let want = json!({"bench": "density", "name": "instances", "value": 90.0, "unit": "1",
            "min": 80.0, "max": 100.0, "goal": ">= 100", "met": false});
        assert_eq!(lines[1], want);
        assert_eq!(report.rows()[0][6], ">= 100 missed by 10.0 %");
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(
            report.write(folder.path()).expect("files"),
            ["bench.json", "density.svg"]
        );
    }
}
