//! Those that wait for jobs of one queue: instances that take them by themselves. Pure.
//!
//! Invariant: a job is given to the one that has waited longest, and none gets more than it asked for.

use std::{collections::BTreeMap, mem};

use gilliam_model::queue::GivenJob;

/// One of those that wait: larger for who came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Who waits, in the order in which they came.
#[derive(Debug)]
pub(super) struct Takers<T> {
    waiting: BTreeMap<Ticket, Waiting<T>>,
    next: u64,
    /// Jobs that they would take in all.
    room: u32,
}

#[derive(Debug)]
struct Waiting<T> {
    taker: T,
    room: u32,
    jobs: Vec<GivenJob>,
}

impl<T> Default for Takers<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
            room: 0,
        }
    }
}

impl<T> Takers<T> {
    /// Has `taker` wait for at least one and at most `max` jobs.
    pub(super) fn wait(&mut self, taker: T, max: u32) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.room = self.room.saturating_add(max);
        let waiting = Waiting {
            taker,
            room: max,
            jobs: Vec::new(),
        };
        self.waiting.insert(ticket, waiting);
        ticket
    }

    /// It waits no more.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.room = self.room.saturating_sub(waiting.room);
        }
    }

    /// Gives a job to the first that has room; back when nobody has any.
    pub(super) fn give(&mut self, job: GivenJob) -> Option<GivenJob> {
        // Those in front are full, if any: they go with the end of the batch.
        let Some(first) = self.waiting.values_mut().find(|waiting| waiting.room > 0) else {
            return Some(job);
        };
        first.room -= 1;
        self.room = self.room.saturating_sub(1);
        first.jobs.push(job);
        None
    }

    /// Those that have jobs now: they wait no more.
    pub(super) fn served(&mut self) -> Vec<(T, Vec<GivenJob>)> {
        let mut served = Vec::new();
        // They are the first, for they were given jobs in their order.
        while let Some(first) = self.waiting.first_entry() {
            if first.get().jobs.is_empty() {
                break;
            }
            let Waiting {
                taker,
                room,
                mut jobs,
            } = first.remove();
            self.room = self.room.saturating_sub(room);
            served.push((taker, mem::take(&mut jobs)));
        }
        served
    }

    /// Jobs that would be taken in all.
    pub(super) fn room(&self) -> u32 {
        self.room
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::queue::{JobId, LeaseId, Payload, QueueId};

    use super::*;

    fn job(id: u64) -> GivenJob {
        GivenJob {
            queue: QueueId {
                app: "shop".parse().expect("app"),
                queue: "emails".parse().expect("queue"),
            },
            id: JobId(id),
            lease: LeaseId(1),
            attempt: 1,
            payload: Payload::default(),
        }
    }

    fn served(takers: &mut Takers<&'static str>) -> Vec<(&'static str, Vec<u64>)> {
        let served = takers.served().into_iter();
        served
            .map(|(taker, jobs)| (taker, jobs.iter().map(|job| job.id.0).collect()))
            .collect()
    }

    #[test]
    fn who_came_first_is_served_first_and_with_no_more_than_was_asked() {
        let mut takers = Takers::default();
        takers.wait("one", 1);
        takers.wait("three", 3);
        let last = takers.wait("last", 1);
        assert_eq!(takers.room(), 5);
        for id in 1..=3 {
            assert_eq!(takers.give(job(id)), None);
        }
        assert_eq!(served(&mut takers), [("one", vec![1]), ("three", vec![2, 3])]);
        assert_eq!(takers.room(), 1, "who was served waits no more");
        takers.leave(last);
        assert_eq!((takers.room(), takers.is_empty()), (0, true));
        assert_eq!(takers.give(job(4)), Some(job(4)), "nobody is there");
        assert_eq!(served(&mut takers), []);
    }

    #[test]
    fn a_batch_larger_than_the_room_comes_back() {
        let mut takers = Takers::default();
        takers.wait("one", 1);
        takers.wait("two", 1);
        assert_eq!(takers.give(job(1)), None);
        assert_eq!(takers.give(job(2)), None);
        assert_eq!(takers.give(job(3)), Some(job(3)));
        assert_eq!(served(&mut takers), [("one", vec![1]), ("two", vec![2])]);
    }
}
