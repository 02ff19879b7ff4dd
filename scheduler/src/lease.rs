//! Which of several control planes on one store plans.
//!
//! In: the lease's record, as every control plane reads it, and the moments of its own clock. Out: whether
//! this one plans. The holder changes the record now and then; one whose record does not change for a while,
//! as the others see it, is gone, and the first of them to claim the lease has it.
//!
//! Invariant: nothing is safe because of the lease: every plan is committed under the check of its epoch. It
//! keeps control planes from planning the same twice, and from moving instances to and fro while a node can
//! be heard by one of them and not by the other.
//! Invariant: clocks of two machines are never compared.

use std::time::{Duration, Instant};

use gilliam_store::{Check, CommitError, Expect, RangeError, Store, Write, keys, records};
use serde::{Deserialize, Serialize};

/// The record renews so often within the time after which its holder is held gone.
const RENEWALS_PER_PATIENCE: u32 = 3;

/// The record of the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    /// The life of the control plane that plans.
    holder: String,
    /// Grows with every renewal.
    beat: u64,
}

/// What one control plane has seen of the lease.
#[derive(Debug)]
pub(crate) struct Watch {
    /// How long the record may stay as it is.
    patience: Duration,
    /// The record as it was last seen, and since when.
    seen: Option<(Lease, Instant)>,
}

/// What a look at the record says.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// This one plans.
    Plan,
    /// This one plans if the record can be set to this.
    Write(Lease),
    /// Another plans.
    Stand,
}

/// A lease that could be neither read nor written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error(transparent)]
    Read(#[from] RangeError),
    #[error(transparent)]
    Commit(CommitError),
}

impl Watch {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, seen: None }
    }

    /// Looks at the record, renews or claims the lease when that is due, and says whether `me` plans.
    pub(crate) async fn holds(&mut self, store: &Store, me: &str, now: Instant) -> Result<bool, LeaseError> {
        let stored = records::load::<Lease>(store, keys::LEASE).await?;
        let lease = match self.step(stored.as_ref().map(|stored| &stored.value), me, now) {
            Step::Plan => return Ok(true),
            Step::Stand => return Ok(false),
            Step::Write(lease) => lease,
        };
        let check = Check {
            key: keys::LEASE.to_string(),
            expect: Expect::unchanged(stored.map(|stored| stored.revision)),
        };
        match store.commit(&[check], &[put(&lease)]).await {
            Ok(_) => {
                self.seen = Some((lease, now));
                Ok(true)
            }
            Err(CommitError::Conflict { .. }) => Ok(false),
            Err(error) => Err(LeaseError::Commit(error)),
        }
    }

    /// Gives the lease up, so that another plans at once.
    pub(crate) async fn release(&self, store: &Store, me: &str) {
        let held = records::load::<Lease>(store, keys::LEASE).await.ok().flatten();
        if let Some(held) = held.filter(|held| held.value.holder == me) {
            let write = records::delete(held.key.clone());
            if let Err(error) = store.commit(&[held.unchanged()], &[write]).await {
                tracing::debug!(%error, "the planner's lease runs out instead of being given up");
            }
        }
    }

    fn step(&mut self, stored: Option<&Lease>, me: &str, now: Instant) -> Step {
        let mine = |beat| Lease {
            holder: me.to_owned(),
            beat,
        };
        let Some(stored) = stored else {
            return Step::Write(mine(0));
        };
        let since = match &self.seen {
            Some((seen, since)) if seen == stored => *since,
            _ => {
                self.seen = Some((stored.clone(), now));
                now
            }
        };
        let age = now.saturating_duration_since(since);
        let is_due = match stored.holder == me {
            true => age >= self.patience / RENEWALS_PER_PATIENCE,
            false => age >= self.patience,
        };
        match (is_due, stored.holder == me) {
            (true, _) => Step::Write(mine(stored.beat + 1)),
            (false, true) => Step::Plan,
            (false, false) => Step::Stand,
        }
    }
}

fn put(lease: &Lease) -> Write {
    records::put(keys::LEASE.to_string(), lease)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(9);

    #[tokio::test]
    async fn one_plans_until_it_is_silent_for_too_long() {
        let store = Store::memory();
        let (mut a, mut b) = (Watch::new(PATIENCE), Watch::new(PATIENCE));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let holds = async |watch: &mut Watch, me, seconds| {
            watch.holds(&store, me, at(seconds)).await.expect("memory")
        };
        assert!(holds(&mut a, "a", 0).await, "the first to ask has it");
        assert!(!holds(&mut b, "b", 0).await);
        for second in (0..30).step_by(2) {
            assert!(holds(&mut a, "a", second).await);
            assert!(!holds(&mut b, "b", second + 1).await);
        }
        assert!(!holds(&mut b, "b", 37).await, "b saw it change at 29");
        assert!(holds(&mut b, "b", 38).await, "a was silent for 9 seconds");
        assert!(!holds(&mut a, "a", 38).await, "who comes back does not plan");
        b.release(&store, "b").await;
        assert!(holds(&mut a, "a", 39).await, "what is given up is free at once");
        b.release(&store, "b").await;
        assert!(holds(&mut a, "a", 40).await, "nobody gives up what another holds");
    }

    #[tokio::test]
    async fn of_two_that_claim_at_once_one_plans() {
        let store = Store::memory();
        let now = Instant::now();
        let (mut a, mut b) = (Watch::new(PATIENCE), Watch::new(PATIENCE));
        let (a, b) = tokio::join!(a.holds(&store, "a", now), b.holds(&store, "b", now));
        assert_eq!(u8::from(a.expect("memory")) + u8::from(b.expect("memory")), 1);
    }
}
