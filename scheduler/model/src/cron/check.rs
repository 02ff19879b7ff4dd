//! Whether the crons of an image go with the rest of it, and with what an operator allows.

use std::collections::BTreeMap;

use super::{CRONS_MAX, Cron};
use crate::{image::Image, name::CronName, text::excerpt};

/// A cron of an image that does not go with the rest of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronsError {
    /// Too many.
    #[error("{count} crons; an app can have at most {CRONS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// It runs what is not there.
    #[error("cron {name} runs {target:?}, and no process type or component has that name")]
    Target {
        /// The cron.
        name: CronName,
        /// What it runs, cut.
        target: String,
        /// What there is.
        known: String,
    },
    /// It runs what never ends.
    #[error("cron {name} runs {target:?}, which {reason}")]
    Shape {
        /// The cron.
        name: CronName,
        /// What it runs, cut.
        target: String,
        /// Why that cannot be run.
        reason: &'static str,
    },
    /// It is due too often.
    #[error("cron {name} ({expression}) is due every {seconds} s; {least} s is the least")]
    Often {
        /// The cron.
        name: CronName,
        /// Its expression.
        expression: String,
        /// Seconds between two due times.
        seconds: u64,
        /// The least of them.
        least: u64,
    },
}

impl CronsError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            CronsError::TooMany { .. } => {
                "let one cron do what is due at the same time, or split the app".to_string()
            }
            CronsError::Target { known, .. } => format!(
                "the Procfile has {known}; a component that only crons run is a line of it too: one that is never \
                 scaled costs nothing"
            ),
            CronsError::Shape { .. } => {
                "add a process type whose component exports wasi:cli/run, such as task: task.wasm, and run that"
                    .to_string()
            }
            CronsError::Often { .. } => {
                "work that is due so often is a process type that waits between; an operator may allow less: \
                 --cron-interval-min 1s"
                    .to_string()
            }
        }
    }
}

/// Checks that the crons of an image go with its process types.
pub fn check_targets(image: &Image) -> Result<(), CronsError> {
    if image.crons.len() > CRONS_MAX {
        let count = image.crons.len();
        return Err(CronsError::TooMany { count });
    }
    for (name, cron) in &image.crons {
        let target = cron.target();
        let Some((_, process, _)) = image.target(target) else {
            let known: Vec<&str> = image.processes.keys().map(|name| name.as_str()).collect();
            return Err(CronsError::Target {
                name: name.clone(),
                target: excerpt(target),
                known: known.join(", "),
            });
        };
        if let Some(reason) = process.shape.never_ends() {
            return Err(CronsError::Shape {
                name: name.clone(),
                target: excerpt(target),
                reason,
            });
        }
    }
    Ok(())
}

/// Checks that no cron is due more often than every `least_s` seconds.
pub fn check_intervals(crons: &BTreeMap<CronName, Cron>, least_s: u64) -> Result<(), CronsError> {
    for (name, cron) in crons {
        let seconds = cron.schedule.interval_s_min();
        if seconds < least_s {
            return Err(CronsError::Often {
                name: name.clone(),
                expression: cron.schedule.expression().to_string(),
                seconds,
                least: least_s,
            });
        }
    }
    Ok(())
}
