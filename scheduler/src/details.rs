//! Details of instances that someone looks at: asked of their node, which answers with its next report.
//!
//! In: what a reader wants to see of large process types, which nodes report without details. Out: what the
//! next answer to a node's sync asks for, and to the reader what the report after it said.
//!
//! ```text
//!   reader ── ask ──► wanted ──► sync's answer ──► node ──► sync's report ── take ──► reader
//! ```
//!
//! Invariant: no question is kept for longer than its reader waits, and of nodes that are gone no more than of those
//! that are there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use gilliam_model::{
    instance::InstanceReport,
    name::NodeName,
    report::{DetailsWanted, ProcessReport, WANTED_COUNT_MAX},
};
use tokio::sync::watch;

/// Times that a node is asked for the same: the first answer may be cut off on its way, and one that does not
/// know what is wanted is not asked for ever.
const TRIES_MAX: u32 = 2;
/// Readers that wait at once; more see what is known without details.
const ASKS_MAX: usize = 256;

/// Nodes besides twice those there were before those that are gone are looked for: each sync asks here, and must not
/// look at all others.
const NODES_SPARE: usize = 64;

/// Who waits for details of which node.
#[derive(Debug, Default)]
pub(crate) struct Details {
    nodes: Mutex<BTreeMap<NodeName, Waiting>>,
    /// How many there were when those that are gone were forgotten last.
    kept: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Wakes the sync of the node.
    asked: watch::Sender<u64>,
    asks: BTreeMap<u64, Pending>,
    last: u64,
}

#[derive(Debug)]
struct Pending {
    wanted: DetailsWanted,
    tries: u32,
    answer: watch::Sender<Option<Arc<Vec<InstanceReport>>>>,
}

/// A question to a node; it is taken back when this is dropped.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    details: &'a Details,
    node: NodeName,
    number: u64,
    answer: watch::Receiver<Option<Arc<Vec<InstanceReport>>>>,
}

impl Details {
    /// Asks a node for details; none when too many wait already.
    pub(crate) fn ask(&self, node: &NodeName, wanted: DetailsWanted) -> Option<Ask<'_>> {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        let waiting = nodes.entry(node.clone()).or_default();
        if waiting.asks.len() >= ASKS_MAX {
            return None;
        }
        waiting.last += 1;
        let (sender, answer) = watch::channel(None);
        let pending = Pending {
            wanted,
            tries: 0,
            answer: sender,
        };
        waiting.asks.insert(waiting.last, pending);
        waiting.asked.send_modify(|n| *n += 1);
        Some(Ask {
            details: self,
            node: node.clone(),
            number: waiting.last,
            answer,
        })
    }

    /// Hears of questions to `node`.
    pub(crate) fn subscribe(&self, node: &NodeName) -> watch::Receiver<u64> {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        if nodes.len() > 2 * self.kept.load(Ordering::Relaxed) + NODES_SPARE {
            nodes.retain(|_, waiting| !waiting.asks.is_empty() || waiting.asked.receiver_count() > 0);
            self.kept.store(nodes.len(), Ordering::Relaxed);
        }
        let mut asked = nodes.entry(node.clone()).or_default().asked.subscribe();
        asked.mark_changed();
        asked
    }

    /// What to ask `node` for now.
    pub(crate) fn wanted(&self, node: &NodeName) -> Vec<DetailsWanted> {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        let asks = nodes
            .get_mut(node)
            .into_iter()
            .flat_map(|waiting| waiting.asks.values_mut());
        let mut wanted = Vec::new();
        for pending in asks.filter(|p| p.answer.borrow().is_none() && p.tries < TRIES_MAX) {
            let is_listed = wanted.contains(&pending.wanted);
            if is_listed || wanted.len() < WANTED_COUNT_MAX {
                pending.tries += 1;
            }
            if !is_listed && wanted.len() < WANTED_COUNT_MAX {
                wanted.push(pending.wanted.clone());
            }
        }
        wanted
    }

    /// Gives what a node reports to those who wait for it.
    pub(crate) fn take(&self, node: &NodeName, reports: &[ProcessReport]) {
        let nodes = self.nodes.lock().expect("no holder panics");
        let asks = nodes
            .get(node)
            .into_iter()
            .flat_map(|waiting| waiting.asks.values());
        for pending in asks.filter(|p| p.tries > 0) {
            let key = pending.wanted.key();
            let Some(report) = reports.iter().find(|report| report.key() == key) else {
                continue;
            };
            let found = report
                .details
                .iter()
                .filter(|detail| pending.wanted.asks_for(&detail.id));
            let found: Vec<InstanceReport> = found.cloned().collect();
            if !found.is_empty() {
                pending.answer.send_replace(Some(Arc::new(found)));
            }
        }
    }
}

impl Ask<'_> {
    /// Waits for the answer, for as long as it is polled.
    pub(crate) async fn answer(mut self) -> Arc<Vec<InstanceReport>> {
        let found = self.answer.wait_for(Option::is_some).await;
        // The sender lives as long as the question.
        found.ok().and_then(|found| found.clone()).unwrap_or_default()
    }
}

impl Drop for Ask<'_> {
    fn drop(&mut self) {
        let mut nodes = self.details.nodes.lock().expect("no holder panics");
        if let Some(waiting) = nodes.get_mut(&self.node) {
            waiting.asks.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::{Timestamp, instance::InstanceState, report::fold};

    use super::*;

    fn node() -> NodeName {
        "a".parse().expect("name")
    }

    fn wanted(first: u32, last: u32) -> DetailsWanted {
        DetailsWanted {
            app: "hello".parse().expect("name"),
            release: "v1".parse().expect("release"),
            process: "worker".parse().expect("name"),
            first,
            last,
        }
    }

    /// A report of 1,000 workers with the details that are asked for.
    fn reports(wanted: &[DetailsWanted]) -> Vec<ProcessReport> {
        let report = |slot: u32| InstanceReport {
            id: format!("hello/v1/worker.{slot}@1").parse().expect("id"),
            state: InstanceState::Running,
            since: Timestamp::UNIX_EPOCH,
            port: None,
            memory_bytes: slot.into(),
            memory_bytes_peak: 0,
            memory_bytes_max: 0,
            fuel_per_s: 0,
            restarts: 0,
            last_failure: None,
            retry_at: None,
        };
        fold((1..=1_000).map(report), wanted)
    }

    #[test]
    fn nodes_that_are_gone_are_forgotten_before_they_are_many() {
        let details = Details::default();
        let stays = details.subscribe(&node());
        for n in 0..10 * NODES_SPARE {
            drop(details.subscribe(&format!("n{n}").parse().expect("name")));
        }
        let nodes = details.nodes.lock().expect("lock");
        assert!(nodes.len() <= 2 * NODES_SPARE, "{}", nodes.len());
        assert!(nodes.contains_key(&node()) && stays.has_changed().is_ok());
    }

    #[tokio::test]
    async fn what_is_asked_goes_to_the_node_and_its_answer_to_those_who_asked() {
        let details = Details::default();
        let mut asked = details.subscribe(&node());
        asked.mark_unchanged();
        let page = details.ask(&node(), wanted(5, 6)).expect("room");
        let same = details.ask(&node(), wanted(5, 6)).expect("room");
        let other = details.ask(&node(), wanted(900, 900)).expect("room");
        assert!(asked.has_changed().expect("open"));
        let sent = details.wanted(&node());
        assert_eq!(sent, [wanted(5, 6), wanted(900, 900)]);
        details.take(&node(), &reports(&sent[..1]));
        let slots: Vec<u32> = page.answer().await.iter().map(|detail| detail.id.slot).collect();
        assert_eq!((slots, same.answer().await.len()), (vec![5, 6], 2));
        assert_eq!(details.wanted(&node()), [wanted(900, 900)], "asked once more");
        assert!(details.wanted(&node()).is_empty(), "and not for ever");
        drop(other);
        assert!(details.nodes.lock().expect("lock")[&node()].asks.is_empty());
    }
}
