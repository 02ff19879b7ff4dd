//! Carries out [`decide`](crate::decide): starts and stops one task for each instance.

pub(crate) mod instance;
mod seat;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gilliam_model::{assignment::Assignment, instance::InstanceId, name::NodeName};
use gilliam_serve::DrainOutcome;
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    artefacts::Artefacts,
    board::{Board, Change},
    decide::{Action, decide, wanted},
    ingress::Ingress,
    logs::Logs,
    ports::Ports,
};
use instance::Spec;

/// Least time between two turns: a thousand instances that change together cost a few turns, not a thousand.
const GATHER: Duration = Duration::from_millis(2);

/// What instances need of their node.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) node: NodeName,
    pub(crate) artefacts: Arc<Artefacts>,
    pub(crate) board: Arc<Board>,
    pub(crate) ports: Arc<Ports>,
    pub(crate) ingress: Ingress,
    pub(crate) logs: Arc<Logs>,
}

/// The instances of an assignment, each with the index of its process in it.
type Wanted = BTreeMap<InstanceId, usize>;

/// The one owner of all instance tasks. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Supervisor {
    surroundings: Arc<Surroundings>,
    assignment: watch::Receiver<Option<Arc<Assignment>>>,
    tasks: JoinSet<()>,
    ids: BTreeMap<Id, InstanceId>,
    stops: BTreeMap<InstanceId, CancellationToken>,
    /// What the assignment that was last looked at asks for.
    wanted: Option<(Arc<Assignment>, Arc<Wanted>)>,
}

impl Supervisor {
    pub(crate) fn new(
        surroundings: Arc<Surroundings>,
        assignment: watch::Receiver<Option<Arc<Assignment>>>,
    ) -> Self {
        let (ids, stops) = (BTreeMap::new(), BTreeMap::new());
        Self {
            surroundings,
            assignment,
            tasks: JoinSet::new(),
            ids,
            stops,
            wanted: None,
        }
    }

    /// Keeps what runs equal to the assignment, for as long as it is polled. Cancel-safe.
    pub(crate) async fn supervise(&mut self) {
        let mut states = self.surroundings.board.watch_states();
        loop {
            states.borrow_and_update();
            let assignment = self.assignment.borrow_and_update().clone();
            if let Some(assignment) = assignment {
                self.turn(&assignment);
            }
            tokio::time::sleep(GATHER).await;
            // Each of these only wakes the loop: a wake-up that is lost with this future finds its change in
            // the state.
            tokio::select! {
                changed = self.assignment.changed() => if changed.is_err() { return },
                _ = states.changed() => {}
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
            }
            // Those that ended together cost one turn.
            while let Some(ended) = self.tasks.try_join_next_with_id() {
                self.ended(ended);
            }
        }
    }

    /// Stops everything, within `grace`.
    pub(crate) async fn drain(mut self, grace: Duration) -> DrainOutcome {
        for (id, stop) in &self.stops {
            self.surroundings.board.change(id, Change::Stopping);
            stop.cancel();
        }
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
        };
        match tokio::time::timeout(grace, all).await {
            Ok(()) => DrainOutcome::Finished,
            Err(_) => DrainOutcome::TimedOut {
                connections: self.tasks.len(),
            },
        }
    }

    fn turn(&mut self, assignment: &Arc<Assignment>) {
        let wanted = self.wanted(assignment);
        for action in decide(&wanted, &self.surroundings.board.states()) {
            match action {
                Action::Stop(id) => {
                    self.surroundings.board.change(&id, Change::Stopping);
                    if let Some(stop) = self.stops.get(&id) {
                        stop.cancel();
                    }
                }
                Action::Start(id) => {
                    let assigned = &assignment.processes[wanted[&id]];
                    self.start(Spec::new(id, assigned, &self.surroundings.node));
                }
            }
        }
    }

    fn wanted(&mut self, assignment: &Arc<Assignment>) -> Arc<Wanted> {
        match &self.wanted {
            Some((known, wanted)) if Arc::ptr_eq(known, assignment) => wanted.clone(),
            _ => {
                let wanted = Arc::new(wanted(assignment));
                self.wanted = Some((assignment.clone(), wanted.clone()));
                wanted
            }
        }
    }

    fn start(&mut self, spec: Spec) {
        let id = spec.id.clone();
        self.surroundings
            .board
            .add(&id, spec.process.limits.memory_bytes_max);
        let stop = CancellationToken::new();
        self.stops.insert(id.clone(), stop.clone());
        let task = instance::run(self.surroundings.clone(), spec, stop);
        let handle = self.tasks.spawn(task);
        self.ids.insert(handle.id(), id);
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let task = match &ended {
            Ok((task, ())) => *task,
            Err(error) => {
                tracing::error!(%error, "the task of an instance failed; it is started again");
                error.id()
            }
        };
        if let Some(id) = self.ids.remove(&task) {
            self.stops.remove(&id);
            self.surroundings.ingress.forget(&id);
            self.surroundings.board.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use gilliam_engine::{Engines, EnginesConfig};
    use gilliam_serve::Places;

    use super::*;
    use crate::{config::ControlAddress, control::Control, lock::node_folder};

    fn surroundings(data: &std::path::Path) -> Arc<Surroundings> {
        std::fs::create_dir(node_folder(data)).expect("folder");
        let config = EnginesConfig {
            http_p2_slots: 1,
            p3_slots: 1,
            ..EnginesConfig::default()
        };
        let engines = Engines::new(&config).expect("engines");
        let control = Arc::new(Control::new(ControlAddress::File(data.join("none"))));
        let artefacts = Artefacts::open(data, engines, control, vec!["false".into()]);
        let logs = Arc::new(Logs::default());
        Arc::new(Surroundings {
            node: "n1".parse().expect("name"),
            artefacts: Arc::new(artefacts.expect("artefacts")),
            board: Board::new(),
            ports: Ports::new([127, 0, 0, 1].into(), 0, Places::new(1)),
            ingress: Ingress::new(logs.clone()),
            logs,
        })
    }

    #[tokio::test]
    async fn instances_that_end_together_cost_a_few_turns() {
        let data = tempfile::tempdir().expect("folder");
        let around = surroundings(data.path());
        let (_assignment, follow) = watch::channel(None);
        let mut supervisor = Supervisor::new(around.clone(), follow);
        for slot in 1..=2_000 {
            let id: InstanceId = format!("a/v1/worker.{slot}@1").parse().expect("id");
            around.board.add(&id, 1);
            let task = supervisor.tasks.spawn(async {});
            supervisor.ids.insert(task.id(), id);
        }
        let mut states = around.board.watch_states();
        let gone = states.wait_for(|_| around.board.states().is_empty());
        let begun = Instant::now();
        tokio::select! {
            () = supervisor.supervise() => panic!("the supervisor ended"),
            gone = gone => { gone.expect("a board"); }
        }
        // A turn takes 2 ms at least.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}
