//! The operator's choices about placement, which every control plane of a cluster follows.
//!
//! In: what a control plane was started with. Out: one record in the store, and what plans are made by.
//!
//! Invariant: there is one set of choices, in the store: control planes that were started with different flags follow
//! the same, whichever of them plans. Whoever was started with a flag last has set it.

use gilliam_plan::{Policy, Rebalance};
use gilliam_store::{Check, CommitError, Expect, RangeError, Store, keys, records};
use serde::{Deserialize, Serialize};

/// Tries of a change that others changed meanwhile.
const TRIES_MAX: usize = 5;

/// The record; what is not there is as by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Choices {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_overcommit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_overcommit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rebalance: Option<Threshold>,
}

/// When slots move for a better spread without being asked to, as [`Rebalance`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Threshold {
    skew_max: u32,
    slots_max: u32,
}

/// What to change of the operator's choices; what is none stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// How many times over a node's memory is promised.
    pub memory_overcommit: Option<u32>,
    /// How many times over a node's cores are promised; within, none for no bound.
    pub cpu_overcommit: Option<Option<u32>>,
    /// When slots move for a better spread without being asked to; within, none for never.
    pub rebalance: Option<Option<Rebalance>>,
}

/// Choices that could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// What there is could not be read.
    #[error("the choices about placement could not be read")]
    Read(#[from] RangeError),
    /// The store did not take them.
    #[error("the choices about placement could not be stored")]
    Store(#[source] CommitError),
}

impl Choices {
    /// What plans are made by; `asked` is whether an operator asked for a better spread.
    pub(crate) fn policy(&self, asked: bool) -> Policy {
        let default = Policy::default();
        let threshold = self.rebalance.map(|threshold| Rebalance {
            skew_max: threshold.skew_max,
            slots_max: threshold.slots_max,
        });
        Policy {
            memory_overcommit: self.memory_overcommit.unwrap_or(default.memory_overcommit),
            cpu_overcommit: self.cpu_overcommit,
            rebalance: match asked {
                true => Some(Rebalance::default()),
                false => threshold,
            },
            ..default
        }
    }

    fn changed(self, change: &PolicyChange) -> Self {
        let threshold = |rebalance: Rebalance| Threshold {
            skew_max: rebalance.skew_max,
            slots_max: rebalance.slots_max,
        };
        Self {
            memory_overcommit: change.memory_overcommit.or(self.memory_overcommit),
            cpu_overcommit: change.cpu_overcommit.unwrap_or(self.cpu_overcommit),
            rebalance: match change.rebalance {
                Some(rebalance) => rebalance.map(threshold),
                None => self.rebalance,
            },
        }
    }
}

impl PolicyChange {
    /// Changes the record in a store; control planes that run on it follow at once.
    pub async fn apply(&self, store: &Store) -> Result<(), PolicyError> {
        if *self == Self::default() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            let stored = records::load::<Choices>(store, keys::POLICY).await?;
            let before = stored.as_ref().map(|stored| stored.value).unwrap_or_default();
            let after = before.changed(self);
            if before == after {
                return Ok(());
            }
            let check = Check {
                key: keys::POLICY.to_string(),
                expect: Expect::unchanged(stored.map(|stored| stored.revision)),
            };
            let write = records::put(keys::POLICY.to_string(), &after);
            tries += 1;
            match store.commit(&[check], &[write]).await {
                Ok(_) => {
                    tracing::info!(
                        ?before,
                        ?after,
                        "the choices about placement are others from now on"
                    );
                    return Ok(());
                }
                Err(CommitError::Conflict { .. }) if tries < TRIES_MAX => {}
                Err(error) => return Err(PolicyError::Store(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_named_stays_as_another_set_it() {
        let store = Store::memory();
        let policy = async || {
            let stored = records::load::<Choices>(&store, keys::POLICY)
                .await
                .expect("memory");
            stored
                .map(|stored| stored.value)
                .unwrap_or_default()
                .policy(false)
        };
        assert_eq!(policy().await, Policy::default());
        let first = PolicyChange {
            memory_overcommit: Some(2),
            cpu_overcommit: Some(Some(8)),
            ..PolicyChange::default()
        };
        first.apply(&store).await.expect("memory");
        let threshold = Rebalance {
            skew_max: 3,
            slots_max: 10,
        };
        let second = PolicyChange {
            cpu_overcommit: Some(None),
            rebalance: Some(Some(threshold)),
            ..PolicyChange::default()
        };
        second.apply(&store).await.expect("memory");
        let want = Policy {
            memory_overcommit: 2,
            cpu_overcommit: None,
            rebalance: Some(threshold),
            ..Policy::default()
        };
        assert_eq!(policy().await, want);
        let revision = store.range(keys::POLICY).await.expect("memory").0;
        second.apply(&store).await.expect("memory");
        PolicyChange::default().apply(&store).await.expect("memory");
        assert_eq!(
            store.range(keys::POLICY).await.expect("memory").0,
            revision,
            "nothing new"
        );
    }

    #[test]
    fn who_asks_for_a_better_spread_gets_the_best_there_is() {
        let lazy = Choices::default().changed(&PolicyChange {
            rebalance: Some(Some(Rebalance {
                skew_max: 9,
                slots_max: 1,
            })),
            ..PolicyChange::default()
        });
        assert_eq!(lazy.policy(true).rebalance, Some(Rebalance::default()));
        assert_eq!(lazy.policy(false).rebalance.map(|r| r.skew_max), Some(9));
    }
}
