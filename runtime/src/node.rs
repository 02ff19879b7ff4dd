//! A node as a whole: put together, run, drained.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use gilliam_engine::{Engines, EnginesConfig, EnginesError, MayRun};
use gilliam_model::{Timestamp, assignment::Assignment, peer::PeerTable, sync::NodeFacts};
use gilliam_serve::{BindError, DrainOutcome, DrainSignal, Places, Server};
use gilliam_services::{Services, ServicesError};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    agent::Agent,
    artefacts::Artefacts,
    board::Board,
    config::{ControlAddress, NodeConfig},
    control::Control,
    identity::Identity,
    ingress::{self, Ingress},
    jobs::{self, Jobs},
    join,
    kept::{self, Kept},
    lock::{NodeLock, NodeRecord, node_folder},
    logs::{self, Logs},
    machine,
    ports::Ports,
    questions,
    supervisor::{CrewThread, Ledger, Runs, Starts, Supervisor, Surroundings},
    vigil::Vigil,
};

/// How often the usage of instances is read.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Instances get at least this long to end, however much of the grace the ingress has used.
const STOP_MIN: Duration = Duration::from_secs(1);
/// The last log lines of a node that ends get this long to reach the control plane.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its folder cannot be used.
    #[error("cannot use the data folder {path}")]
    Data {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another node runs on the same folder.
    #[error("another node runs on the data folder {path}")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The ingress cannot listen.
    #[error(transparent)]
    Http(#[from] BindError),
    /// The engine cannot start.
    #[error("cannot start the engine")]
    Engine(#[from] EnginesError),
    /// Its apps' services cannot be kept.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// The system gives it no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// There is no program to compile components with.
    #[error("the compile command is empty")]
    CompileCommand,
}

impl NodeError {
    /// The way out, as a hint for the user.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            NodeError::Locked { .. } => Some("end the other node, or pass another data folder"),
            NodeError::Http(error) => error.hint(),
            NodeError::Data { .. }
            | NodeError::Engine(_)
            | NodeError::Services(_)
            | NodeError::Thread(_)
            | NodeError::CompileCommand => None,
        }
    }
}

/// Where a node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAddresses {
    /// The ingress.
    pub http: SocketAddr,
    /// Where requests of other nodes come in.
    pub peer: Option<SocketAddr>,
}

/// A bound node; requests wait in the kernel until it runs.
#[derive(Debug)]
pub struct Node {
    server: Server,
    /// For requests of other nodes.
    peers: Option<Server>,
    agent: Agent,
    supervisor: Supervisor,
    runs: Runs,
    services: Services,
    /// Of a node that joined a cluster.
    identity: Option<Identity>,
    kept_peers: Kept<PeerTable>,
    /// Given back last.
    _lock: NodeLock,
}

/// Takes the data folder and the ingress's address, and starts the engine.
///
/// Must be called within a tokio runtime.
pub fn bind(config: NodeConfig) -> Result<(Node, NodeAddresses), NodeError> {
    if config.compile_command.is_empty() {
        return Err(NodeError::CompileCommand);
    }
    let data = |source| NodeError::Data {
        path: config.data.clone(),
        source,
    };
    machine::raise_file_limit();
    fs::create_dir_all(node_folder(&config.data)).map_err(data)?;
    let lock = NodeLock::take(&config.data).map_err(data)?;
    let lock = lock.ok_or_else(|| NodeError::Locked {
        path: config.data.clone(),
    })?;
    let places = Places::new(machine::connections_max());
    let (server, http) = gilliam_serve::bind(&ingress::listening(config.http, places.clone()))?;
    let vigil = Arc::new(Vigil::new());
    let watch = vigil.clone();
    let engines = Engines::new(&EnginesConfig {
        may_run: MayRun::when(move || watch.is_clear()),
        ..config.engines.clone()
    })?;
    let instances_max = machine::instances_max(engines.commands_max());
    let control = Arc::new(Control::new(config.control.clone()));
    let logs = Arc::new(Logs::new(control.count()));
    let artefacts = Artefacts::open(
        &config.data,
        engines,
        control.clone(),
        config.compile_command.clone(),
        logs.clone(),
        config.cache_bytes_max,
    );
    let artefacts = Arc::new(artefacts.map_err(data)?);
    let services = Services::open(&node_folder(&config.data))?;
    let started_at = Timestamp::now();
    let (pid, version) = (std::process::id(), config.version.clone());
    lock.record(&NodeRecord {
        pid,
        http,
        version: version.clone(),
        started_at,
    })
    .map_err(data)?;
    let capacity = config.capacity;
    let identity = match &config.control {
        ControlAddress::Servers { identity, .. } => Some(identity.clone()),
        ControlAddress::File(_) | ControlAddress::Url { .. } => None,
    };
    let (peers, peer) = match (&identity, config.peer) {
        (Some(identity), Some(address)) => {
            let (server, bound) = gilliam_serve::bind(&ingress::listening_for_peers(address, identity))?;
            (Some(server), Some(bound))
        }
        _ => (None, None),
    };
    let facts = NodeFacts {
        name: config.name.clone(),
        host: config.host.clone(),
        version,
        pid,
        http: http.to_string(),
        cpus: machine::cpus(),
        memory_bytes: capacity.memory_bytes.unwrap_or_else(machine::memory_bytes),
        peer: peer.map(|bound| config.peer_advertised.unwrap_or(bound).to_string()),
        instances_max: Some(
            capacity
                .instances_max
                .map_or(instances_max, |max| max.min(instances_max)),
        ),
        cpu_millis: capacity.cpu_millis,
        labels: config.labels.clone(),
        started_at,
    };
    let file = Kept::assignment(&config.data);
    let kept_peers = Kept::peers(&config.data);
    let ports = Ports::new(http.ip(), config.port_base, places);
    let starts = Starts::new(config.engines.give_back).map_err(NodeError::Thread)?;
    let crews = CrewThread::start().map_err(NodeError::Thread)?;
    let ingress = Ingress::new(logs.clone(), identity.clone(), vigil);
    if let Some(last) = identity.as_ref().and_then(|_| kept_peers.read()) {
        tracing::info!(nodes = last.nodes.len(), "took up the last table of nodes");
        ingress.set_peers(&last);
    }
    let (agent, supervisor, runs) = assemble(
        facts,
        file,
        control,
        artefacts,
        (ports, services.clone()),
        (starts, crews),
        (logs, ingress),
    );
    Ok((
        Node {
            server,
            peers,
            agent,
            supervisor,
            runs,
            services,
            identity,
            kept_peers,
            _lock: lock,
        },
        NodeAddresses { http, peer },
    ))
}

/// Wires the parts, and takes up the assignment of the node's last life.
fn assemble(
    facts: NodeFacts,
    file: Kept<Assignment>,
    control: Arc<Control>,
    artefacts: Arc<Artefacts>,
    (ports, services): (Arc<Ports>, Services),
    (starts, crews): (Starts, CrewThread),
    (logs, ingress): (Arc<Logs>, Ingress),
) -> (Agent, Supervisor, Runs) {
    let (board, jobs) = (Board::new(), Arc::new(Jobs::default()));
    let (assignment, follow) = watch::channel(None);
    let (followed, obeyed) = watch::channel(0);
    let surroundings = Surroundings {
        node: facts.name.clone(),
        control: control.clone(),
        artefacts: artefacts.clone(),
        board: board.clone(),
        ports,
        ingress: ingress.clone(),
        logs: logs.clone(),
        starts,
        crews,
        jobs: jobs.clone(),
        services,
    };
    let last = file.read();
    let agent = Agent {
        control,
        board,
        logs,
        ingress,
        artefacts,
        file,
        facts,
        assignment,
        peers: watch::Sender::new(None),
        dismissed: watch::Sender::new(None),
        taking: tokio::sync::Mutex::default(),
        obeyed,
        jobs,
        runs: Arc::new(Ledger::new()),
    };
    if let Some(last) = last {
        tracing::info!(generation = last.generation, "took up the last assignment");
        agent.artefacts.keep_only(&last);
        agent.follow(Arc::new(last));
    }
    let surroundings = Arc::new(surroundings);
    let (life, ledger) = (agent.facts.started_at, agent.runs.clone());
    let runs = Runs::new(surroundings.clone(), life, follow.clone(), ledger);
    (agent, Supervisor::new(surroundings, follow, followed), runs)
}

impl Node {
    /// Tells, while it runs, why the cluster wants nothing of this node any more: it is to be drained then.
    pub fn dismissed(&self) -> watch::Receiver<Option<String>> {
        self.agent.dismissed.subscribe()
    }

    /// Runs until `drain` is asked for: then the ingress finishes its requests, and all instances end, within
    /// the grace.
    pub async fn run(self, mut drain: DrainSignal) -> DrainOutcome {
        let Node {
            server,
            peers,
            agent,
            mut supervisor,
            mut runs,
            services,
            identity,
            kept_peers,
            _lock,
        } = self;
        let serving_all = serve_all(server, peers, agent.ingress.clone(), drain.clone());
        let vigil = agent.ingress.vigil().clone();
        vigil.begin();
        let (board, logs) = (agent.board.clone(), agent.logs.clone());
        let life = agent.facts.started_at.as_millisecond().to_string();
        let (jobs, control, name) = (
            agent.jobs.clone(),
            agent.control.clone(),
            agent.facts.name.clone(),
        );
        let talking = jobs::talk(jobs, control, name, life);
        let answering = questions::answer(services, agent.control.clone(), agent.facts.name.clone());
        let shipping = logs::ship(logs.clone(), agent.control.clone(), agent.facts.name.clone());
        // What runs beside ends with this future, however it ends.
        let mut beside = JoinSet::new();
        if let Some(identity) = identity {
            beside.spawn(join::keep_renewed(identity, agent.control.clone()));
            beside.spawn(kept::keep(kept_peers, agent.peers.subscribe()));
        }
        beside.spawn(agent.run());
        beside.spawn(shipping);
        beside.spawn(sample(board));
        beside.spawn(talking);
        beside.spawn(answering);
        beside.spawn(async move { vigil.keep().await });
        let mut serving = JoinSet::new();
        serving.spawn(serving_all);
        let mut asked = None;
        let served = loop {
            let failed = tokio::select! {
                biased;
                grace = drain.requested(), if asked.is_none() => {
                    asked = Some((Instant::now(), grace));
                    continue;
                }
                Some(served) = serving.join_next() => match served {
                    // It may have heard of the drain just before this loop did.
                    Ok(served) if drain.is_requested() => {
                        if asked.is_none() {
                            asked = Some((Instant::now(), drain.requested().await));
                        }
                        break served;
                    }
                    _ => "the ingress",
                },
                () = supervisor.supervise() => "the supervisor",
                () = runs.carry_out() => "what carries out runs",
                Some(_) = beside.join_next() => "a task beside it",
            };
            // They end by a defect alone. A node without them is of no use; whoever started it starts
            // another.
            tracing::error!("{failed} ended; the node ends");
            break DrainOutcome::TimedOut { connections: 0 };
        };
        let (since, grace) = asked.unwrap_or((Instant::now(), Duration::ZERO));
        let rest = grace.saturating_sub(since.elapsed()).max(STOP_MIN.min(grace));
        let (stopped, _) = futures::join!(supervisor.drain(rest), timeout(rest, runs.drain()));
        let _ = timeout(FLUSH_MAX, logs.shipped()).await;
        match served {
            DrainOutcome::Finished => stopped,
            cut => cut,
        }
    }
}

/// Serves clients and other nodes until both are drained.
async fn serve_all(
    server: Server,
    peers: Option<Server>,
    ingress: Ingress,
    drain: DrainSignal,
) -> DrainOutcome {
    let of_clients = server.run(ingress.hosts(), drain.clone());
    let of_peers = async {
        match peers {
            Some(peers) => peers.run(ingress.for_peers(), drain).await,
            None => DrainOutcome::Finished,
        }
    };
    match futures::join!(of_clients, of_peers) {
        (DrainOutcome::Finished, of_peers) => of_peers,
        (cut, _) => cut,
    }
}

/// Reads the usage of instances for as long as it is polled.
async fn sample(board: Arc<Board>) {
    let mut tick = interval(SAMPLE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        board.sample().await;
    }
}
