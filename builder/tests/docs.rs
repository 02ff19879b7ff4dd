//! What `docs/procfile.md` shows is what the builder reads.

use std::{fs, path::Path};

use gilliam_builder::{
    manifest::{self, Settings},
    procfile::{self, Entry},
};
use gilliam_model::limits::LimitName;

fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/procfile.md");
    fs::read_to_string(path).expect("docs/procfile.md")
}

/// The first fenced block after `heading`.
fn block(text: &str, heading: &str) -> String {
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect(heading);
    let (_, block) = section.split_once("```").expect("a block");
    let (_, block) = block.split_once('\n').expect("its first line");
    block.split_once("```").expect("its end").0.to_string()
}

fn entries(text: &str) -> Vec<Entry> {
    procfile::parse(block(text, "Procfile").as_bytes()).expect("the Procfile shown")
}

#[test]
fn the_examples_are_read() {
    let text = text();
    let entries = entries(&text);
    assert_eq!(entries.len(), 3);
    let settings = manifest::parse(block(&text, "gilliam.toml").as_bytes(), &entries)
        .expect("the file shown")
        .processes;
    assert_eq!(
        settings["web"].allowed_outbound_hosts,
        ["https://api.example.com".parse().expect("a host")]
    );
    assert_eq!(settings["worker"].allowed_outbound_hosts.len(), 2);
    assert_eq!(settings["clock"].limits, Settings::default().limits);
}

#[test]
fn the_table_has_the_defaults_and_the_ranges() {
    let text = text();
    let entries = entries(&text);
    let (_, table) = text.split_once("| key of `[process.NAME]` |").expect("the table");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.split('|')
                .map(|cell| cell.trim().trim_matches('`'))
                .collect()
        })
        .collect();
    let mut checked = 0;
    for row in rows {
        let (key, default, range) = (row[1], row[2], row[3]);
        let read = |value: &str| {
            manifest::parse(format!("[process.web]\n{key} = {value}\n").as_bytes(), &entries).map(
                |mut all| {
                    let settings = all.processes.remove("web").expect("the Procfile shown has web");
                    settings.limits
                },
            )
        };
        let Some((min, max)) = range.split_once(" to ") else {
            assert!(
                matches!(
                    key,
                    "allowed_outbound_hosts"
                        | "guard_pages"
                        | "link"
                        | "queue"
                        | "queue_concurrency"
                        | "rate"
                ),
                "{key}"
            );
            continue;
        };
        assert_eq!(read(default).expect(key), Settings::default().limits, "{key}");
        let name = LimitName::of_key(key).expect("a limit");
        let shown = (name.show(name.range().0), name.show(name.range().1));
        assert_eq!((min.to_string(), max.to_string()), shown, "{key}");
        let code = name.code().map(|code| format!("({code})")).unwrap_or_default();
        assert!(row[4].contains(&code), "{key} says {code}");
        let quoted = |value: &str| match value.parse::<f64>() {
            Ok(_) => value.to_string(),
            Err(_) => format!("\"{value}\""),
        };
        for value in [min, max] {
            assert!(read(&quoted(value)).is_ok(), "{key} = {value}");
        }
        checked += 1;
    }
    assert_eq!(checked, LimitName::ALL.len());
}
