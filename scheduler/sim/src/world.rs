//! The cluster as a whole: one event after another, each followed by the checks.

mod harm;

use std::{collections::VecDeque, time::Duration};

use fastrand::Rng;
use gilliam_model::{
    Timestamp,
    label::Labels,
    limits::Limits,
    name::NodeName,
    sync::{NodeFacts, SyncRequest, SyncResponse},
};
use gilliam_scheduler::SteppedTurn;
use gilliam_store::Store;

use crate::{
    Scenario, Summary, Violation, calamity,
    checks::{self, StoreChecks},
    clock::{Epoch, Ms, Queue},
    disk::Mood,
    node::{Chore, Node},
    plane::{Held, Plane},
    users::Users,
};

/// Memory of each node: 32 instances of the default limit, promised four times over.
const NODE_MEMORY_BYTES: u64 = 1 << 30;
const NODE_SLOTS: u32 = 32;
/// A node reports so often when nothing changes, and so long after a change.
const REPORT_MS: Ms = 3_000;
const GATHER_MS: Ms = 30;
/// A control plane takes a turn so often when nothing changes, and so long after the store failed.
const TICK_MS: Ms = 2_500;
const RETRY_MS: Ms = 1_000;
/// Events that a violation shows.
const COURSE_MAX: usize = 200;
/// Progress is told so often.
const PROGRESS_MS: Ms = 60_000;
/// After the healing the cluster is looked at so often until it has converged.
const LOOK_MS: Ms = 5_000;

#[derive(Debug)]
enum Event {
    Plane(usize),
    PlaneUp(usize),
    StoreGood(usize, u32),
    NodeUp(usize),
    Report {
        node: usize,
        plane: usize,
        planned: u64,
    },
    Arrives {
        node: usize,
        life: u32,
        plane: usize,
        request: Box<SyncRequest>,
    },
    Answer {
        node: usize,
        life: u32,
        response: Box<SyncResponse>,
    },
    Chore {
        node: usize,
        life: u32,
        chore: Chore,
    },
    Calamity,
    User,
}

pub(crate) struct World {
    scenario: Scenario,
    epoch: Epoch,
    at: Ms,
    queue: Queue<Event>,
    rng: Rng,
    store: Store,
    planes: Vec<Plane>,
    /// When each control plane is to go on, if that is planned.
    armed: Vec<Option<Ms>>,
    nodes: Vec<Node>,
    names: Vec<NodeName>,
    /// Until when messages are lost, by node and control plane: up and down.
    cuts: Vec<Vec<(Ms, Ms)>>,
    users: Users,
    checks: StoreChecks,
    healed: bool,
    summary: Summary,
    course: VecDeque<String>,
    fingerprint: u64,
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut rng = Rng::with_seed(scenario.seed);
        let store = Store::memory();
        let planes = (0..scenario.planes)
            .map(|_| Plane::new(&store, rng.fork(), scenario.sabotage))
            .collect::<Vec<_>>();
        let nodes: Vec<Node> = (0..scenario.nodes)
            .map(|n| Node::new(facts(n), scenario.planes, scenario.sabotage))
            .collect();
        let users = Users::new(
            store.clone(),
            rng.fork(),
            scenario.apps,
            scenario.nodes * NODE_SLOTS,
        );
        Self {
            epoch: Epoch::begin(),
            at: 0,
            queue: Queue::new(),
            store,
            armed: vec![None; planes.len()],
            names: nodes.iter().map(|node| node.name.clone()).collect(),
            cuts: vec![vec![(0, 0); planes.len()]; nodes.len()],
            planes,
            nodes,
            users,
            checks: StoreChecks::new(Limits::default().memory_bytes_max),
            healed: false,
            summary: Summary {
                seed: scenario.seed,
                ..Summary::default()
            },
            course: VecDeque::new(),
            fingerprint: 0xcbf2_9ce4_8422_2325,
            scenario,
            rng,
        }
    }

    pub(crate) fn play(mut self, progress: &mut dyn FnMut(Duration)) -> Result<Summary, Violation> {
        let begun = self.users.begin(self.wall(0));
        begun.into_iter().for_each(|line| self.note(&line));
        for plane in 0..self.planes.len() {
            self.queue.add(0, Event::PlaneUp(plane));
        }
        for node in 0..self.nodes.len() {
            let at = self.rng.u64(0..2_000);
            self.queue.add(at, Event::NodeUp(node));
        }
        self.queue.add(5_000, Event::Calamity);
        self.queue.add(5_000, Event::User);
        let faults_end = ms(self.scenario.faults);
        self.play_until(faults_end, progress)?;
        self.heal();
        let end = faults_end + ms(self.scenario.heal);
        let mut look = faults_end;
        loop {
            look = (look + LOOK_MS).min(end);
            self.play_until(look, progress)?;
            match self.converged() {
                Ok(running) => self.summary.running = running,
                Err(_) if look < end => continue,
                Err(what) => return Err(self.violation(format!("all is healed, but {what}"))),
            }
            break;
        }
        checks::acknowledged(&self.store, &self.users).map_err(|what| self.violation(what))?;
        self.summary.changes = self.users.changes;
        self.summary.fingerprint = format!("{:016x}", self.fingerprint);
        Ok(self.summary)
    }

    /// How many instances run, when that is all as users asked and every control plane knows it.
    fn converged(&self) -> Result<u64, String> {
        let running = checks::converged(&self.store, &self.nodes)?;
        let blocked = self.planes.iter().map(Plane::blocked).max();
        match blocked.filter(|blocked| *blocked > 0) {
            Some(blocked) => Err(format!("{blocked} slots have no node")),
            None => Ok(running),
        }
    }

    fn play_until(&mut self, until: Ms, progress: &mut dyn FnMut(Duration)) -> Result<(), Violation> {
        while let Some((at, event)) = self.queue.next(until) {
            if at / PROGRESS_MS > self.at / PROGRESS_MS {
                progress(Duration::from_millis(at));
            }
            self.at = at;
            self.summary.events += 1;
            self.happen(event).map_err(|what| self.violation(what))?;
        }
        self.at = until;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            // It was planned anew for an earlier moment meanwhile.
            Event::Plane(plane) if self.armed[plane] != Some(self.at) => {}
            Event::Plane(plane) => {
                self.armed[plane] = None;
                match self.planes[plane].paused_until > self.at {
                    true => self.arm(plane),
                    false => self.go_on(plane)?,
                }
            }
            Event::PlaneUp(plane) if !self.planes[plane].is_up() => {
                self.note(&format!("control plane {plane} starts"));
                let now = self.epoch.now(self.at, self.planes[plane].wall_off_s);
                self.planes[plane].start(plane, now, self.at);
                self.arm(plane);
            }
            Event::StoreGood(plane, life) if self.planes[plane].life == life => {
                self.planes[plane].disk.set_mood(Mood::Good);
            }
            Event::PlaneUp(_) | Event::StoreGood(..) => {}
            Event::NodeUp(node) => {
                if !self.nodes[node].is_up {
                    self.note(&format!("{} starts", self.names[node]));
                    let now = self.wall(0);
                    let chores = self.nodes[node].start(now);
                    self.begin(node, chores)?;
                    (0..self.planes.len()).for_each(|plane| self.report_at(node, plane, self.at));
                }
            }
            Event::Report { node, plane, planned } => self.report(node, plane, planned),
            Event::Arrives {
                node,
                life,
                plane,
                request,
            } => self.arrives(node, life, plane, request),
            Event::Answer { node, life, response } => self.answer(node, life, response)?,
            Event::Chore { node, life, chore } => self.finish(node, life, chore)?,
            Event::Calamity if !self.healed => {
                let calamity = calamity::draw(&mut self.rng, self.nodes.len(), self.planes.len());
                self.note(&format!("{calamity:?}"));
                self.strike(calamity);
                let pause = 120_000 / u64::from(self.scenario.nodes.clamp(6, 60));
                let at = self.at + self.rng.u64(pause / 2..pause * 2);
                self.queue.add(at, Event::Calamity);
            }
            Event::User if !self.healed => {
                let said = self.users.change(self.wall(0));
                self.note(&said);
                self.store_changed();
                let at = self.at + self.rng.u64(1_000..60_000);
                self.queue.add(at, Event::User);
                self.checks.check(&self.store, &self.nodes)?;
            }
            Event::Calamity | Event::User => {}
        }
        Ok(())
    }

    // Control planes.

    /// Plans when a control plane goes on.
    fn arm(&mut self, plane: usize) {
        let Some(next) = self.planes[plane].next().filter(|next| *next < Ms::MAX) else {
            return;
        };
        let next = next.max(self.at).max(self.planes[plane].paused_until);
        if self.armed[plane].is_none_or(|armed| next < armed) {
            self.armed[plane] = Some(next);
            self.queue.add(next, Event::Plane(plane));
        }
    }

    fn go_on(&mut self, plane: usize) -> Result<(), String> {
        let now = self.epoch.now(self.at, self.planes[plane].wall_off_s);
        let Some(end) = self.planes[plane].go_on(now, self.at) else {
            self.arm(plane);
            return Ok(());
        };
        self.summary.turns += 1;
        let pause = match &end {
            SteppedTurn::AtRest => TICK_MS,
            SteppedTurn::Again => {
                self.store_changed();
                1
            }
            SteppedTurn::Failed(_) => {
                self.summary.turns_failed += 1;
                // It may have been done all the same.
                self.store_changed();
                RETRY_MS
            }
        };
        if end != SteppedTurn::AtRest {
            self.note(&format!("control plane {plane}: {end:?}"));
        }
        self.planes[plane].wake(self.at + pause);
        for (node, held, response) in self.planes[plane].answers(&self.names) {
            self.send_answer(plane, node, held, response);
        }
        self.arm(plane);
        match end {
            SteppedTurn::AtRest => Ok(()),
            _ => self.checks.check(&self.store, &self.nodes),
        }
    }

    /// Wakes the control planes, as a watch of the store does.
    fn store_changed(&mut self) {
        for plane in 0..self.planes.len() {
            let at = self.at + self.rng.u64(1..20);
            self.planes[plane].wake(at);
            self.arm(plane);
        }
    }

    // Syncs.

    fn report_at(&mut self, node: usize, plane: usize, at: Ms) {
        let session = &mut self.nodes[node].sessions[plane];
        if session.due.is_none_or(|due| at < due) {
            session.due = Some(at);
            session.planned += 1;
            let planned = session.planned;
            self.queue.add(at, Event::Report { node, plane, planned });
        }
    }

    fn report(&mut self, node: usize, plane: usize, planned: u64) {
        if !self.nodes[node].is_up || self.nodes[node].sessions[plane].planned != planned {
            return;
        }
        let paused_until = self.nodes[node].paused_until;
        if self.at < paused_until {
            return self
                .queue
                .add(paused_until, Event::Report { node, plane, planned });
        }
        self.nodes[node].sessions[plane].due = None;
        let request = Box::new(self.nodes[node].report(plane));
        let life = self.nodes[node].life;
        if self.at >= self.cuts[node][plane].0 {
            let at = self.at + self.rng.u64(1..20);
            self.queue.add(
                at,
                Event::Arrives {
                    node,
                    life,
                    plane,
                    request,
                },
            );
        }
        self.report_at(node, plane, self.at + REPORT_MS);
    }

    fn arrives(&mut self, node: usize, life: u32, plane: usize, request: Box<SyncRequest>) {
        let paused_until = self.planes[plane].paused_until;
        if self.at < paused_until {
            let arrives = Event::Arrives {
                node,
                life,
                plane,
                request,
            };
            return self.queue.add(paused_until, arrives);
        }
        let now = self.epoch.now(self.at, self.planes[plane].wall_off_s);
        let held = Held {
            node_life: life,
            generation: request.generation,
        };
        let heard = self.planes[plane].heard();
        let answer = self.planes[plane].sync(node, held, *request, now, self.at);
        if self.planes[plane].heard() != heard {
            self.planes[plane].wake(self.at + 1);
        }
        self.arm(plane);
        if let Some(response) = answer {
            self.send_answer(plane, node, held, response);
        }
    }

    fn send_answer(&mut self, plane: usize, node: usize, held: Held, response: SyncResponse) {
        if self.at >= self.cuts[node][plane].1 {
            let (at, life) = (self.at + self.rng.u64(1..20), held.node_life);
            let response = Box::new(response);
            self.queue.add(at, Event::Answer { node, life, response });
        }
    }

    fn answer(&mut self, node: usize, life: u32, response: Box<SyncResponse>) -> Result<(), String> {
        if !self.nodes[node].is_up || self.nodes[node].life != life {
            return Ok(());
        }
        let paused_until = self.nodes[node].paused_until;
        if self.at < paused_until {
            self.queue
                .add(paused_until, Event::Answer { node, life, response });
            return Ok(());
        }
        let Some(assignment) = response.assignment else {
            return Ok(());
        };
        let before = self.nodes[node].generation();
        let chores = self.nodes[node].take(assignment);
        checks::forward(&self.nodes[node], before)?;
        self.begin(node, chores)
    }

    // Instances.

    fn begin(&mut self, node: usize, chores: Vec<Chore>) -> Result<(), String> {
        checks::alive_once(&self.nodes, node, &chores)?;
        let life = self.nodes[node].life;
        for chore in chores {
            let takes = match chore {
                Chore::Start(..) => self.rng.u64(5..2_000),
                Chore::Stop(..) => self.rng.u64(1..500),
            };
            self.queue
                .add(self.at + takes, Event::Chore { node, life, chore });
        }
        (0..self.planes.len()).for_each(|plane| self.report_at(node, plane, self.at + GATHER_MS));
        Ok(())
    }

    fn finish(&mut self, node: usize, life: u32, chore: Chore) -> Result<(), String> {
        if !self.nodes[node].is_up || self.nodes[node].life != life {
            return Ok(());
        }
        let paused_until = self.nodes[node].paused_until;
        if self.at < paused_until {
            self.queue.add(paused_until, Event::Chore { node, life, chore });
            return Ok(());
        }
        if let Chore::Start(_, range) = &chore {
            self.summary.starts += u64::from(range.count());
        }
        let now = self.wall(0);
        let chores = self.nodes[node].finish(chore, now, self.healed);
        self.begin(node, chores)
    }

    // The course.

    fn wall(&self, off_s: i64) -> Timestamp {
        self.epoch.wall_at(self.at, off_s)
    }

    fn note(&mut self, what: &str) {
        let line = format!("{:>10} {what}", self.at);
        for byte in line.bytes() {
            // FNV-1a.
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.course.len() == COURSE_MAX {
            self.course.pop_front();
        }
        self.course.push_back(line);
    }

    fn violation(&self, what: String) -> Violation {
        Violation {
            seed: self.scenario.seed,
            after: Duration::from_millis(self.at),
            what,
            course: self.course.iter().cloned().collect(),
        }
    }
}

fn ms(duration: Duration) -> Ms {
    Ms::try_from(duration.as_millis()).unwrap_or(Ms::MAX)
}

fn facts(n: u32) -> NodeFacts {
    let zone = ["a", "b", "c"][(n % 3) as usize];
    NodeFacts {
        name: format!("n{n}").parse().expect("a name"),
        host: format!("host{n}"),
        version: "simulated".to_owned(),
        pid: 1,
        http: "127.0.0.1:1".to_owned(),
        peer: None,
        cpus: 64,
        memory_bytes: NODE_MEMORY_BYTES,
        instances_max: None,
        cpu_millis: None,
        labels: Labels::parse([format!("zone={zone}").as_str()]).expect("a label"),
        started_at: Timestamp::UNIX_EPOCH,
    }
}
