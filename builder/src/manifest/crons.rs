//! `[cron]`: what an app has run on a schedule.

use std::collections::BTreeMap;

use gilliam_model::{
    cron::{CRONS_MAX, Cron, CronError, CronSpec, Missed, Overlap, UTC},
    name::{CronName, NameError},
    quantity::Unit,
    text::excerpt,
};
use toml::Spanned;

use super::{ManifestError, Section, Value, content, unfit};
use crate::words;

const KEYS: &str = "schedule, run, timezone, missed, overlap, timeout";
const EXAMPLE: &str = "a table such as { schedule = \"0 3 * * *\", run = \"worker cleanup\" }";

/// Reads the section: a table for each cron, under its name.
pub(super) fn read(text: &str, section: &Section) -> Result<BTreeMap<CronName, Cron>, ManifestError> {
    if let Some((one_too_many, _)) = section.iter().nth(CRONS_MAX) {
        let message = format!("{CRONS_MAX} crons are the most that an app can have");
        return Err(content(text, one_too_many.span().start, message, None));
    }
    let mut crons = BTreeMap::new();
    for (name, value) in section {
        let at = name.span().start;
        let parsed: Result<CronName, NameError> = name.get_ref().parse();
        let parsed = parsed.map_err(|error| content(text, at, error.to_string(), None))?;
        let Value::Table(table) = value.get_ref() else {
            let (at, value) = (value.span().start, value.get_ref());
            return Err(unfit(text, at, name.get_ref(), value, EXAMPLE));
        };
        crons.insert(parsed, cron(text, name, table)?);
    }
    Ok(crons)
}

fn cron(text: &str, name: &Spanned<String>, table: &Section) -> Result<Cron, ManifestError> {
    let mut spec = CronSpec {
        schedule: String::new(),
        run: Vec::new(),
        timezone: UTC.to_string(),
        missed: Missed::default(),
        overlap: Overlap::default(),
        run_ms_max: None,
    };
    let (mut schedule_at, mut run_at, mut zone_at) = (None, None, None);
    for (key, value) in table {
        let at = value.span().start;
        let (key_at, key, value) = (key.span().start, key.get_ref().as_str(), value.get_ref());
        match (key, value) {
            ("schedule", Value::Text(expression)) => {
                spec.schedule = expression.clone();
                schedule_at = Some(at);
            }
            ("run", Value::Text(command)) => {
                spec.run = words::split(command)
                    .map_err(|error| content(text, at, format!("{:?} {error}", excerpt(command)), None))?;
                run_at = Some(at);
            }
            ("timezone", Value::Text(zone)) => {
                spec.timezone = zone.clone();
                zone_at = Some(at);
            }
            ("missed", Value::Text(missed)) => {
                spec.missed = missed
                    .parse()
                    .map_err(|error| content(text, at, format!("missed: {error}"), None))?;
            }
            ("overlap", Value::Text(overlap)) => {
                let found = Overlap::ALL.into_iter().find(|known| known.as_str() == overlap);
                spec.overlap = found.ok_or_else(|| unfit(text, at, key, value, "skip, allow or replace"))?;
            }
            ("timeout", Value::Text(timeout)) => {
                let ms = Unit::Millis.parse(timeout);
                let expected = Unit::Millis.expected();
                spec.run_ms_max = Some(ms.ok_or_else(|| unfit(text, at, key, value, expected))?);
            }
            ("schedule", _) => {
                return Err(unfit(
                    text,
                    at,
                    key,
                    value,
                    "a cron expression such as \"0 3 * * *\"",
                ));
            }
            ("run", _) => {
                return Err(unfit(
                    text,
                    at,
                    key,
                    value,
                    "a command such as \"worker cleanup\"",
                ));
            }
            ("timezone", _) => {
                return Err(unfit(text, at, key, value, "a name such as \"Europe/Stockholm\""));
            }
            ("missed", _) => {
                return Err(unfit(
                    text,
                    at,
                    key,
                    value,
                    "\"once\", \"skip\" or a time such as \"10m\"",
                ));
            }
            ("overlap", _) => return Err(unfit(text, at, key, value, "\"skip\", \"allow\" or \"replace\"")),
            ("timeout", _) => return Err(unfit(text, at, key, value, Unit::Millis.expected())),
            _ => {
                let message = format!("unknown key {:?} of cron {}", excerpt(key), name.get_ref());
                let hint = Some(format!("the keys are {KEYS}"));
                return Err(content(text, key_at, message, hint));
            }
        }
    }
    for (key, found) in [("schedule", schedule_at), ("run", run_at)] {
        if found.is_none() {
            let message = format!("cron {} has no {key}", name.get_ref());
            let hint = format!("write it as {EXAMPLE}");
            return Err(content(text, name.span().start, message, Some(hint)));
        }
    }
    Cron::try_from(spec).map_err(|error| {
        use gilliam_model::cron::ScheduleError;
        let at = match &error {
            CronError::Schedule(ScheduleError::Zone { .. }) => zone_at,
            CronError::Schedule(_) => schedule_at,
            _ => run_at,
        };
        let at = at.unwrap_or(name.span().start);
        let message = format!("cron {}: {error}", name.get_ref());
        content(text, at, message, Some(error.hint()))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    fn crons(text: &str) -> Result<BTreeMap<CronName, Cron>, ManifestError> {
        let entries = crate::procfile::parse(b"web: web.wasm\nworker: worker.wasm").expect("Procfile");
        parse(text.as_bytes(), &entries).map(|manifest| manifest.crons)
    }

    #[track_caller]
    fn refused(text: &str, message: &str, hint: &str) {
        let error = crons(text).expect_err(text);
        assert_eq!(error.to_string(), format!("gilliam.toml line {message}"));
        let found = error.hint().unwrap_or_default();
        assert!(found.contains(hint), "{found}");
    }

    #[test]
    fn crons_are_read_in_one_line_or_as_a_table() {
        let text = r#"
            [cron]
            cleanup = { schedule = "0 3 * * *", run = "worker.wasm cleanup", timezone = "Europe/Stockholm" }
            [cron.report]
            schedule = "*/5 * * * *"
            run = "worker 'month 3'"
            missed = "10m"
            overlap = "replace"
            timeout = "30m"
        "#;
        let crons = crons(text).expect(text);
        let (cleanup, report) = (&crons["cleanup"], &crons["report"]);
        assert_eq!(cleanup.schedule.to_string(), "0 3 * * * (Europe/Stockholm)");
        assert_eq!(cleanup.run, ["worker.wasm", "cleanup"]);
        assert_eq!((cleanup.missed, cleanup.overlap), (Missed::Once, Overlap::Skip));
        assert_eq!(report.run, ["worker", "month 3"]);
        assert_eq!(
            (report.missed, report.overlap),
            (Missed::Within { ms: 600_000 }, Overlap::Replace)
        );
        assert_eq!(report.run_ms_max, Some(1_800_000));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_the_way_out() {
        refused(
            "[cron]\na = \"0 3 * * *\"",
            "2, column 5: a = \"0 3 * * *\" is not a table such as \
             { schedule = \"0 3 * * *\", run = \"worker cleanup\" }",
            "",
        );
        refused(
            "[cron]\na = { schedule = \"0 3 * * *\" }",
            "2, column 1: cron a has no run",
            "write it as",
        );
        refused(
            "[cron.a]\nrun = \"worker\"\nschedule = \"0 3 * *\"",
            "3, column 12: cron a: \"0 3 * *\" is not a cron expression: it has 4 fields",
            "minute, hour, day of month",
        );
        refused(
            "[cron.a]\nrun = \"worker\"\nschedule = \"0 3 30 2 *\"",
            "3, column 12: cron a: \"0 3 30 2 *\" never fires: there is no such day",
            "L as day of month",
        );
        refused(
            "[cron.a]\nrun = \"worker\"\nschedule = \"@daily\"\ntimezone = \"Stockholm\"",
            "4, column 12: cron a: \"Stockholm\" is not a time zone",
            "is it Europe/Stockholm?",
        );
        refused(
            "[cron.a]\nrun = \"worker 'x\"\nschedule = \"@daily\"",
            "2, column 7: \"worker 'x\" has a ' without its pair",
            "",
        );
        refused(
            "[cron.a]\nrun = \"worker\"\nschedule = \"@daily\"\noverlap = \"queue\"",
            "4, column 11: overlap = \"queue\" is not skip, allow or replace",
            "",
        );
        refused(
            "[cron.a]\nrun = \"worker\"\nschedul = \"@daily\"",
            "3, column 1: unknown key \"schedul\" of cron a",
            KEYS,
        );
        refused(
            "[cron.A]\nrun = \"worker\"\nschedule = \"@daily\"",
            "1, column 7: cron name \"A\" must begin with a lower-case letter",
            "",
        );
    }
}
