//! Queues whose jobs wait for their terms, not for workers: as many run as may, or as many have begun.
//!
//! In flow what takings gave; out flows when it is worth it to take again. A node that waits for such a queue is not
//! told of its jobs before, or it would ask without end.
//!
//! Invariant: this only saves calls. What may run is decided where jobs are leased; a queue is held for at most
//! [`HELD_MAX`], because other servers may know better.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gilliam_model::queue::{JobTerms, QueueId};
use tokio::{sync::Notify, time::Instant};

/// Longest time that a queue is held: a place may have become free where this server does not see it.
const HELD_MAX: Duration = Duration::from_secs(1);
/// Shortest: jobs that are due one after another begin together.
const HELD_MIN: Duration = Duration::from_millis(5);

/// The queues that are held, each until when.
#[derive(Debug, Default)]
pub(crate) struct Held {
    until: Mutex<HashMap<QueueId, Instant>>,
    freed: Notify,
}

impl Held {
    fn until(&self) -> MutexGuard<'_, HashMap<QueueId, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a queue that gave fewer jobs than were asked for and has more.
    pub(crate) fn hold(&self, queue: &QueueId, terms: &JobTerms, now: Instant) {
        let mut until = self.until();
        until.retain(|_, until| *until > now);
        until.insert(queue.clone(), now + longest(terms));
    }

    /// Takes note that jobs of these queues are over: their places are free.
    pub(crate) fn free<'a>(&self, queues: impl Iterator<Item = &'a QueueId>) {
        let mut until = self.until();
        if until.is_empty() {
            return;
        }
        let n_held = until.len();
        for queue in queues {
            until.remove(queue);
        }
        if until.len() < n_held {
            self.freed.notify_waiters();
        }
    }

    /// Wakes when a queue is free that was held.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    /// Those of `queues` that are not held; and when the first of the others is free.
    pub(crate) fn sort_out(&self, queues: Vec<QueueId>, now: Instant) -> (Vec<QueueId>, Option<Instant>) {
        let held = self.until();
        let mut next: Option<Instant> = None;
        let free = queues.into_iter().filter(|queue| match held.get(queue) {
            Some(until) if *until > now => {
                next = Some(next.map_or(*until, |next| next.min(*until)));
                false
            }
            _ => true,
        });
        (free.collect(), next)
    }
}

fn longest(terms: &JobTerms) -> Duration {
    let turn = terms.rate.map(|rate| Duration::from_micros(rate.interval_us()));
    turn.unwrap_or(HELD_MAX).clamp(HELD_MIN, HELD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> QueueId {
        QueueId {
            app: "shop".parse().expect("app"),
            queue: name.parse().expect("queue"),
        }
    }

    fn terms(running_max: Option<u32>, rate: Option<&str>) -> JobTerms {
        JobTerms {
            queue: None,
            running_max,
            rate: rate.map(|rate| rate.parse().expect("rate")),
        }
    }

    #[test]
    fn a_held_queue_is_left_out_until_its_turn_or_until_a_job_of_it_ends() {
        let (held, now) = (Held::default(), Instant::now());
        let all = || vec![queue("emails"), queue("reports"), queue("sums")];
        held.hold(&queue("emails"), &terms(Some(1), None), now);
        held.hold(&queue("sums"), &terms(Some(1), Some("10/s")), now);
        let turn = now + Duration::from_millis(100);
        assert_eq!(held.sort_out(all(), now), (vec![queue("reports")], Some(turn)));
        let (free, next) = held.sort_out(all(), turn);
        assert_eq!((free.len(), next), (2, Some(now + HELD_MAX)));
        held.free([queue("emails"), queue("reports")].iter());
        assert_eq!(held.sort_out(all(), turn), (all(), None));
    }
}
