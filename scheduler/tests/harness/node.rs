//! A node that speaks the protocol: it syncs, follows its assignment, and reports.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gilliam_model::{
    Timestamp,
    assignment::{AssignedProcess, Assignment},
    code::Code,
    instance::{Failure, InstanceId, InstanceReport, InstanceState},
    peer::PeerTable,
    report::{DetailsWanted, ProcessKey, ProcessReport, fold},
    sync::{NodeFacts, PROTOCOL, SyncRequest, SyncResponse},
};
use reqwest::Method;
use tokio::{sync::watch, task::JoinHandle};

use super::{Answer, Plane, read};

/// In which state a node reports an instance, with how many restarts.
pub type Rule = Arc<dyn Fn(&InstanceId) -> (InstanceState, u32) + Send + Sync>;

/// What a node with very many instances reports: whole process types, and the details that are wanted.
pub type Crowd = Arc<dyn Fn(&AssignedProcess, &[DetailsWanted]) -> ProcessReport + Send + Sync>;

/// A node between two syncs.
pub struct Node {
    pub facts: NodeFacts,
    pub generation: u64,
    pub number: u64,
    pub wanted: Vec<DetailsWanted>,
    pub control: String,
    pub assignment: Option<Assignment>,
    /// The version of the table of peers that it follows, if it wants one.
    pub follows: Option<u64>,
    pub table: PeerTable,
    pub rule: Rule,
    /// How it reports when not one by one.
    pub crowd: Option<Crowd>,
    base: String,
    token: String,
    http: reqwest::Client,
}

/// A node that syncs by itself until it is stopped or dropped.
pub struct Following {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<Node>>,
}

impl Following {
    /// The node as it is after its last sync.
    pub async fn stop(mut self) -> Node {
        self.stop.send_replace(true);
        self.task.take().expect("stopped once").await.expect("no panic")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

pub fn all_running() -> Rule {
    Arc::new(|_| (InstanceState::Running, 0))
}

pub fn facts(name: &str) -> NodeFacts {
    NodeFacts {
        name: name.parse().expect("name"),
        host: format!("{name}-host"),
        version: "0.1.0".to_string(),
        pid: 1,
        http: "127.0.0.1:8080".to_string(),
        cpus: 2,
        memory_bytes: 8 << 30,
        peer: None,
        instances_max: None,
        cpu_millis: None,
        labels: gilliam_model::label::Labels::default(),
        started_at: "2026-11-21T09:00:00Z".parse().expect("instant"),
    }
}

impl Node {
    pub fn new(plane: &Plane, name: &str) -> Self {
        Self {
            facts: facts(name),
            generation: 0,
            number: 1,
            wanted: Vec::new(),
            control: String::new(),
            assignment: None,
            follows: None,
            table: PeerTable::default(),
            rule: all_running(),
            crowd: None,
            base: plane.base.clone(),
            token: plane.node.clone(),
            http: super::client_builder().no_proxy().build().expect("client"),
        }
    }

    /// Speaks to another life of the control plane from now on.
    pub fn move_to(&mut self, plane: &Plane) {
        self.base.clone_from(&plane.base);
        self.token.clone_from(&plane.node);
    }

    pub fn request(&self, wait: Duration) -> SyncRequest {
        SyncRequest {
            protocol: PROTOCOL,
            node: self.facts.clone(),
            generation: self.generation,
            control: self.control.clone(),
            number: self.number,
            base: None,
            processes: self.processes(),
            gone: Vec::new(),
            runs: Vec::new(),
            wait_ms: u32::try_from(wait.as_millis()).expect("a short wait"),
            peers: self.follows,
        }
    }

    /// One sync; `None` when the control plane cannot be reached.
    pub async fn try_sync(&mut self, wait: Duration) -> Option<SyncResponse> {
        self.number += 1;
        let url = format!("{}/v1/nodes/{}/sync", self.base, self.facts.name);
        let request = self
            .http
            .post(url)
            .bearer_auth(&self.token)
            .json(&self.request(wait));
        let response = request.send().await.ok()?;
        let answer: SyncResponse = response.json().await.ok()?;
        self.wanted.clone_from(&answer.details);
        self.control.clone_from(&answer.control);
        if let Some(assignment) = &answer.assignment {
            assert!(
                assignment.generation > self.generation,
                "a node refuses an older assignment"
            );
            self.generation = assignment.generation;
            self.assignment = Some(assignment.clone());
        }
        if let Some(table) = &answer.peers {
            self.follows = Some(table.version);
            self.table = table.clone();
        }
        Some(answer)
    }

    pub async fn sync(&mut self, wait: Duration) -> SyncResponse {
        self.try_sync(wait).await.expect("an answer")
    }

    /// Syncs by itself from now on.
    pub fn follow(mut self) -> Following {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            while !*stopped.borrow() {
                let answer = tokio::select! {
                    // A sync that is cut off changes nothing here.
                    _ = stopped.changed() => continue,
                    answer = self.try_sync(Duration::from_secs(1)) => answer,
                };
                if answer.is_none() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            self
        });
        Following {
            stop,
            task: Some(task),
        }
    }

    fn processes(&self) -> Vec<ProcessReport> {
        let Some(crowd) = &self.crowd else {
            return fold(self.reports(), &self.wanted);
        };
        let processes = self.assignment.iter().flat_map(|a| &a.processes);
        processes.map(|process| crowd(process, &self.wanted)).collect()
    }

    fn reports(&self) -> Vec<InstanceReport> {
        let processes = self.assignment.iter().flat_map(|a| &a.processes);
        let ids = processes.flat_map(|p| {
            p.ranges.iter().flat_map(|range| {
                range.slots().map(|slot| InstanceId {
                    app: p.app.clone(),
                    release: p.release,
                    process: p.name.clone(),
                    slot,
                    epoch: range.epoch,
                })
            })
        });
        ids.map(|id| report(id, &self.rule)).collect()
    }
}

pub fn report(id: InstanceId, rule: &Rule) -> InstanceReport {
    let (state, restarts) = rule(&id);
    let crashed = state == InstanceState::Crashed;
    InstanceReport {
        id,
        state,
        since: Timestamp::now(),
        port: Some(10_000),
        memory_bytes: 1 << 20,
        memory_bytes_peak: 1 << 20,
        memory_bytes_max: 128 << 20,
        fuel_per_s: 0,
        restarts,
        last_failure: crashed.then(|| Failure {
            code: Some(Code::R23),
            message: "unreachable executed".to_string(),
            at: Timestamp::now(),
        }),
        retry_at: None,
    }
}

/// All that is assigned runs, with 64 KiB and 10 fuel/s each.
pub fn all_of_a_crowd() -> Crowd {
    Arc::new(|assigned, wanted| {
        let key = ProcessKey {
            app: assigned.app.clone(),
            release: assigned.release,
            process: assigned.name.clone(),
        };
        let count: u64 = assigned.ranges.iter().map(|range| u64::from(range.count())).sum();
        let asked = wanted.iter().filter(|wanted| wanted.key() == key);
        let details = asked.flat_map(|wanted| {
            let ranges = assigned.ranges.iter();
            let here = ranges.flat_map(|range| {
                (range.first.max(wanted.first)..=range.last.min(wanted.last))
                    .map(|slot| key.instance(slot, range.epoch))
            });
            here.map(|id| report(id, &all_running())).collect::<Vec<_>>()
        });
        ProcessReport {
            states: BTreeMap::from([(InstanceState::Running, assigned.ranges.clone())]),
            newest: BTreeMap::from([(InstanceState::Running, Timestamp::now())]),
            memory_bytes: count << 16,
            fuel_per_s: count * 10,
            details: details.collect(),
            ..ProcessReport::empty(key)
        }
    })
}

/// A node's request as raw JSON, for bad ones.
pub async fn post(plane: &Plane, path: &str, body: &serde_json::Value) -> Answer {
    read(
        plane
            .send(Method::POST, path, &plane.node, Some(&body.to_string()))
            .await,
    )
    .await
}

/// What an assignment runs: `hello v1 web 1-2`.
pub fn summary(assignment: &Assignment) -> Vec<String> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for process in &assignment.processes {
        let key = format!("{} {} {}", process.app, process.release, process.name);
        *counts.entry(key).or_default() += process.ranges.iter().map(|r| r.count()).sum::<u32>();
    }
    counts.into_iter().map(|(key, n)| format!("{key}={n}")).collect()
}
