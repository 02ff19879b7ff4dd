//! The conversation with the control plane: reports up, assignments down, in one long poll.
//!
//! The poll is cut off and sent again when something here changed that the control plane should know.
//!
//! Invariant: an assignment of an older generation than the present one is refused.
//! Invariant: nothing here stops what runs: while the control plane is gone, the last assignment holds.

use std::{sync::Arc, time::Duration};

use gilliam_model::{
    assignment::Assignment,
    sync::{NodeFacts, PROTOCOL, SyncRequest, SyncResponse},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    artefacts::Artefacts,
    assignment_file::AssignmentFile,
    backoff,
    board::Board,
    control::{Control, ControlError},
    entropy,
    ingress::Ingress,
    logs::Logs,
};

/// How long an answer may wait for news: short enough that a node that cannot be reached any more is noticed.
const WAIT_MS: u32 = 5_000;
/// Changes of state gather this long before the next report.
const GATHER: Duration = Duration::from_millis(30);
/// Changes of figures alone are reported this often.
const FIGURES_INTERVAL: Duration = Duration::from_secs(2);
/// Waits after failed calls: doubling from the first to the last.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(800);
/// Wait after an answer that was of no use, so that a control plane that gives such answers is not flooded.
const USELESS_WAIT: Duration = Duration::from_secs(1);

/// The agent of a node.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) control: Arc<Control>,
    pub(crate) board: Arc<Board>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) ingress: Ingress,
    pub(crate) artefacts: Arc<Artefacts>,
    pub(crate) file: AssignmentFile,
    pub(crate) facts: NodeFacts,
    pub(crate) assignment: watch::Sender<Option<Arc<Assignment>>>,
}

impl Agent {
    /// Syncs for as long as it is polled.
    pub(crate) async fn run(self) {
        let mut states = self.board.watch_states();
        let mut figures = self.board.watch_figures();
        // Names the life of the control plane that was last spoken to.
        let mut control = String::new();
        let mut retry = RETRY_MIN;
        loop {
            states.borrow_and_update();
            figures.borrow_and_update();
            let request = self.report(&control);
            let sent = Instant::now();
            let answer = tokio::select! {
                answer = self.sync(&request) => answer,
                () = news(&mut states, &mut figures, sent) => continue,
            };
            match answer {
                Ok(answer) => {
                    retry = RETRY_MIN;
                    if !control.is_empty() && control != answer.control {
                        tracing::info!("the control plane was started again");
                        self.logs.rewind();
                    }
                    control.clone_from(&answer.control);
                    self.logs.release();
                    if !self.take(answer).await && sent.elapsed() < GATHER {
                        sleep(USELESS_WAIT).await;
                    }
                }
                Err(error) => {
                    self.control.failed();
                    self.logs.hold();
                    tracing::debug!(%error, "the control plane does not answer");
                    sleep(backoff::spread(retry, entropy::jitter())).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn sync(&self, request: &SyncRequest) -> Result<SyncResponse, ControlError> {
        Ok(self.control.client()?.sync(&self.facts.name, request).await?)
    }

    fn report(&self, control: &str) -> SyncRequest {
        let generation = self
            .assignment
            .borrow()
            .as_ref()
            .map_or(0, |assignment| assignment.generation);
        SyncRequest {
            protocol: PROTOCOL,
            node: self.facts.clone(),
            generation,
            control: control.to_owned(),
            instances: self.board.reports(),
            wait_ms: WAIT_MS,
        }
    }

    /// Follows the answer's assignment; false when there is none to follow.
    async fn take(&self, answer: SyncResponse) -> bool {
        let Some(assignment) = answer.assignment else {
            return false;
        };
        let generation = self
            .assignment
            .borrow()
            .as_ref()
            .map_or(0, |assignment| assignment.generation);
        if assignment.generation < generation {
            tracing::warn!(
                present = generation,
                offered = assignment.generation,
                "refused an older assignment"
            );
            return false;
        }
        let assignment = Arc::new(assignment);
        self.follow(assignment.clone());
        let (file, artefacts) = (self.file.clone(), self.artefacts.clone());
        let kept = tokio::task::spawn_blocking(move || {
            file.write(&assignment);
            artefacts.keep_only(&assignment);
        });
        let _ = kept.await;
        self.logs.forget_unused();
        true
    }

    /// Makes an assignment the present one.
    pub(crate) fn follow(&self, assignment: Arc<Assignment>) {
        self.ingress.set_routes(&assignment.routes);
        self.assignment.send_replace(Some(assignment));
    }
}

/// Waits until there is something to report that is worth a new call.
async fn news(states: &mut watch::Receiver<u64>, figures: &mut watch::Receiver<u64>, sent: Instant) {
    let state = async {
        let _ = states.changed().await;
        sleep(GATHER).await;
    };
    let figure = async {
        sleep_until(sent + FIGURES_INTERVAL).await;
        let _ = figures.changed().await;
    };
    tokio::select! {
        () = state => {}
        () = figure => {}
    }
}
