//! Questions about services: asked of the node that has their data, which waits for them and answers.
//!
//! ```text
//!   reader ── ask ──► waiting ──► the node's wait ──► node ──► its answer ── take ──► reader
//! ```
//!
//! Invariant: no question is kept for longer than its reader waits, and a node gets each once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use gilliam_model::{
    code::Code,
    name::NodeName,
    service::{BoundService, ServiceAnswer, ServiceQuestion, ServiceVerb},
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::refusal::Refusal;

/// Questions to one node that wait or are being answered: each may hold a body of some mebibytes.
const ASKED_MAX: usize = 64;
/// Questions that go to a node in one answer.
const AT_ONCE_MAX: usize = 8;

/// Who waits for answers of which node.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    nodes: Mutex<BTreeMap<NodeName, Asked>>,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    waiting: VecDeque<ServiceQuestion>,
    answers: BTreeMap<u64, oneshot::Sender<ServiceAnswer>>,
    /// Wakes the node's wait.
    woken: watch::Sender<()>,
}

/// Takes a question back when its reader is gone.
struct Place<'a> {
    questions: &'a Questions,
    node: &'a NodeName,
    number: u64,
}

impl Questions {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeName, Asked>> {
        self.nodes.lock().expect("no holder panics")
    }

    /// The answer of a node, if it comes within `limit`.
    pub(crate) async fn ask(
        &self,
        node: &NodeName,
        service: BoundService,
        verb: ServiceVerb,
        limit: Duration,
    ) -> Result<ServiceAnswer, Refusal> {
        let deadline = Instant::now() + limit;
        let (sender, answered) = oneshot::channel();
        let number = {
            let mut nodes = self.nodes();
            let asked = nodes.entry(node.clone()).or_default();
            if asked.answers.len() >= ASKED_MAX {
                return Err(Refusal::busy("questions about services"));
            }
            asked.last += 1;
            let number = asked.last;
            asked.answers.insert(number, sender);
            asked.waiting.push_back(ServiceQuestion {
                number,
                service,
                verb,
            });
            asked.woken.send_replace(());
            number
        };
        let _place = Place {
            questions: self,
            node,
            number,
        };
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => {
                let message = format!("node {node}, which has the data, does not answer");
                Err(Refusal::new(Code::S22, message).hint("gilliam nodes says how it is; try again"))
            }
        }
    }

    /// Hears of questions to a node.
    pub(crate) fn subscribe(&self, node: &NodeName) -> watch::Receiver<()> {
        let mut nodes = self.nodes();
        // Of nodes that are gone nothing is kept.
        nodes.retain(|_, asked| !asked.answers.is_empty() || asked.woken.receiver_count() > 0);
        nodes.entry(node.clone()).or_default().woken.subscribe()
    }

    /// The questions that wait for a node.
    pub(crate) fn waiting(&self, node: &NodeName) -> Vec<ServiceQuestion> {
        let mut nodes = self.nodes();
        let Some(asked) = nodes.get_mut(node) else {
            return Vec::new();
        };
        let count = asked.waiting.len().min(AT_ONCE_MAX);
        asked.waiting.drain(..count).collect()
    }

    /// Gives a node's answer to who waits for it.
    pub(crate) fn take(&self, node: &NodeName, number: u64, answer: ServiceAnswer) {
        let mut nodes = self.nodes();
        let sender = nodes
            .get_mut(node)
            .and_then(|asked| asked.answers.remove(&number));
        if let Some(sender) = sender {
            // An error says that nobody waits any more.
            let _ = sender.send(answer);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut nodes = self.questions.nodes();
        if let Some(asked) = nodes.get_mut(self.node) {
            asked.answers.remove(&self.number);
            asked.waiting.retain(|question| question.number != self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::{
        Timestamp,
        service::{Service, ServiceId, ServiceKind},
    };

    use super::*;

    fn node() -> NodeName {
        "n1".parse().expect("name")
    }

    fn cache() -> BoundService {
        BoundService {
            name: "cache".parse().expect("name"),
            id: ServiceId {
                app: "shop".parse().expect("name"),
                name: "cache".parse().expect("name"),
                made_at: Timestamp::UNIX_EPOCH,
            },
            service: Service::new(ServiceKind::Keyvalue),
        }
    }

    #[tokio::test]
    async fn a_question_goes_to_its_node_once_and_the_answer_to_who_asked() {
        let questions = Questions::default();
        let node = node();
        let limit = Duration::from_secs(60);
        let asking = questions.ask(&node, cache(), ServiceVerb::Usage, limit);
        let answering = async {
            let mut asked = questions.subscribe(&node);
            let question = loop {
                match questions.waiting(&node).pop() {
                    Some(question) => break question,
                    None => asked.changed().await.expect("open"),
                }
            };
            assert!(questions.waiting(&node).is_empty(), "it is given out once");
            let answer = ServiceAnswer {
                status: 200,
                ..ServiceAnswer::default()
            };
            questions.take(&node, question.number, answer.clone());
            questions.take(&node, question.number, answer);
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer.expect("answered").status, 200);
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_is_named_and_the_question_forgotten() {
        let questions = Questions::default();
        let n1 = node();
        let asked = questions.ask(&n1, cache(), ServiceVerb::Usage, Duration::ZERO);
        let error = asked.await.expect_err("nobody is there").into_error();
        assert_eq!(error.code, Code::S22);
        assert!(error.message.contains("node n1"), "{}", error.message);
        assert!(questions.waiting(&n1).is_empty());
    }
}
