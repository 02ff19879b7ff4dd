//! The conversation with the control planes: reports up, assignments down, in one long poll with each.
//!
//! The poll is cut off and sent again when something here changed that the control plane should know. What is
//! cut off may not have arrived, so every now and then one goes its whole way.
//!
//! Every control plane is told everything, since each may be the one that plans; the newest assignment holds,
//! whichever of them it comes from.
//!
//! Invariant: an assignment of an older generation than the present one is refused.
//! Invariant: nothing here stops what runs: while the control plane is gone, the last assignment holds.

use std::{pin::pin, sync::Arc, time::Duration};

use gilliam_client::ClientError;
use gilliam_model::{
    assignment::Assignment,
    peer::PeerTable,
    sync::{NodeFacts, PROTOCOL, SyncRequest, SyncResponse},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    artefacts::Artefacts,
    backoff,
    board::Board,
    control::{Control, ControlError},
    entropy,
    ingress::Ingress,
    jobs::Jobs,
    kept::Kept,
    logs::Logs,
    patience::Patience,
    reporter::{Report, Reporter},
    supervisor::Ledger,
};

/// The status that says: you are not of this cluster any more.
const GONE: u16 = 410;
/// Changes of state gather this long before the next report.
const GATHER: Duration = Duration::from_millis(30);
/// Changes of figures alone are reported this often.
const FIGURES_INTERVAL: Duration = Duration::from_secs(2);
/// Waits after failed calls: doubling from the first to the last.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(800);
/// Longest wait for what is to stop to be told so: orders to a hundred thousand instances take less.
const OBEY_MAX: Duration = Duration::from_secs(1);
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
    pub(crate) file: Kept<Assignment>,
    pub(crate) facts: NodeFacts,
    pub(crate) assignment: watch::Sender<Option<Arc<Assignment>>>,
    /// The last table of peers that was taken.
    pub(crate) peers: watch::Sender<Option<Arc<PeerTable>>>,
    /// Why the cluster wants nothing of this node any more, once that is so.
    pub(crate) dismissed: watch::Sender<Option<String>>,
    /// Held while an assignment is taken over: two control planes may send theirs at once.
    pub(crate) taking: tokio::sync::Mutex<()>,
    /// The generation of the last assignment of which nothing that it does not want runs on.
    pub(crate) obeyed: watch::Receiver<u64>,
    pub(crate) jobs: Arc<Jobs>,
    /// What is known of runs.
    pub(crate) runs: Arc<Ledger>,
}

impl Agent {
    /// Syncs with every control plane for as long as it is polled.
    pub(crate) async fn run(self) {
        let talks = (0..self.control.count()).map(|way| self.talk(way));
        futures::future::join_all(talks).await;
    }

    /// Syncs with one control plane.
    async fn talk(&self, way: usize) {
        let mut states = self.board.watch_states();
        let mut figures = self.board.watch_figures();
        let mut runs = self.runs.changes();
        // Names the life of the control plane that was last spoken to.
        let mut control = String::new();
        let mut retry = RETRY_MIN;
        let mut answered = Instant::now();
        let mut reporter = Reporter::default();
        let mut patience = Patience::new();
        // The version of the table of peers that was taken from this life of this control plane.
        let mut peers = 0;
        loop {
            states.borrow_and_update();
            figures.borrow_and_update();
            runs.borrow_and_update();
            let (sent, moment) = (Instant::now(), self.ingress.vigil().moment());
            let is_overdue = sent - answered >= patience.overdue_after();
            let wait = if is_overdue {
                Duration::ZERO
            } else {
                patience.wait()
            };
            // One of them is followed: two may have heard of different nodes.
            let wants_peers = self.ingress.has_peers() && self.control.is_chosen(way);
            peers = if wants_peers { peers } else { 0 };
            let request = SyncRequest {
                peers: wants_peers.then_some(peers),
                ..self.request(&control, reporter.next(&self.board), wait)
            };
            let answer = tokio::select! {
                answer = self.sync(way, &request, patience.limit(wait)) => answer,
                () = news(&mut states, &mut figures, &mut runs, sent), if !is_overdue => continue,
                () = self.ingress.vigil().doubted_since(moment) => continue,
            };
            match answer {
                Ok(answer) => {
                    (retry, answered) = (RETRY_MIN, Instant::now());
                    patience.answered(answer.dead_after_ms);
                    let is_other = control != answer.control;
                    self.control.answered(way);
                    self.ship_logs(way, is_other && !control.is_empty());
                    control.clone_from(&answer.control);
                    peers = if is_other { 0 } else { peers };
                    let has_peers = answer.peers.is_some();
                    if let Some(newest) = &answer.peers {
                        self.ingress.set_peers(newest);
                        self.peers.send_replace(Some(Arc::new(newest.clone())));
                        self.artefacts.set_others(newest.nodes.len().saturating_sub(1));
                        peers = newest.version;
                    }
                    reporter.answered(&answer, is_other);
                    // One that meets this node for the first time, or asks for more, answers at once as well.
                    let dead_after = answer.dead_after_ms;
                    let is_useless =
                        !self.take(answer).await && !has_peers && !reporter.is_asked() && !is_overdue;
                    self.obey().await;
                    self.ingress.vigil().obeyed(moment, dead_after);
                    if is_useless && sent.elapsed() < GATHER {
                        sleep(USELESS_WAIT).await;
                    }
                }
                Err(error) => {
                    if matches!(&error, ControlError::Client(ClientError::Timeout { .. })) {
                        patience.gave_up();
                    }
                    self.control.unanswered(way);
                    self.logs.hold(way);
                    self.tell(&error);
                    sleep(backoff::spread(retry, entropy::jitter())).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn sync(
        &self,
        way: usize,
        request: &SyncRequest,
        limit: Duration,
    ) -> Result<SyncResponse, ControlError> {
        let client = self.control.client_of(way)?;
        Ok(client.sync(&self.facts.name, request, limit).await?)
    }

    /// Has log lines go to a control plane, from the first that it may lack.
    fn ship_logs(&self, way: usize, is_another_life: bool) {
        if is_another_life {
            tracing::info!("a control plane was started again");
            self.logs.rewind(way);
        }
        self.logs.release(way);
    }

    /// Says why there is no answer: an outage quietly, a refusal aloud, and a dismissal for good.
    fn tell(&self, error: &ControlError) {
        let ControlError::Client(ClientError::Api { status, error }) = error else {
            tracing::debug!(%error, "the control plane does not answer");
            return;
        };
        let hint = error.hint.as_deref().unwrap_or_default();
        tracing::warn!(
            status,
            hint,
            "the control plane refuses this node: {}",
            error.message
        );
        if *status == GONE {
            self.dismissed.send_replace(Some(error.message.clone()));
        }
    }

    fn request(&self, control: &str, report: Report, wait: Duration) -> SyncRequest {
        let generation = self
            .assignment
            .borrow()
            .as_ref()
            .map_or(0, |assignment| assignment.generation);
        let Report {
            number,
            base,
            processes,
            gone,
        } = report;
        SyncRequest {
            protocol: PROTOCOL,
            node: self.facts.clone(),
            generation,
            control: control.to_owned(),
            number,
            base,
            processes,
            gone,
            runs: self.runs.reports(),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            peers: None,
        }
    }

    /// Follows the answer's assignment; false when there is none to follow.
    async fn take(&self, answer: SyncResponse) -> bool {
        let Some(assignment) = answer.assignment else {
            return false;
        };
        let _taking = self.taking.lock().await;
        let generation = self
            .assignment
            .borrow()
            .as_ref()
            .map_or(0, |assignment| assignment.generation);
        if assignment.generation == generation && generation > 0 {
            return false;
        }
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

    /// Waits, where requests are held back for it, until nothing takes requests that the assignment does not want.
    async fn obey(&self) {
        if self.ingress.vigil().is_clear() {
            return;
        }
        let generation = self
            .assignment
            .borrow()
            .as_ref()
            .map_or(0, |assignment| assignment.generation);
        let mut obeyed = self.obeyed.clone();
        let followed = obeyed.wait_for(|followed| *followed >= generation);
        let _ = tokio::time::timeout(OBEY_MAX, followed).await;
    }

    /// Makes an assignment the present one.
    pub(crate) fn follow(&self, assignment: Arc<Assignment>) {
        self.ingress.expect(&assignment);
        self.ingress.set_routes(&assignment.routes);
        self.assignment.send_replace(Some(assignment));
    }
}

/// Waits until there is something to report that is worth a new call.
async fn news(
    states: &mut watch::Receiver<u64>,
    figures: &mut watch::Receiver<u64>,
    runs: &mut watch::Receiver<u64>,
    sent: Instant,
) {
    let state = async {
        let _ = futures::future::select(pin!(states.changed()), pin!(runs.changed())).await;
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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, path::Path};

    use bytes::Bytes;
    use gilliam_engine::{Engines, EnginesConfig};
    use gilliam_model::{Timestamp, instance::InstanceId, report::ProcessKey};
    use gilliam_serve::{ServeConfig, drain};
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::{body::Incoming, service::service_fn};

    use super::*;
    use crate::{config::ControlAddress, lock::node_folder, slots::Place};

    fn agent(data: &Path, api: String) -> Agent {
        std::fs::create_dir(node_folder(data)).expect("folder");
        let token = "gil_test".to_owned();
        let control = Arc::new(Control::new(ControlAddress::Url { api, token }));
        let config = EnginesConfig {
            http_p2_slots: 1,
            p3_slots: 1,
            command_slots: 1_000,
            ..EnginesConfig::default()
        };
        let engines = Engines::new(&config).expect("engines");
        let artefacts = Artefacts::open(
            data,
            engines,
            control.clone(),
            vec!["false".into()],
            Arc::new(Logs::new(1)),
            None,
        );
        let logs = Arc::new(Logs::new(1));
        Agent {
            control,
            board: Board::new(),
            ingress: Ingress::new(logs.clone(), None, Arc::new(crate::vigil::Vigil::new())),
            logs,
            artefacts: Arc::new(artefacts.expect("artefacts")),
            file: Kept::assignment(data),
            facts: NodeFacts {
                name: "n1".parse().expect("name"),
                host: String::new(),
                version: String::new(),
                pid: 1,
                http: String::new(),
                cpus: 1,
                memory_bytes: 1,
                peer: None,
                instances_max: None,
                cpu_millis: None,
                labels: gilliam_model::label::Labels::default(),
                started_at: Timestamp::UNIX_EPOCH,
            },
            assignment: watch::Sender::new(None),
            peers: watch::Sender::new(None),
            dismissed: watch::Sender::new(None),
            taking: tokio::sync::Mutex::default(),
            obeyed: watch::channel(0).1,
            jobs: Arc::default(),
            runs: Arc::new(Ledger::new()),
        }
    }

    /// A control plane that takes a tenth of a second to read a report, and counts those it has read.
    async fn slow(read: Arc<watch::Sender<u32>>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = request.into_body().collect().await.expect("a report").to_bytes();
        let request: SyncRequest = serde_json::from_slice(&body).expect("a report");
        sleep(Duration::from_millis(100)).await;
        read.send_modify(|count| *count += 1);
        sleep(Duration::from_millis(request.wait_ms.into())).await;
        let answer = SyncResponse {
            control: "life".to_owned(),
            assignment: None,
            resync: false,
            details: Vec::new(),
            dead_after_ms: None,
            peers: None,
        };
        Response::new(Full::new(serde_json::to_vec(&answer).expect("json").into()))
    }

    #[tokio::test]
    async fn reports_arrive_although_states_change_all_the_time() {
        let data = tempfile::tempdir().expect("folder");
        let config = ServeConfig::new("127.0.0.1:0".parse().expect("address"));
        let (server, address) = gilliam_serve::bind(&config).expect("bind");
        let (_trigger, signal) = drain::channel();
        let (read, mut reports) = watch::channel(0);
        let read = Arc::new(read);
        let service = service_fn(move |request| {
            let answer = slow(read.clone(), request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        tokio::spawn(server.run(service, signal));
        let agent = agent(data.path(), format!("http://{address}"));
        let board = agent.board.clone();
        let id: InstanceId = "a/v1/web.1@1".parse().expect("id");
        let (slot, epoch) = (id.slot, id.epoch);
        let place = Place { slot, epoch };
        let fleet = board.fleet(&ProcessKey::from(&id), 1);
        fleet.add(place.range());
        let restless = async {
            loop {
                fleet.set_port(place, 1);
                sleep(Duration::from_millis(10)).await;
            }
        };
        let second = reports.wait_for(|count| *count >= 2);
        tokio::select! {
            () = agent.run() => panic!("the agent ended"),
            () = restless => {}
            second = tokio::time::timeout(Duration::from_secs(20), second) => {
                second.expect("two reports in time").expect("a control plane");
            }
        }
    }
}
