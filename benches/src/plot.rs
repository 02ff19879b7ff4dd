//! One picture of a scenario's figures: a bar each, ours and peers', and a line where the goal is.
//!
//! Figures of one unit share a scale and stand together; a unit whose figures are orders of magnitude apart
//! is drawn on a logarithmic one, and says so.

use std::fmt::Write as _;

use crate::figure::Figure;

const WIDTH: f64 = 960.0;
/// Where bars begin; names are left of it.
const LEFT: f64 = 420.0;
/// Room behind the longest bar, for its number.
const RIGHT: f64 = 120.0;
const ROW: f64 = 20.0;
const HEAD: f64 = 34.0;
/// Largest over smallest value that one linear scale shows.
const LINEAR_MAX: f64 = 200.0;

/// The picture as SVG.
pub(crate) fn svg(title: &str, figures: &[&Figure]) -> String {
    let mut units: Vec<&str> = Vec::new();
    for figure in figures {
        if !units.contains(&figure.unit) {
            units.push(figure.unit);
        }
    }
    let mut body = String::new();
    let mut y = HEAD;
    for unit in units {
        let group: Vec<&Figure> = figures.iter().copied().filter(|f| f.unit == unit).collect();
        let scale = Scale::of(&group);
        text(&mut body, 8.0, y + 14.0, "unit", &scale.label(unit));
        y += ROW;
        for figure in group {
            row(&mut body, figure, &scale, y);
            y += ROW;
        }
        y += ROW / 2.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<style>.unit{{font-weight:bold}} .name{{text-anchor:end}} .ours{{fill:#4269d0}} \
         .peer{{fill:#9c9c9c}} .goal{{stroke:#d62728;stroke-width:2}} .spread{{stroke:#222}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"16\">gilliam bench {}: ours blue, peers grey, goals red</text>\n\
         {body}</svg>\n",
        escaped(title)
    )
}

/// How a value becomes a length.
struct Scale {
    /// The value at the left end; none for a linear scale, which begins at zero.
    from: Option<f64>,
    to: f64,
}

impl Scale {
    fn of(group: &[&Figure]) -> Self {
        let values = || {
            group
                .iter()
                .flat_map(|f| {
                    [
                        Some(f.value),
                        f.goal.map(super::figure::Goal::line),
                        f.spread.map(|(_, max)| max),
                    ]
                })
                .flatten()
                .filter(|v| *v > 0.0)
        };
        let to = values().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let least = values().fold(to, f64::min);
        Self {
            from: (to / least > LINEAR_MAX).then_some(least / 2.0),
            to,
        }
    }

    fn length(&self, value: f64) -> f64 {
        let share = match self.from {
            None => value / self.to,
            Some(from) => (value / from).max(1.0).ln() / (self.to / from).ln(),
        };
        share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn label(&self, unit: &str) -> String {
        let log = if self.from.is_some() { ", logarithmic" } else { "" };
        format!("in {unit}{log}")
    }
}

fn row(body: &mut String, figure: &Figure, scale: &Scale, y: f64) {
    let class = if figure.is_peer { "peer" } else { "ours" };
    let length = scale.length(figure.value);
    text(body, LEFT - 6.0, y + 13.0, "name", &figure.name);
    let mut line = |class: &str, from: f64, to: f64, top: f64, bottom: f64| {
        let _ = writeln!(
            body,
            "<line class=\"{class}\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>"
        );
    };
    if let Some((min, max)) = figure.spread {
        let middle = y + ROW - 3.0;
        line(
            "spread",
            LEFT + scale.length(min),
            LEFT + scale.length(max),
            middle,
            middle,
        );
    }
    if let Some(goal) = figure.goal {
        let x = LEFT + scale.length(goal.line());
        line("goal", x, x, y, y + ROW - 1.0);
    }
    let _ = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" \
         opacity=\"0.8\"/>",
        y + 2.0,
        ROW - 7.0
    );
    text(
        body,
        LEFT + length + 6.0,
        y + 13.0,
        "value",
        &format!("{:.3}", figure.value),
    );
}

fn text(body: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let text = escaped(text);
    // Writing to a String cannot fail.
    let _ = writeln!(
        body,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Goal;

    #[test]
    fn bars_goals_and_peers_are_drawn_and_names_are_escaped() {
        let ours = Figure::new("http", "a < b & c", 50.0, "1/s").goal(Goal::AtLeast(100.0));
        let peer = Figure::new("http", "peer", 100_000.0, "1/s").of_peer();
        let svg = svg("http", &[&ours, &peer]);
        assert_eq!(svg.matches("<rect class=\"ours\"").count(), 1);
        assert_eq!(svg.matches("<rect class=\"peer\"").count(), 1);
        assert_eq!(svg.matches("class=\"goal\"").count(), 1);
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("in 1/s, logarithmic"));
    }
}
