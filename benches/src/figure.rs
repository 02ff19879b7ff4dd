//! Figures, for people and for scripts.

/// One measured number.
#[derive(Debug)]
struct Figure {
    bench: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
}

/// All figures of a run, in the order they were measured.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    pub(crate) fn add(
        &mut self,
        bench: &'static str,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        let name = name.into();
        eprintln!("{bench:<10} {name:<44} {value:>14.2} {unit}");
        self.0.push(Figure {
            bench,
            name,
            value,
            unit,
        });
    }

    /// A table for people, then a JSON line per figure.
    pub(crate) fn print(&self) {
        for f in &self.0 {
            println!("{:<10} {:<44} {:>14.2} {}", f.bench, f.name, f.value, f.unit);
        }
        for f in &self.0 {
            let line =
                serde_json::json!({"bench": f.bench, "name": f.name, "value": f.value, "unit": f.unit});
            println!("{line}");
        }
    }
}
