//! A control plane of a few lines: it gives assignments, takes reports and log lines, and serves blobs.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gilliam_model::{
    assignment::Assignment,
    instance::{InstanceReport, InstanceState},
    log::{LogLine, LogStream},
    peer::{PeerNode, PeerShare, PeerTable},
    report::{DetailsWanted, ProcessKey, ProcessReport},
    route::{Route, RouteTable},
    sync::{LogBatch, SyncRequest, SyncResponse},
};
use gilliam_serve::{DrainTrigger, ServeConfig, drain};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    slots::{Slots, digest},
    wait,
};

const TOKEN: &str = "gil_test";

#[derive(Debug, Default)]
struct State {
    assignment: Option<Assignment>,
    blobs: BTreeMap<String, Bytes>,
    processes: BTreeMap<ProcessKey, ProcessReport>,
    /// Reports in which each state of each instance was seen, in order.
    generation_of_node: u64,
    /// The version of the table of peers that it follows.
    peers_of_node: Option<u64>,
    syncs: u64,
    lines: Vec<LogLine>,
    /// Asked for with the next answer.
    details: Vec<DetailsWanted>,
    peers: PeerTable,
}

/// The control plane of a test; gone when it is dropped.
#[derive(Debug)]
pub struct Plane {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    id: String,
    /// The node it speaks with.
    node: &'static str,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Where that of a cluster listens in every life.
    address: Option<SocketAddr>,
    server: Option<(DrainTrigger, JoinHandle<()>)>,
}

static LIVES: AtomicU64 = AtomicU64::new(0);

impl Plane {
    /// Starts a control plane, and writes the control file of `data`.
    pub fn start(data: &Path) -> Self {
        Self::make("n1", None).listening(data)
    }

    /// Starts the control plane of one node of a cluster, and says where.
    pub fn start_for(node: &'static str, data: &Path, tls: Arc<rustls::ServerConfig>) -> (Self, String) {
        let mut plane = Self::make(node, Some(tls));
        let address = plane.listen(data);
        (plane, format!("https://{address}"))
    }

    fn listening(mut self, data: &Path) -> Self {
        self.listen(data);
        self
    }

    fn make(node: &'static str, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let id = format!("life-{}", LIVES.fetch_add(1, Ordering::Relaxed));
        let (changed, _) = watch::channel(0);
        Self {
            state: Arc::default(),
            changed,
            id,
            node,
            tls,
            address: None,
            server: None,
        }
    }

    /// Starts listening as another life, on another port than before unless it is one of a cluster.
    pub fn listen(&mut self, data: &Path) -> SocketAddr {
        let any = "127.0.0.1:0".parse().expect("address");
        self.id = format!("life-{}", LIVES.fetch_add(1, Ordering::Relaxed));
        let config = ServeConfig {
            tls: self.tls.clone(),
            ..ServeConfig::new(self.address.unwrap_or(any))
        };
        let (server, address) = gilliam_serve::bind(&config).expect("bind");
        let (trigger, signal) = drain::channel();
        self.address = self.tls.is_some().then_some(address);
        let face = Face {
            state: self.state.clone(),
            changed: self.changed.subscribe(),
            id: self.id.clone(),
            node: self.node,
            has_tls: self.tls.is_some(),
        };
        let service = service_fn(move |request| face.clone().answer(request));
        let task = tokio::spawn(async move {
            server.run(service, signal).await;
        });
        self.server = Some((trigger, task));
        let control = format!(r#"{{"api":"http://{address}","token":"{TOKEN}"}}"#);
        std::fs::write(super::control_file(data), control).expect("control file");
        address
    }

    /// Is gone from now on; what it knew of nodes is forgotten.
    pub async fn go_away(&mut self) {
        if let Some((trigger, task)) = self.server.take() {
            trigger.drain(Duration::ZERO);
            task.await.expect("server");
        }
        let mut state = self.state();
        state.processes.clear();
        state.lines.clear();
    }

    /// Assigns exactly these slots, and routes `APP.localhost` to each app that has a web process or is named
    /// in `apps`.
    pub fn assign(&self, slots: &[Slots]) {
        let generation = self.state().assignment.as_ref().map_or(0, |a| a.generation) + 1;
        self.assign_as(generation, slots);
    }

    /// Says which other nodes run an instance of the web process type of `app`.
    pub fn set_peers(&self, app: &str, nodes: &[(&str, SocketAddr)]) {
        self.set_shares(app, 1, nodes);
    }

    /// Says which other nodes run so many; 0 where they are starting. Gives the table's version.
    pub fn set_shares(&self, app: &str, count: u32, nodes: &[(&str, SocketAddr)]) -> u64 {
        let of_app = |(node, address): &(&str, SocketAddr)| PeerNode {
            node: node.parse().expect("node"),
            address: address.to_string(),
            running: vec![PeerShare {
                app: app.parse().expect("app"),
                process: "web".parse().expect("web"),
                count,
            }],
        };
        let version = {
            let peers = &mut self.state().peers;
            peers.version += 1;
            peers.nodes = nodes.iter().map(of_app).collect();
            peers.version
        };
        self.changed.send_modify(|version| *version += 1);
        version
    }

    pub fn assign_as(&self, generation: u64, slots: &[Slots]) {
        let hosts = slots.iter().map(|slots| {
            let route = Route {
                app: slots.app.parse().expect("app"),
                process: "web".parse().expect("web"),
            };
            (format!("{}.localhost", slots.app), route)
        });
        let routes = RouteTable {
            hosts: hosts.collect(),
            ..RouteTable::default()
        };
        // An app that is placed elsewhere has its routes here too.
        let placed = slots.iter().filter(|slots| slots.count > 0);
        let processes = placed.map(Slots::assigned).collect();
        {
            let mut state = self.state();
            for slots in slots {
                state
                    .blobs
                    .insert(digest(&slots.component).to_string(), slots.component.clone());
            }
            let mut assignment = Assignment {
                generation,
                processes,
                runs: Vec::new(),
                routes,
            };
            // Routes outlive a scale to nothing.
            if let Some(before) = &state.assignment {
                for (host, route) in &before.routes.hosts {
                    assignment
                        .routes
                        .hosts
                        .entry(host.clone())
                        .or_insert_with(|| route.clone());
                }
            }
            state.assignment = Some(assignment);
        }
        self.changed.send_modify(|version| *version += 1);
    }

    /// Asks for the details of some instances of a process type, in the next answer.
    pub fn ask(&self, key: &ProcessKey, first: u32, last: u32) {
        let ProcessKey {
            app,
            release,
            process,
        } = key.clone();
        self.state().details.push(DetailsWanted {
            app,
            release,
            process,
            first,
            last,
        });
        self.changed.send_modify(|version| *version += 1);
    }

    /// Serves other bytes for a blob than its digest says.
    pub fn corrupt(&self, slots: &Slots) {
        let mut state = self.state();
        let blob = state
            .blobs
            .get_mut(&digest(&slots.component).to_string())
            .expect("blob");
        let mut bytes = blob.to_vec();
        *bytes.last_mut().expect("a byte") ^= 1;
        *blob = bytes.into();
    }

    pub fn hold_back_blobs(&self) {
        self.state().blobs.clear();
    }

    pub fn reports(&self) -> Vec<InstanceReport> {
        let state = self.state();
        let details = state.processes.values().flat_map(|process| &process.details);
        details.cloned().collect()
    }

    /// What the node reports of a process type.
    pub fn process(&self, app: &str, process: &str) -> Option<ProcessReport> {
        let state = self.state();
        let is_it = |key: &&ProcessKey| key.app.as_str() == app && key.process.as_str() == process;
        let key = state.processes.keys().find(is_it)?;
        Some(state.processes[key].clone())
    }

    pub fn node_generation(&self) -> u64 {
        self.state().generation_of_node
    }

    /// Waits until the node follows this version of the table of peers.
    pub async fn follows_peers(&self, version: u64) {
        let follows = || (self.state().peers_of_node == Some(version)).then_some(());
        wait("the node to follow the table", follows).await;
    }

    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    pub fn lines(&self) -> Vec<LogLine> {
        self.state().lines.clone()
    }

    /// Waits for a log line of the app that `wanted` accepts.
    pub async fn line(&self, what: &str, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        wait(what, || {
            self.state().lines.iter().find(|line| wanted(line)).cloned()
        })
        .await
    }

    pub async fn router_line(&self, part: &str) -> String {
        let wanted = |line: &LogLine| line.stream == LogStream::Router && line.text.contains(part);
        self.line(part, wanted).await.text
    }

    /// Waits until the node reports exactly these instances, all running.
    pub async fn running(&self, ids: &[&str]) -> Vec<InstanceReport> {
        wait(&format!("{ids:?} to run"), || {
            let reports = self.reports();
            let same = reports
                .iter()
                .map(|report| report.id.to_string())
                .eq(ids.iter().map(ToString::to_string));
            let running = reports
                .iter()
                .all(|report| report.state == InstanceState::Running);
            (same && running).then_some(reports)
        })
        .await
    }

    /// Waits for a report of one instance that `wanted` accepts.
    pub async fn report(
        &self,
        what: &str,
        id: &str,
        wanted: impl Fn(&InstanceReport) -> bool,
    ) -> InstanceReport {
        wait(what, || {
            self.reports()
                .into_iter()
                .find(|report| report.id.to_string() == id && wanted(report))
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("state")
    }
}

#[derive(Clone)]
struct Face {
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
    id: String,
    node: &'static str,
    has_tls: bool,
}

impl Face {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let path = request.uri().path().to_owned();
        if !self.has_tls {
            let token = request.headers().get("authorization").cloned();
            assert_eq!(token.expect("a token"), format!("Bearer {TOKEN}"), "{path}");
        }
        let method = request.method().clone();
        let body = request.into_body().collect().await?.to_bytes();
        let of_node = path
            .strip_prefix(&format!("/v1/nodes/{}", self.node))
            .map(str::to_owned);
        Ok(match (&method, of_node.as_deref().unwrap_or(&path)) {
            (&Method::POST, "/sync") => self.sync(serde_json::from_slice(&body).expect("sync")).await,
            (&Method::POST, "/logs") => {
                let batch: LogBatch = serde_json::from_slice(&body).expect("batch");
                self.state.lock().expect("state").lines.extend(batch.lines);
                status(204)
            }
            (&Method::GET, path) if path.starts_with("/v1/blobs/") => {
                let blob = self
                    .state
                    .lock()
                    .expect("state")
                    .blobs
                    .get(&path["/v1/blobs/".len()..])
                    .cloned();
                blob.map_or_else(|| status(503), |blob| Response::new(Full::new(blob)))
            }
            _ => status(404),
        })
    }

    async fn sync(mut self, request: SyncRequest) -> Response<Full<Bytes>> {
        {
            let mut state = self.state.lock().expect("state");
            if request.is_whole() {
                state.processes.clear();
            }
            for key in &request.gone {
                state.processes.remove(key);
            }
            for process in request.processes {
                process.check().expect("a sound report");
                state.processes.insert(process.key(), process);
            }
            state.generation_of_node = request.generation;
            state.peers_of_node = request.peers;
            state.syncs += 1;
        }
        let deadline = tokio::time::Instant::now() + Duration::from_millis(request.wait_ms.into());
        loop {
            self.changed.borrow_and_update();
            let (assignment, details) = {
                let mut state = self.state.lock().expect("state");
                (state.assignment.clone(), std::mem::take(&mut state.details))
            };
            let peers = self.state.lock().expect("state").peers.clone();
            let peers = request
                .peers
                .is_some_and(|follows| follows != peers.version)
                .then_some(peers);
            let assignment = assignment.filter(|assignment| assignment.generation != request.generation);
            let is_new_to_node = request.control != self.id;
            let is_late = tokio::time::Instant::now() >= deadline;
            if assignment.is_some() || peers.is_some() || !details.is_empty() || is_new_to_node || is_late {
                let answer = SyncResponse {
                    control: self.id.clone(),
                    assignment,
                    resync: false,
                    details,
                    dead_after_ms: None,
                    peers,
                };
                return Response::new(Full::new(serde_json::to_vec(&answer).expect("json").into()));
            }
            let _ = tokio::time::timeout_at(deadline, self.changed.changed()).await;
        }
    }
}

fn status(status: u16) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .body(Full::default())
        .expect("response")
}
