//! What planning costs: time and memory, from a hundred nodes to ten thousand, a hundred instances for each.
//!
//! Every plan is whole: all of its parts, put into effect one after the other; the commits of the store are not
//! in it. `cargo run --release -p gilliam-plan --example fleets`
#![allow(clippy::print_stdout, reason = "a measurement")]

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use gilliam_model::{
    app::App,
    digest::Digest,
    image::{Image, Process, Shape},
    label::Labels,
    limits::Limits,
    name::NodeName,
    placement::Placement,
    release::ReleaseId,
    rules::PlacementRules,
    scale::Scale,
};
use gilliam_plan::{AppState, Availability, NodeState, Observed, Placements, Plan, Snapshot, plan};

/// Times each small figure is taken; the median is printed.
const TIMES: usize = 7;
const ZONES: usize = 3;
/// Memory of a node; promised four times over it holds some 256 of the instances below.
const NODE_MEMORY_BYTES: u64 = 8 << 30;

/// What a row of the table is about.
struct Fleet {
    name: &'static str,
    nodes: usize,
    apps: usize,
    instances_per_app: u32,
    /// Whether every fourth app has placement rules.
    rules: bool,
}

fn main() {
    let fleets = fleets();
    // Each in a process of its own, whose peak of memory is its own.
    if let Some(n) = std::env::args().nth(1) {
        return measure(&fleets[n.parse::<usize>().expect("the number of a fleet")]);
    }
    println!("milliseconds of a whole plan; records: rows of the store; built: the planner's form of them");
    println!(
        "{:<58} {:>9} {:>7} {:>7} {:>7} {:>7} {:>9} {:>7} {:>8}",
        "", "empty", "rest", "scale", "lost", "drain", "records", "built", "memory"
    );
    let own = std::env::current_exe().expect("this program");
    for n in 0..fleets.len() {
        let status = Command::new(&own)
            .arg(n.to_string())
            .status()
            .expect("this program");
        assert!(status.success(), "a figure failed");
    }
}

fn fleets() -> Vec<Fleet> {
    let mut fleets = Vec::new();
    for nodes in [100, 1_000, 10_000] {
        let one = u32::try_from(nodes * 100).expect("a million");
        let kinds = [
            ("apps of 100", nodes, 100, false),
            ("apps of 100, a quarter with rules", nodes, 100, true),
            ("apps of 10", nodes * 10, 10, false),
            ("one app", 1, one, false),
        ];
        fleets.extend(kinds.map(|(name, apps, instances_per_app, rules)| Fleet {
            name,
            nodes,
            apps,
            instances_per_app,
            rules,
        }));
    }
    let large = [("apps of 20,000", 100, 20_000), ("apps of 200", 10_000, 200)];
    fleets.extend(large.map(|(name, apps, instances_per_app)| Fleet {
        name,
        nodes: 6_100,
        apps,
        instances_per_app,
        rules: false,
    }));
    fleets
}

fn measure(fleet: &Fleet) {
    let mut snapshot = snapshot(fleet);
    let (empty, first) = timed(|| plan(&snapshot));
    assert!(
        first.report.blocked.is_empty() && !first.report.deferred,
        "there is room"
    );
    let memory = memory_bytes_peak();
    apply(&mut snapshot, &first);
    drop(first);
    snapshot.observed = Observed::everything();
    let (rest, none) = median(|| plan(&snapshot));
    assert!(none.is_empty());

    let node = busiest(&snapshot);
    let in_state = |state| {
        let mut snapshot = snapshot.clone();
        snapshot.nodes[node].state = state;
        snapshot
    };
    let (lost_snapshot, drain_snapshot) = (in_state(Availability::Lost), in_state(Availability::Draining));
    let (lost, _) = median(|| plan(&lost_snapshot));
    let (drain, _) = median(|| plan(&drain_snapshot));
    let mut scaled = snapshot.clone();
    Arc::make_mut(&mut scaled.apps[0]).app.scale = scale(fleet.instances_per_app + 10);
    let (scale, plan_of_scale) = median(|| plan(&scaled));
    let started: u32 = plan_of_scale.changes().map(|change| change.started).sum();
    assert_eq!(started, 10);

    let records: Vec<Placement> = snapshot.placements.iter().collect();
    let (built, _) = timed(|| records.iter().collect::<Placements>());
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let instances = fleet.apps * fleet.instances_per_app as usize;
    let name = format!("{} nodes, {instances} in {}", fleet.nodes, fleet.name);
    println!(
        "{name:<58} {:>9} {:>7} {:>7} {:>7} {:>7} {:>9} {:>7} {:>4} MiB  ({} slots on the lost node)",
        ms(empty),
        ms(rest),
        ms(scale),
        ms(lost),
        ms(drain),
        records.len(),
        ms(built),
        memory >> 20,
        slots_of(&snapshot, node),
    );
}

fn apply(snapshot: &mut Snapshot, plan: &Plan) {
    snapshot.placements.apply(plan);
    snapshot.epoch = plan.epoch;
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn median<T>(work: impl Fn() -> T) -> (Duration, T) {
    let mut times: Vec<(Duration, T)> = (0..TIMES).map(|_| timed(&work)).collect();
    times.sort_by_key(|(time, _)| *time);
    times.swap_remove(TIMES / 2)
}

fn slots_of(snapshot: &Snapshot, node: usize) -> u32 {
    let name = &snapshot.nodes[node].name;
    snapshot
        .placements
        .iter()
        .filter(|p| p.node == *name)
        .map(|p| p.count())
        .sum()
}

fn busiest(snapshot: &Snapshot) -> usize {
    let mut counts: BTreeMap<NodeName, u32> = BTreeMap::new();
    for placement in snapshot.placements.iter() {
        *counts.entry(placement.node.clone()).or_default() += placement.count();
    }
    let busiest = counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .expect("something is placed")
        .0;
    snapshot
        .nodes
        .iter()
        .position(|node| node.name == busiest)
        .expect("a node")
}

fn scale(count: u32) -> BTreeMap<ReleaseId, Scale> {
    let mut scale = Scale::default();
    scale.set("worker".parse().expect("name"), count);
    BTreeMap::from([(ReleaseId::FIRST, scale)])
}

fn snapshot(fleet: &Fleet) -> Snapshot {
    let node = |n: usize| NodeState {
        name: format!("n{n:05}").parse().expect("name"),
        state: Availability::Ready,
        memory_bytes: NODE_MEMORY_BYTES * if fleet.nodes == 6_100 { 4 } else { 1 },
        cpu_millis: 64_000,
        labels: Labels::parse([
            ["zone=a", "zone=b", "zone=c"][n % ZONES],
            if n.is_multiple_of(2) {
                "disk=ssd"
            } else {
                "disk=hdd"
            },
        ])
        .expect("labels"),
        slots_max: 1_000_000,
        ports_max: 20_000,
    };
    let app = |n: usize| {
        let at = "2026-11-21T09:00:00Z".parse().expect("time");
        let mut app = App::new(format!("app-{n:06}").parse().expect("name"), at);
        app.latest = Some(ReleaseId::FIRST);
        app.scale = scale(fleet.instances_per_app);
        let images = BTreeMap::from([(
            ReleaseId::FIRST,
            Arc::new(image(n, fleet.rules && n.is_multiple_of(4))),
        )]);
        Arc::new(AppState { app, images })
    };
    Snapshot {
        apps: (0..fleet.apps).map(app).collect(),
        nodes: (0..fleet.nodes).map(node).collect(),
        ..Snapshot::default()
    }
}

fn image(n: usize, with_rules: bool) -> Image {
    let rules = PlacementRules {
        require: vec!["disk == ssd".parse().expect("requirement")],
        rank: [("zone == a".parse().expect("requirement"), 10)].into(),
        ..PlacementRules::default()
    };
    let process = Process {
        component: Digest::from_sha256([7; 32]),
        component_bytes: 1,
        shape: Shape::CommandP2,
        command: "worker.wasm".into(),
        args: vec!["worker.wasm".into()],
        limits: Limits {
            memory_bytes_max: [64 << 20, 128 << 20, 192 << 20][n % 3],
            cpu_millis: 250,
            ..Limits::default()
        },
        allowed_outbound_hosts: Vec::new(),
        guard_pages: false,
        jobs: gilliam_model::queue::JobTerms::default(),
        uses: Default::default(),
        imports: None,
        placement: if with_rules {
            rules
        } else {
            PlacementRules::default()
        },
    };
    Image::new([("worker".parse().expect("name"), process)].into())
}

/// The most memory that this process has had; none where the system does not say.
fn memory_bytes_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) << 10
}
