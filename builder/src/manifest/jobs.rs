//! Keys of `[process.NAME]` that say which jobs it does, and how many.

use gilliam_model::queue::{JobTerms, QUEUE_CONCURRENCY_MAX};

use super::{ManifestError, Value, content, unfit};

pub(super) const QUEUE: &str = "queue";
pub(super) const QUEUE_CONCURRENCY: &str = "queue_concurrency";
pub(super) const RATE: &str = "rate";

/// Reads one of these keys.
pub(super) fn read(
    text: &str,
    at: usize,
    key: &str,
    value: &Value,
    terms: &mut JobTerms,
) -> Result<(), ManifestError> {
    match (key, value) {
        (QUEUE, Value::Text(name)) => {
            let queue = name
                .parse()
                .map_err(|error| content(text, at, format!("{error}"), None))?;
            terms.queue = Some(queue);
        }
        (QUEUE_CONCURRENCY, Value::Integer(number)) => {
            let within = u32::try_from(*number)
                .ok()
                .filter(|n| (1..=QUEUE_CONCURRENCY_MAX).contains(n));
            let range = || {
                let message = format!("{key} = {value} is outside 1 to {QUEUE_CONCURRENCY_MAX}");
                content(text, at, message, Some("leave it out for no limit".to_string()))
            };
            terms.running_max = Some(within.ok_or_else(range)?);
        }
        (RATE, Value::Text(rate)) => {
            let rate = rate
                .parse()
                .map_err(|error| content(text, at, format!("{error}"), None))?;
            terms.rate = Some(rate);
        }
        (QUEUE, _) => return Err(unfit(text, at, key, value, "the name of a queue")),
        (RATE, _) => return Err(unfit(text, at, key, value, "a rate such as \"10/s\"")),
        _ => return Err(unfit(text, at, key, value, "a whole number")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{manifest::parse, procfile};

    fn of_emails(line: &str) -> Result<gilliam_model::queue::JobTerms, String> {
        let entries = procfile::parse(b"emails: worker.wasm").expect("Procfile");
        let all = parse(format!("[process.emails]\n{line}").as_bytes(), &entries);
        let mut all = all.map_err(|error| error.to_string())?;
        Ok(all.processes.remove("emails").expect("emails").jobs)
    }

    #[test]
    fn a_process_says_its_queue_and_how_many_jobs_of_it_run_and_begin() {
        let terms = of_emails("queue = \"mail\"\nconcurrency = 8\nqueue_concurrency = 40\nrate = \"10/s\"");
        let terms = terms.expect("terms");
        assert_eq!(terms.queue.expect("queue").as_str(), "mail");
        assert_eq!(terms.running_max, Some(40));
        assert_eq!(terms.rate.expect("rate").to_string(), "10/s");
    }

    #[test]
    fn terms_that_cannot_be_kept_are_refused_with_what_could() {
        for (line, message) in [
            ("queue = 1", "column 9: queue = 1 is not the name of a queue"),
            (
                "queue_concurrency = 0",
                "column 21: queue_concurrency = 0 is outside 1 to 1000000",
            ),
            (
                "queue_concurrency = \"x\"",
                "column 21: queue_concurrency = \"x\" is not a whole number",
            ),
            ("rate = 10", "column 8: rate = 10 is not a rate such as \"10/s\""),
            (
                "rate = \"fast\"",
                "column 8: \"fast\" is not a rate such as 10/s, 600/min or 5/h, of 1 to 100000 jobs",
            ),
        ] {
            assert_eq!(of_emails(line), Err(format!("gilliam.toml line 2, {message}")));
        }
        assert!(of_emails("queue = \"No Name\"").is_err());
    }
}
