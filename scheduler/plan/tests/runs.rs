//! Runs: each ends once, and begins at most once, whatever becomes of nodes meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use gilliam_model::{
    Timestamp,
    config::Config,
    digest::Digest,
    image::{Process, Shape},
    label::Labels,
    limits::Limits,
    name::NodeName,
    rules::PlacementRules,
    run::{Outcome, Run, RunCause, RunId, RunProgress, RunState, Work},
};
use gilliam_plan::{Availability, NodeState, Policy, RunsOnNode, RunsView, Snapshot, runs};
use proptest::prelude::*;

const RUN_MS_MAX: u64 = 30_000;
const MIB: u64 = 1 << 20;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("in this century")
}

fn name(n: usize) -> NodeName {
    format!("n{n}").parse().expect("name")
}

fn process(memory_mib: u64, require: &[&str]) -> Process {
    Process {
        component: Digest::from_sha256([0; 32]),
        component_bytes: 1,
        shape: Shape::CommandP2,
        command: "task.wasm".into(),
        args: vec!["task.wasm".into()],
        limits: Limits {
            memory_bytes_max: memory_mib * MIB,
            exit_ms_max: 1_000,
            ..Limits::default()
        },
        allowed_outbound_hosts: Vec::new(),
        guard_pages: false,
        jobs: gilliam_model::queue::JobTerms::default(),
        uses: Default::default(),
        imports: None,
        placement: PlacementRules {
            require: require.iter().map(|r| r.parse().expect("requirement")).collect(),
            ..PlacementRules::default()
        },
    }
}

fn asked(number: u32, second: i64, process: Process) -> Run {
    Run {
        id: RunId {
            app: "hello".parse().expect("name"),
            number,
            asked_at: at(second),
        },
        release: "v1".parse().expect("release"),
        process: "task".parse().expect("name"),
        command: "task.wasm".into(),
        cause: RunCause::User,
        author: "me".into(),
        cron: None,
        attached: None,
        run_ms_max: RUN_MS_MAX,
        is_to_stop: false,
        state: RunState::Asked,
        work: Some(Work {
            process,
            config: Config::default(),
        }),
    }
}

/// A node as it is: a life, its runs, whether the control plane hears of it.
#[derive(Debug, Clone)]
struct Machine {
    life: i64,
    is_heard: bool,
    runs: BTreeMap<RunId, RunProgress>,
}

/// Nodes with 100 MiB each, and what became of runs.
#[derive(Debug)]
struct Cluster {
    now: i64,
    machines: Vec<Machine>,
    open: Vec<Run>,
    ended: Vec<Run>,
    /// Every beginning of a run, on any node.
    begun: Vec<RunId>,
}

impl Cluster {
    fn new(machines: usize) -> Self {
        let machine = Machine {
            life: 0,
            is_heard: true,
            runs: BTreeMap::new(),
        };
        Self {
            now: 0,
            machines: vec![machine; machines],
            open: Vec::new(),
            ended: Vec::new(),
            begun: Vec::new(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let node = |(n, machine): (usize, &Machine)| NodeState {
            name: name(n),
            state: match machine.is_heard {
                true => Availability::Ready,
                false => Availability::Lost,
            },
            memory_bytes: 100 * MIB,
            cpu_millis: 1_000,
            labels: Labels::default(),
            slots_max: 100,
            ports_max: 100,
        };
        Snapshot {
            nodes: self.machines.iter().enumerate().map(node).collect(),
            runs: self.open.iter().cloned().map(Arc::new).collect(),
            policy: Policy {
                memory_overcommit: 1,
                ..Policy::default()
            },
            ..Snapshot::default()
        }
    }

    /// One turn of the control loop; checks what it decides.
    fn turn(&mut self) -> usize {
        let snapshot = self.snapshot();
        let node = |sought: &NodeName| {
            let found = (0..self.machines.len()).find(|n| name(*n) == *sought)?;
            let machine = &self.machines[found];
            machine.is_heard.then(|| RunsOnNode {
                life: at(machine.life),
                runs: &machine.runs,
            })
        };
        let changed = runs(&RunsView {
            snapshot: &snapshot,
            node: &node,
            in_grace: false,
            now: at(self.now),
        });
        for after in &changed {
            let place = self.open.iter().position(|run| run.id == after.id);
            let place = place.expect("only what is open changes");
            match &after.state {
                RunState::Asked => panic!("{} is asked for again", after.id),
                RunState::Placed { .. } => {
                    assert_eq!(self.open[place].state, RunState::Asked, "it is placed once");
                    self.open[place] = after.clone();
                }
                RunState::Ended { .. } => {
                    self.open.remove(place);
                    self.ended.push(after.clone());
                }
            }
        }
        self.check_room();
        changed.len()
    }

    fn check_room(&self) {
        for n in 0..self.machines.len() {
            let here = self.open.iter().filter(|run| run.node() == Some(&name(n)));
            let bytes = here.filter_map(|run| Some(run.work.as_ref()?.process.limits.memory_bytes_max));
            assert!(bytes.sum::<u64>() <= 100 * MIB, "{} holds too much", name(n));
        }
    }

    /// A node takes its assignment, as nodes do: it begins what is for its life, once.
    fn sync(&mut self, n: usize) {
        let assigned = self.open.iter().filter(|run| run.node() == Some(&name(n)));
        let assigned: Vec<_> = assigned.filter_map(Run::assigned).collect();
        let machine = &mut self.machines[n];
        machine
            .runs
            .retain(|id, _| assigned.iter().any(|run| run.id == *id));
        for run in assigned.iter().filter(|run| run.life == at(machine.life)) {
            if !machine.runs.contains_key(&run.id) {
                let since = at(self.now);
                machine
                    .runs
                    .insert(run.id.clone(), RunProgress::Running { since });
                self.begun.push(run.id.clone());
            }
        }
    }

    fn end_one(&mut self, n: usize, code: u8) {
        let running = self.machines[n].runs.values_mut();
        if let Some(progress) = running
            .filter(|p| matches!(p, RunProgress::Running { .. }))
            .last()
        {
            let outcome = Outcome::Exited { code };
            *progress = RunProgress::Ended { outcome };
        }
    }

    fn outcome(&self, number: u32) -> String {
        let found = self.ended.iter().find(|run| run.id.number == number);
        found
            .and_then(Run::outcome)
            .map_or_else(String::new, Outcome::to_string)
    }
}

#[test]
fn a_run_is_placed_begun_and_ends_with_its_code() {
    let mut cluster = Cluster::new(2);
    cluster.open.push(asked(1, 0, process(60, &[])));
    assert_eq!(cluster.turn(), 1);
    assert_eq!(cluster.open[0].node(), Some(&name(0)));
    assert_eq!(cluster.turn(), 0, "what is placed stays");
    cluster.sync(0);
    cluster.end_one(0, 3);
    cluster.turn();
    assert_eq!(cluster.outcome(1), "exited with code 3");
    assert!(cluster.ended[0].work.is_none(), "its environment is not kept");
}

#[test]
fn one_that_does_not_fit_waits_and_says_why_it_was_given_up() {
    let mut cluster = Cluster::new(1);
    cluster.open.push(asked(1, 0, process(60, &[])));
    cluster.open.push(asked(2, 0, process(60, &[])));
    cluster.open.push(asked(3, 0, process(1, &["disk == ssd"])));
    assert_eq!(cluster.turn(), 1);
    cluster.now = 60;
    assert_eq!(cluster.turn(), 0);
    cluster.sync(0);
    cluster.end_one(0, 0);
    cluster.now = 61;
    cluster.turn();
    let (second, third) = (cluster.outcome(2), cluster.outcome(3));
    assert!(
        second.starts_with("not begun: n0: an instance needs 60 MiB; 40 MiB are left"),
        "{second}"
    );
    assert!(
        third.starts_with("not begun: n0: ") && third.contains("disk == ssd is required"),
        "{third}"
    );
}

#[test]
fn a_lost_node_a_new_life_and_a_silent_node_end_a_run_as_lost() {
    let lost = |what: fn(&mut Cluster)| {
        let mut cluster = Cluster::new(2);
        cluster.open.push(asked(1, 0, process(60, &[])));
        cluster.turn();
        what(&mut cluster);
        cluster.turn();
        cluster.outcome(1)
    };
    assert_eq!(
        lost(|cluster| cluster.machines[0].is_heard = false),
        "lost: its node n0 is lost"
    );
    assert_eq!(
        lost(|cluster| cluster.machines[0].life = 5),
        "lost: its node n0 was started again"
    );
    assert_eq!(
        lost(|cluster| cluster.now = 61),
        "lost: its node n0 did not take it"
    );
    let hangs = |cluster: &mut Cluster| {
        cluster.sync(0);
        cluster.now = 632;
    };
    assert_eq!(lost(hangs), "lost: its node n0 did not end it in time");
}

#[test]
fn one_that_is_stopped_before_it_is_placed_never_begins() {
    let mut cluster = Cluster::new(1);
    let run = asked(1, 0, process(60, &[]));
    cluster.open.push(Run {
        is_to_stop: true,
        ..run
    });
    cluster.turn();
    assert_eq!(cluster.outcome(1), "stopped: it was stopped before it began");
}

#[derive(Debug, Clone)]
enum Event {
    Ask { memory_mib: u64 },
    Stop(usize),
    Turn,
    Sync(usize),
    End(usize, u8),
    Restart(usize),
    Silence(usize),
    Heard(usize),
    Pass(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let node = 0_usize..3;
    prop_oneof![
        1 => (1_u64..120).prop_map(|memory_mib| Event::Ask { memory_mib }),
        1 => (0_usize..5).prop_map(Event::Stop),
        4 => Just(Event::Turn),
        4 => node.clone().prop_map(Event::Sync),
        2 => (node.clone(), any::<u8>()).prop_map(|(node, code)| Event::End(node, code)),
        1 => node.clone().prop_map(Event::Restart),
        1 => node.clone().prop_map(Event::Silence),
        1 => node.prop_map(Event::Heard),
        1 => (1_i64..100).prop_map(Event::Pass),
    ]
}

fn happen(cluster: &mut Cluster, event: &Event, number: &mut u32) {
    match *event {
        Event::Ask { memory_mib } => {
            *number += 1;
            cluster
                .open
                .push(asked(*number, cluster.now, process(memory_mib, &[])));
        }
        Event::Stop(n) => {
            if let Some(run) = cluster.open.get_mut(n) {
                run.is_to_stop = true;
            }
        }
        Event::Turn => drop(cluster.turn()),
        Event::Sync(n) if cluster.machines[n].is_heard => cluster.sync(n),
        Event::Sync(_) => {}
        Event::End(n, code) => cluster.end_one(n, code),
        Event::Restart(n) => {
            cluster.machines[n].life += 1;
            cluster.machines[n].runs.clear();
        }
        Event::Silence(n) => cluster.machines[n].is_heard = false,
        Event::Heard(n) => cluster.machines[n].is_heard = true,
        Event::Pass(seconds) => cluster.now += seconds,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// A run begins at most once, on at most one node, within the room of nodes; and it ends, once.
    #[test]
    fn a_run_begins_at_most_once_and_ends_once(events in proptest::collection::vec(event(), 1..80)) {
        let mut cluster = Cluster::new(3);
        let mut number = 0;
        for event in &events {
            happen(&mut cluster, event, &mut number);
        }
        let mut begun = cluster.begun.clone();
        begun.sort();
        begun.dedup();
        prop_assert_eq!(begun.len(), cluster.begun.len(), "one began twice");
        // Long after the longest time, everything has ended, whatever nodes say.
        cluster.now += 100_000;
        for _ in 0..3 {
            cluster.turn();
            cluster.now += 100_000;
        }
        prop_assert!(cluster.open.is_empty(), "{:?}", cluster.open);
        let mut ended: Vec<u32> = cluster.ended.iter().map(|run| run.id.number).collect();
        ended.sort_unstable();
        prop_assert_eq!(ended, (1..=number).collect::<Vec<u32>>());
    }
}
