//! A cluster whose control plane is the real one and whose nodes only report.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gilliam_model::{
    Timestamp,
    app::App,
    assignment::Assignment,
    config::Config,
    digest::Digest,
    image::{Image, Process, Shape},
    instance::InstanceState,
    label::Labels,
    limits::Limits,
    name::NodeName,
    overrides::Overrides,
    release::{Release, ReleaseId},
    report::ProcessReport,
    rules::PlacementRules,
    scale::Scale,
    sync::{NodeFacts, PROTOCOL, SyncRequest},
};
use gilliam_scheduler::{Now, SteppedLoop, SteppedPlane, SteppedTurn};
use gilliam_store::{Store, Write, keys, records};

/// Silence after which a node is lost.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// How often a node reports, and the loop takes a turn, at rest: as with the defaults.
const SYNC_EVERY: Duration = Duration::from_millis(3_333);
const TURN_EVERY: Duration = Duration::from_millis(2_500);
/// More turns than any change takes.
const TURNS_MAX: usize = 10_000;

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    pub(crate) apps: u32,
    /// Of each app.
    pub(crate) instances: u32,
}

pub(crate) struct Cluster {
    store: Store,
    size: Size,
    plane: SteppedPlane,
    control: SteppedLoop,
    nodes: Vec<Node>,
    /// What is added to the clock: time that was not waited for.
    ahead: Duration,
    start: (Instant, Timestamp),
    /// When all nodes reported last.
    reported: Instant,
}

struct Node {
    name: NodeName,
    number: u64,
    generation: u64,
    assignment: Option<Assignment>,
    /// Whether it has reported that it runs that.
    is_reported: bool,
    is_lost: bool,
}

impl Cluster {
    /// One with its apps and nodes, nothing placed yet.
    pub(crate) async fn new(store: Store, size: Size) -> Self {
        for n in 0..size.apps {
            store.commit(&[], &app(n, size.instances)).await.expect("an app");
        }
        let start = (Instant::now(), Timestamp::now());
        let now = Now {
            clock: start.0,
            wall: start.1,
        };
        let (plane, control) = SteppedPlane::new(LOST_AFTER, store.clone(), "one".to_owned(), now);
        let node = |n: u32| Node {
            name: format!("n{n:05}").parse().expect("name"),
            number: 0,
            generation: 0,
            assignment: None,
            is_reported: false,
            is_lost: false,
        };
        let mut cluster = Self {
            store,
            size,
            plane,
            control,
            nodes: (0..size.nodes).map(node).collect(),
            ahead: Duration::ZERO,
            start,
            reported: start.0,
        };
        cluster.report_all().await;
        cluster
    }

    fn now(&self) -> Now {
        let passed = self.start.0.elapsed() + self.ahead;
        Now {
            clock: self.start.0 + passed,
            wall: self.start.1.saturating_add(passed).expect("in range"),
        }
    }

    /// Every node reports that it runs what it follows, and takes what is newest.
    pub(crate) async fn report_all(&mut self) {
        let now = self.now();
        self.reported = Instant::now();
        let mut nodes = std::mem::take(&mut self.nodes);
        for node in nodes.iter_mut().filter(|node| !node.is_lost) {
            node.sync(&self.plane, now).await;
        }
        self.nodes = nodes;
    }

    /// Takes turns until there is nothing to do; nodes are heard of all the while.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            match self.control.turn(self.now()).await {
                SteppedTurn::AtRest => return,
                SteppedTurn::Again => {}
                SteppedTurn::Failed(error) => panic!("{error}"),
            }
            if self.reported.elapsed() > SYNC_EVERY {
                self.report_all().await;
            }
        }
        panic!("it does not come to rest");
    }

    pub(crate) async fn turn(&mut self) {
        assert_eq!(self.control.turn(self.now()).await, SteppedTurn::AtRest);
    }

    /// Reads everything as a control plane that keeps nothing does each turn.
    pub(crate) async fn read_whole(&mut self) {
        let prefixes = [keys::APPS, keys::PLACEMENTS, keys::PLAN_EPOCH, keys::NODES];
        self.store.ranges(&prefixes).await.expect("etcd");
    }

    /// Changes the scale of an app, and plans.
    pub(crate) async fn scale(&mut self, by: u32) {
        let name = app_name(0);
        let stored = records::load_app(&self.store, &name).await.expect("etcd");
        let stored = stored.expect("an app");
        let mut changed = stored.value.clone();
        changed.scale = scale(self.size.instances + by);
        self.store
            .commit(&[stored.unchanged()], &[records::put_app(&changed)])
            .await
            .expect("etcd");
        self.settle().await;
    }

    /// A node is silent for longer than it may be; the others are not. It is not planned yet.
    pub(crate) async fn forget_a_node(&mut self) {
        let last = self.nodes.last_mut().expect("a node");
        last.is_lost = true;
        self.ahead += LOST_AFTER + Duration::from_secs(1);
        self.report_all().await;
    }

    /// Nothing happens for a while but reports and ticks, as often as with the defaults.
    pub(crate) async fn rest(&mut self, long: Duration) {
        let end = Instant::now() + long;
        let (mut sync, mut turn) = (Instant::now(), Instant::now());
        while Instant::now() < end {
            if Instant::now() >= sync {
                sync += SYNC_EVERY;
                self.report_all().await;
            }
            if Instant::now() >= turn {
                turn += TURN_EVERY;
                self.turn().await;
            }
            tokio::time::sleep_until(sync.min(turn).min(end).into()).await;
        }
    }

    /// How many instances are placed.
    pub(crate) async fn placed(&self) -> f64 {
        let (_, placements) = records::list_placements(&self.store).await.expect("etcd");
        placements.iter().map(|p| f64::from(p.value.count())).sum()
    }

    /// Records, and the bytes of their keys and values.
    pub(crate) async fn bytes(&self) -> (f64, f64) {
        let (_, entries) = self.store.range("/").await.expect("etcd");
        let bytes: usize = entries
            .iter()
            .map(|entry| entry.key.len() + entry.value.len())
            .sum();
        (entries.len() as f64, bytes as f64)
    }
}

/// Another control plane on a store, after its first turn: no node has been heard of.
pub(crate) async fn first_turn(store: Store) -> (SteppedPlane, SteppedLoop) {
    let now = Now {
        clock: Instant::now(),
        wall: Timestamp::now(),
    };
    let (plane, mut control) = SteppedPlane::new(LOST_AFTER, store, "two".to_owned(), now);
    assert_eq!(control.turn(now).await, SteppedTurn::AtRest);
    (plane, control)
}

impl Node {
    async fn sync(&mut self, plane: &SteppedPlane, now: Now) {
        self.number += 1;
        let assigned = self
            .assignment
            .iter()
            .flat_map(|assignment| &assignment.processes);
        let processes = assigned.map(|assigned| ProcessReport {
            app: assigned.app.clone(),
            release: assigned.release,
            process: assigned.name.clone(),
            states: BTreeMap::from([(InstanceState::Running, assigned.ranges.clone())]),
            newest: BTreeMap::new(),
            memory_bytes: 0,
            fuel_per_s: 0,
            restarts: 0,
            details: Vec::new(),
        });
        let is_same = std::mem::replace(&mut self.is_reported, true);
        let request = SyncRequest {
            protocol: PROTOCOL,
            node: facts(&self.name),
            generation: self.generation,
            control: String::new(),
            number: self.number,
            base: is_same.then_some(self.number - 1),
            processes: if is_same { Vec::new() } else { processes.collect() },
            gone: Vec::new(),
            runs: Vec::new(),
            wait_ms: 0,
            peers: None,
        };
        let answer = plane.sync(request, now).await;
        if let Some(assignment) = answer.assignment {
            self.generation = assignment.generation;
            self.is_reported = false;
            self.assignment = Some(assignment);
        }
    }
}

fn facts(name: &NodeName) -> NodeFacts {
    let number: usize = name.as_str()[1..].parse().expect("n and a number");
    NodeFacts {
        name: name.clone(),
        host: name.to_string(),
        version: "0.1.0".to_owned(),
        pid: 1,
        http: "127.0.0.1:80".to_owned(),
        peer: None,
        cpus: 64,
        memory_bytes: 64 << 30,
        instances_max: None,
        cpu_millis: None,
        labels: Labels::parse([["zone=a", "zone=b", "zone=c"][number % 3]]).expect("a label"),
        started_at: Timestamp::UNIX_EPOCH,
    }
}

fn app_name(n: u32) -> gilliam_model::name::AppName {
    format!("app-{n:06}").parse().expect("name")
}

fn scale(count: u32) -> BTreeMap<ReleaseId, Scale> {
    let mut scale = Scale::default();
    scale.set("worker".parse().expect("name"), count);
    BTreeMap::from([(ReleaseId::FIRST, scale)])
}

/// What a deploy and a scale of an app leave in the store.
fn app(n: u32, instances: u32) -> Vec<Write> {
    let mut digest = [7; 32];
    digest[..4].copy_from_slice(&n.to_le_bytes());
    let digest = Digest::from_sha256(digest);
    let process = Process {
        component: digest,
        component_bytes: 1,
        shape: Shape::CommandP2,
        command: "worker.wasm".into(),
        args: vec!["worker.wasm".into()],
        limits: Limits {
            memory_bytes_max: 16 << 20,
            ..Limits::default()
        },
        allowed_outbound_hosts: Vec::new(),
        guard_pages: false,
        jobs: gilliam_model::queue::JobTerms::default(),
        uses: Default::default(),
        imports: None,
        placement: PlacementRules::default(),
    };
    let image = Image::new([("worker".parse().expect("name"), process)].into());
    let release = Release {
        app: app_name(n),
        id: ReleaseId::FIRST,
        image: digest,
        config: Config::default(),
        limits: Overrides::default(),
        message: "deployed".into(),
        author: "admin".into(),
        created_at: Timestamp::UNIX_EPOCH,
        hook: None,
    };
    let mut app = App::new(app_name(n), Timestamp::UNIX_EPOCH);
    app.latest = Some(ReleaseId::FIRST);
    app.scale = scale(instances);
    vec![
        records::put_app(&app),
        records::put_release(&release),
        records::put_image(&digest, &image),
    ]
}
