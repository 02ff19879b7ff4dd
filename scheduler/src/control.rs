//! The control loop: the whole state is read, one pure function decides, its result is written whole; again
//! and again.
//!
//! In: wake-ups (the store changed, what nodes report changed, a tick for liveness and stalls, a nudge). Out:
//! placements, the end of migrations, and what each node should run. A wake-up carries nothing: the state is
//! read anew each time.
//!
//! Invariant: a plan is committed only if no other plan, restart or destroy came between (the check of the
//! plan's epoch), and the end of a migration only if its app is as it was read: any number of these loops may
//! run on one store.
//! Invariant: nothing ends the loop: a failed turn, or one that panics, is tried again after [`RETRY`].

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::FutureExt as _;
use gilliam_model::{
    Timestamp,
    app::App,
    image::Image,
    instance::InstanceState,
    label::Labels,
    name::{AppName, NodeName},
    node::Node,
    placement::Placement,
    release::ReleaseId,
    report::ProcessKey,
    scale::COUNT_MAX,
};
use gilliam_plan::{
    AppState, Availability, MigrationStep, MigrationView, NodeState, Observed, Placements, Plan, Policy,
    Rebalance, Snapshot,
};
use gilliam_serve::DrainSignal;
use gilliam_store::{
    Check, CommitError, Expect, RangeError, Revision, Store, keys, records, records::Stored,
};

use crate::{
    lease::{self, LeaseError},
    observed::{NodeView, Now},
    remarks, report,
    shared::Shared,
    state::{self, Library, State},
    sweep,
};

/// Wait after a turn that failed: long enough not to flood the log, short enough not to be felt.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time without a turn: migrations that stall are given up by then.
const TICK_MAX: Duration = Duration::from_millis(2_500);
/// Turns so often within the time after which a node is lost, so that it is noticed soon after.
const TICKS_PER_LOST: u32 = 4;
/// Ticks without a sign of the control plane that plans after which another does.
const LEASE_PATIENCE_TICKS: u32 = 3;
/// Turns in a row that may change something before the loop pauses: a plan of 100,000 records takes 1,000.
const TURNS_MAX: u32 = 2_000;
/// Parts of one plan that are committed before the state is read again: some hundred milliseconds' worth, for
/// so long nobody else's change is planned.
const PARTS_PER_TURN: usize = 50;
/// Records whose reading costs as much as a commit: one part more for each so many, so that of a large state
/// the commits, not the reading, take most of the time.
const RECORDS_PER_PART: usize = 2_000;
/// Most slots that one node takes when it does not know better itself: what the largest count of one process
/// type needs.
const NODE_SLOTS_MAX: u32 = COUNT_MAX;
/// Most web instances that one node takes: each has a TCP port of its own, of which a node gives out so many.
const NODE_PORTS_MAX: u32 = 20_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    #[error("cannot read the state: {0}")]
    Read(#[from] RangeError),
    #[error("cannot store what was decided: {0}")]
    Commit(#[source] CommitError),
    #[error("cannot tell which control plane plans: {0}")]
    Lease(#[from] LeaseError),
}

/// What a turn found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// All is decided, as of this revision.
    AtRest(Revision),
    /// Something was changed, or someone else changed it meanwhile: decide again.
    Again,
}

#[derive(Debug)]
pub(crate) struct Control {
    shared: Arc<Shared>,
    library: Library,
    /// When this loop began to listen to nodes.
    since: Timestamp,
    /// The apps of the turn before.
    apps: BTreeSet<AppName>,
    /// What is known of the lease, where others may plan.
    lease: Option<lease::Watch>,
}

/// Runs until the drain is asked for; a turn that has begun is finished.
pub(crate) async fn run(shared: Arc<Shared>, mut drain: DrainSignal) {
    let mut observed = shared.observed.changes();
    let mut nudges = shared.nudges.subscribe();
    let tick = (shared.config.lost_after / TICKS_PER_LOST).min(TICK_MAX);
    let mut control = Control::new(shared.clone(), Timestamp::now());
    if let Err(error) = sweep::all(&shared).await {
        tracing::warn!(
            error = error.into_error().message,
            "records of destroyed apps are left for the next start"
        );
    }
    loop {
        observed.mark_unchanged();
        nudges.mark_unchanged();
        let at_rest = control.turns().await;
        let changed = async {
            match at_rest {
                // The senders live as long as `shared`, so none of these ends by itself.
                Some(revision) => tokio::select! {
                    () = changed(&shared.store, revision) => {}
                    _ = observed.changed() => {}
                    _ = nudges.changed() => {}
                    () = tokio::time::sleep(tick) => {}
                },
                None => tokio::time::sleep(RETRY).await,
            }
        };
        tokio::select! {
            () = changed => {}
            _ = drain.requested() => break,
        }
    }
    if let Some(lease) = &control.lease {
        lease.release(&shared.store, &shared.life).await;
    }
}

/// Waits until what a turn reads has changed after `revision`: what changes elsewhere, such as a token or the
/// lease, calls for no turn.
async fn changed(store: &Store, revision: Revision) {
    let changes = state::PREFIXES.map(|prefix| Box::pin(store.changed(prefix, revision)));
    futures::future::select_all(changes).await;
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>, since: Timestamp) -> Self {
        let patience = shared.config.lost_after * LEASE_PATIENCE_TICKS / TICKS_PER_LOST;
        let lease = shared.config.shares_store.then(|| lease::Watch::new(patience));
        Self {
            shared,
            library: Library::default(),
            since,
            apps: BTreeSet::new(),
            lease,
        }
    }

    /// Takes turns until there is nothing to change; gives the revision at which that was so, or none after a
    /// failure.
    async fn turns(&mut self) -> Option<Revision> {
        for _ in 0..TURNS_MAX {
            match AssertUnwindSafe(self.turn(Now::read())).catch_unwind().await {
                Ok(Ok(Turn::AtRest(revision))) => return Some(revision),
                Ok(Ok(Turn::Again)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "turn failed");
                    return None;
                }
                // The panic's own message has gone to the log.
                Err(_) => {
                    tracing::error!("turn panicked");
                    return None;
                }
            }
        }
        tracing::warn!(turns = TURNS_MAX, "the plan does not come to rest");
        None
    }

    /// One turn, which takes it to be `now`.
    pub(crate) async fn turn(&mut self, now: Now) -> Result<Turn, TurnError> {
        let shared = self.shared.clone();
        let state = Arc::new(State::read(&shared.store, &mut self.library).await?);
        *shared.known.lock().expect("no holder panics") = Some(state.clone());
        let nodes = shared.observed.view(now);
        self.forget_logs(&state);
        let in_grace = shared.observed.in_grace(now);
        publish(&shared, &state, &nodes, in_grace);
        let plans = match &mut self.lease {
            Some(lease) => lease.holds(&shared.store, &shared.life, now.clock).await?,
            None => true,
        };
        if plans && self.end_migrations(&state, &nodes, now.wall).await? {
            return Ok(Turn::Again);
        }
        let plan = gilliam_plan::plan(&snapshot(&state, &nodes, in_grace, policy(&shared)));
        report::keep(&shared, state.revision, &plan);
        // What was asked for is done when nothing is on its way any more.
        if plan.is_empty() && plans && state.placements.iter().all(|p| p.value.leaving.is_empty()) {
            shared.rebalance.store(false, Ordering::Relaxed);
        }
        if plan.is_empty() || !plans {
            return Ok(Turn::AtRest(state.revision));
        }
        commit(&shared, &state, &plan).await?;
        Ok(Turn::Again)
    }

    /// Forgets the logs of apps that were there in the turn before and are gone.
    fn forget_logs(&mut self, state: &State) {
        let apps: BTreeSet<AppName> = state.apps.iter().map(|app| app.value.name.clone()).collect();
        for gone in self.apps.difference(&apps) {
            self.shared.logs.close(gone);
        }
        self.apps = apps;
    }

    /// Ends the migrations that are done or given up; says whether there was one.
    async fn end_migrations(
        &self,
        state: &State,
        nodes: &BTreeMap<NodeName, NodeView>,
        now: Timestamp,
    ) -> Result<bool, TurnError> {
        let mut changed = false;
        for app in state.apps.iter().filter(|app| app.value.migration.is_some()) {
            if let Some((after, text)) = decide_migration(state, &app.value, nodes, self.since, now) {
                changed = true;
                let store = &self.shared.store;
                tracing::info!(app = %after.name, text);
                let (check, remark) = remarks::added(store, &after.name, now, text).await?;
                let (checks, writes) = ([app.unchanged(), check], [records::put_app(&after), remark]);
                match store.commit(&checks, &writes).await {
                    Ok(_) => {}
                    // Its users changed it meanwhile: the next turn sees what they did.
                    Err(CommitError::Conflict { .. }) => {}
                    Err(error) => return Err(TurnError::Commit(error)),
                }
            }
        }
        Ok(changed)
    }
}

/// The app after its migration, with what to tell its users; none while it goes on.
fn decide_migration(
    state: &State,
    app: &App,
    nodes: &BTreeMap<NodeName, NodeView>,
    since: Timestamp,
    now: Timestamp,
) -> Option<(App, String)> {
    let to = app.migration.as_ref()?.to;
    let placements: Vec<Placement> = state
        .placements
        .iter()
        .map(|p| &p.value)
        .filter(|p| p.app == app.name)
        .cloned()
        .collect();
    let report = |node: &NodeName, key: &ProcessKey| {
        let node = nodes.get(node).filter(|node| node.is_ready())?;
        node.reports.get(key).map(|report| &**report)
    };
    let view = MigrationView {
        app,
        images: &images(state, &app.name),
        placements: &placements,
        report: &report,
        watching_since: since,
        now,
    };
    match gilliam_plan::migration(&view) {
        MigrationStep::Continue => None,
        MigrationStep::Done => Some((gilliam_plan::finished(app), format!("migration to {to} done"))),
        MigrationStep::GiveUp { reason } => {
            let text = format!("migration to {to} given up: {reason}");
            Some((gilliam_plan::given_up(app, reason, now), text))
        }
    }
}

/// The operator's choices: as they were started with, and what was asked for since.
fn policy(shared: &Shared) -> Policy {
    let policy = shared.config.policy;
    let asked = shared.rebalance.load(Ordering::Relaxed).then(Rebalance::default);
    Policy {
        rebalance: asked.or(policy.rebalance),
        ..policy
    }
}

/// What a plan is made from.
///
/// In the first moments a node that has not synced yet may be on its way, and is left out: what is placed on
/// it stays. Later it is lost.
pub(crate) fn snapshot(
    state: &State,
    nodes: &BTreeMap<NodeName, NodeView>,
    in_grace: bool,
    policy: Policy,
) -> Snapshot {
    let of_app = |app: &Stored<App>| AppState {
        app: app.value.clone(),
        images: images(state, &app.value.name),
    };
    let placements: Placements = state.placements.iter().map(|p| &p.value).collect();
    let mut known: Vec<NodeState> = nodes
        .values()
        .map(|node| node_state(node, state.nodes.get(&node.facts.name)))
        .collect();
    if !in_grace {
        let silent = placements.holders().filter(|node| !nodes.contains_key(*node));
        known.extend(silent.map(|name| NodeState {
            name: name.clone(),
            state: Availability::Lost,
            memory_bytes: 0,
            cpu_millis: 0,
            labels: Labels::default(),
            slots_max: 0,
            ports_max: 0,
        }));
    }
    let mut observed = Observed::default();
    for (key, report) in nodes.values().flat_map(NodeView::current) {
        if let Some(running) = report.states.get(&InstanceState::Running) {
            observed.add_ranges(key, running);
        }
    }
    Snapshot {
        epoch: state
            .epoch
            .as_ref()
            .map(|stored| stored.value)
            .unwrap_or_default(),
        apps: state.apps.iter().map(of_app).collect(),
        nodes: known,
        placements,
        observed,
        policy,
    }
}

fn node_state(node: &NodeView, decided: Option<&Node>) -> NodeState {
    let is_draining = decided.is_some_and(|node| node.draining_since.is_some());
    let is_forgotten = decided.is_some_and(|node| node.forgotten_at.is_some());
    NodeState {
        name: node.facts.name.clone(),
        state: match node.is_ready() && !is_forgotten {
            true if is_draining => Availability::Draining,
            true => Availability::Ready,
            false => Availability::Lost,
        },
        memory_bytes: node.facts.memory_bytes,
        cpu_millis: node.facts.cpu_millis_promisable(),
        labels: node.facts.labels.clone(),
        slots_max: node
            .facts
            .instances_max
            .map_or(NODE_SLOTS_MAX, |max| max.min(NODE_SLOTS_MAX)),
        ports_max: NODE_PORTS_MAX,
    }
}

fn images(state: &State, app: &AppName) -> BTreeMap<ReleaseId, Arc<Image>> {
    let images = state.images.range((app.clone(), ReleaseId::FIRST)..);
    images
        .take_while(|((owner, _), _)| owner == app)
        .map(|((_, id), image)| (*id, image.clone()))
        .collect()
}

/// Commits the first parts of a plan; what is left, or came too late, is dropped, since the next turn plans
/// again.
async fn commit(shared: &Shared, state: &State, plan: &Plan) -> Result<(), TurnError> {
    let mut read_at = state.epoch.as_ref().map(|epoch| epoch.revision);
    let parts = PARTS_PER_TURN + state.placements.len() / RECORDS_PER_PART;
    for part in plan.parts.iter().take(parts) {
        let check = Check {
            key: keys::PLAN_EPOCH.to_string(),
            expect: Expect::unchanged(read_at),
        };
        let mut writes = vec![records::put_epoch(plan.epoch)];
        writes.extend(
            part.iter()
                .map(|change| records::put_placement(&change.placement)),
        );
        match shared.store.commit(&[check], &writes).await {
            Ok(revision) => read_at = Some(revision),
            Err(CommitError::Conflict { .. }) => return Ok(()),
            Err(error) => {
                report::keep_unstored(shared, state.revision, plan, &error);
                return Err(TurnError::Commit(error));
            }
        }
    }
    Ok(())
}

fn publish(shared: &Shared, state: &State, nodes: &BTreeMap<NodeName, NodeView>, in_grace: bool) {
    let mut assignments = state.assignments();
    for node in nodes.keys() {
        assignments.entry(node.clone()).or_default();
    }
    let routes = gilliam_plan::routes(state.apps.iter().map(|app| &app.value));
    let placements = state.placements.iter().map(|placement| &placement.value);
    shared.peers.publish(&routes, placements, nodes, in_grace);
    shared.publisher.publish(state.revision.0, &routes, assignments);
}
