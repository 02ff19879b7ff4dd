//! On what terms a process type does jobs: of which queue, and how many of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Rate;
use crate::{
    image::Process,
    name::{ProcessName, QueueName},
};

/// Most jobs of a queue that its terms may let run at once: more than that is no limit.
pub const QUEUE_CONCURRENCY_MAX: u32 = 1_000_000;

/// What `gilliam.toml` says of the jobs of a process type. What is not said is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobTerms {
    /// The queue; the one that is called as the process type unless it is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub queue: Option<QueueName>,
    /// Jobs of the queue that run at once, in all instances of the cluster together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
    /// How many jobs of the queue begin, in all instances of the cluster together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub rate: Option<Rate>,
}

impl JobTerms {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they hold jobs of the queue back.
    pub fn limits(&self) -> bool {
        self.running_max.is_some() || self.rate.is_some()
    }

    /// The queue of a process type of this name.
    pub fn queue_of(&self, process: &ProcessName) -> QueueName {
        let own = || process.as_str().parse::<QueueName>();
        self.queue
            .clone()
            .unwrap_or_else(|| own().expect("names of queues follow the rules of processes"))
    }

    /// What keeps both: while one release takes the place of another, the stricter of the two holds.
    pub fn and(self, other: &JobTerms) -> JobTerms {
        let least = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
        let rates = self.rate.into_iter().chain(other.rate);
        JobTerms {
            queue: self.queue,
            running_max: least(self.running_max, other.running_max),
            rate: rates.max_by_key(|rate| rate.interval_us()),
        }
    }
}

/// Process types whose terms cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobTermsError {
    /// Two for one queue: whose terms hold, and which of the two does a job, would be left to chance.
    #[error("{first} and {second} would both do the jobs of the queue {queue}")]
    Shared {
        /// One.
        first: ProcessName,
        /// The other.
        second: ProcessName,
        /// Their queue.
        queue: QueueName,
    },
    /// Terms for one that does no jobs.
    #[error("{process} has terms for a queue, and does no jobs: its component exports no handler of jobs")]
    NoJobs {
        /// Its name.
        process: ProcessName,
    },
    /// A number that is out of its range.
    #[error(
        "{process} lets {running_max} jobs run at once; a queue's terms say 1 to {QUEUE_CONCURRENCY_MAX}"
    )]
    Range {
        /// Its name.
        process: ProcessName,
        /// The number.
        running_max: u32,
    },
}

impl JobTermsError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            JobTermsError::Shared { .. } => {
                "give each its queue with queue = \"NAME\" in gilliam.toml, or scale one of them instead"
            }
            JobTermsError::NoJobs { .. } => {
                "queue, queue_concurrency and rate are for processes that export gilliam:worker/handler"
            }
            JobTermsError::Range { .. } => "leave it out for no limit",
        }
    }
}

/// Checks the terms of an image's process types.
pub fn check_terms(processes: &BTreeMap<ProcessName, Process>) -> Result<(), JobTermsError> {
    let mut queues: BTreeMap<QueueName, &ProcessName> = BTreeMap::new();
    for (name, process) in processes {
        if !process.shape.takes_jobs() {
            match process.jobs.is_empty() {
                true => continue,
                false => {
                    return Err(JobTermsError::NoJobs {
                        process: name.clone(),
                    });
                }
            }
        }
        if let Some(running_max) = process.jobs.running_max
            && !(1..=QUEUE_CONCURRENCY_MAX).contains(&running_max)
        {
            let process = name.clone();
            return Err(JobTermsError::Range { process, running_max });
        }
        let queue = process.jobs.queue_of(name);
        if let Some(first) = queues.insert(queue.clone(), name) {
            return Err(JobTermsError::Shared {
                first: first.clone(),
                second: name.clone(),
                queue,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(running_max: Option<u32>, rate: Option<&str>) -> JobTerms {
        JobTerms {
            queue: None,
            running_max,
            rate: rate.map(|rate| rate.parse().expect("rate")),
        }
    }

    #[test]
    fn of_two_releases_the_stricter_terms_hold() {
        let both = terms(Some(8), Some("10/s")).and(&terms(Some(2), Some("700/min")));
        assert_eq!(both, terms(Some(2), Some("10/s")));
        assert_eq!(terms(None, None).and(&terms(Some(2), None)), terms(Some(2), None));
        assert_eq!(
            terms(None, Some("1/s")).and(&terms(None, None)),
            terms(None, Some("1/s"))
        );
    }

    #[test]
    fn a_process_has_the_queue_of_its_name_unless_it_says_another() {
        let name: ProcessName = "emails".parse().expect("name");
        assert_eq!(JobTerms::default().queue_of(&name).as_str(), "emails");
        let other = JobTerms {
            queue: Some("mail".parse().expect("queue")),
            ..JobTerms::default()
        };
        assert_eq!(other.queue_of(&name).as_str(), "mail");
    }
}
