//! The control loop: the state is brought up to date, one pure function decides, its result is written whole;
//! again and again.
//!
//! In: wake-ups (the store changed, what nodes report changed, a tick for liveness and stalls, a nudge). Out:
//! placements, the end of migrations, and what each node should run. A wake-up carries nothing: each turn asks the
//! store what changed since the turn before, and decides on the whole state; where nothing changed that a decision
//! hangs on, what was decided holds.
//!
//! Invariant: a plan is committed only if no other plan, restart or destroy came between (the check of the
//! plan's epoch), and the end of a migration only if its app is as it was read: any number of these loops may
//! run on one store.
//! Invariant: nothing ends the loop: a failed turn, or one that panics, is tried again after [`RETRY`].

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::FutureExt as _;
use gilliam_model::{
    Timestamp, api::NodeState, app::App, name::NodeName, placement::Placement, report::ProcessKey,
    route::RouteTable,
};
use gilliam_plan::{MigrationStep, MigrationView, Plan, Routed};
use gilliam_serve::DrainSignal;
use gilliam_store::{Check, CommitError, Expect, RangeError, Revision, Store, keys, records};

use crate::{
    crons::{self, turn::Clockwork},
    homes,
    lease::{self, LeaseError},
    mirror::Mirror,
    observed::{NodeView, Now},
    remarks, report, runs,
    shared::Shared,
    snapshot,
    state::{self, AppEntry, State},
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
/// Records whose planning costs as much as a commit: one part more for each so many, so that of a large state
/// the commits, not the planning, take most of the time.
const RECORDS_PER_PART: usize = 2_000;
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
    mirror: Mirror,
    /// When this loop began to listen to nodes.
    since: Timestamp,
    routes: Routes,
    /// What the last turn that came to rest decided on.
    settled: Option<Grounds>,
    /// When crons are due.
    clockwork: Clockwork,
    /// What is known of the lease, where others may plan.
    lease: Option<lease::Watch>,
}

/// The routes of the apps, as of a version of them.
#[derive(Debug, Default)]
struct Routes {
    version: u64,
    table: Arc<RouteTable>,
    routed: Arc<Routed>,
}

/// All that a turn's decisions hang on, but for migrations and runs, which time ends too: two turns with the
/// same grounds decide the same.
#[derive(Debug, PartialEq, Eq)]
struct Grounds {
    state: u64,
    /// What nodes report.
    heard: u64,
    nodes: Vec<(NodeName, NodeState)>,
    nudges: u64,
    in_grace: bool,
    plans: bool,
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
        let rest = control.clockwork.rest(Timestamp::now(), tick);
        let changed = async {
            match at_rest {
                // The senders live as long as `shared`, so none of these ends by itself.
                Some(revision) => tokio::select! {
                    () = changed(&shared.store, revision) => {}
                    _ = observed.changed() => {}
                    _ = nudges.changed() => {}
                    () = tokio::time::sleep(rest) => {}
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
            mirror: Mirror::default(),
            since,
            routes: Routes::default(),
            settled: None,
            clockwork: Clockwork::default(),
            lease,
        }
    }

    /// Has it plan whoever else does.
    pub(crate) fn give_no_lease(&mut self) {
        self.lease = None;
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
        // Before what they stand for is looked at.
        let (heard, nudges) = (shared.observed.changes_count(), *shared.nudges.borrow());
        self.mirror.refresh(&shared.store).await?;
        let (state, followed) = (self.mirror.state(), self.mirror.revision());
        *shared.known.lock().expect("no holder panics") = Some(state.clone());
        shared.followed.store(followed.0, Ordering::Release);
        self.forget_logs();
        let nodes = shared.observed.view(now);
        let in_grace = shared.observed.in_grace(now);
        let plans = match &mut self.lease {
            Some(lease) => lease.holds(&shared.store, &shared.life, now.clock).await?,
            None => true,
        };
        let grounds = Grounds {
            state: self.mirror.version(),
            heard,
            nodes: nodes
                .iter()
                .map(|(name, node)| (name.clone(), node.state))
                .collect(),
            nudges,
            in_grace,
            plans,
        };
        let is_due = plans && self.clockwork.is_due(now.wall);
        if !is_due && self.settled.as_ref() == Some(&grounds) {
            return Ok(Turn::AtRest(followed));
        }
        self.settled = None;
        self.publish(&state, &nodes, in_grace);
        if plans && self.end_migrations(&state, &nodes, now.wall).await? {
            return Ok(Turn::Again);
        }
        if plans && self.fire(&state, now.wall).await? {
            return Ok(Turn::Again);
        }
        let snapshot = snapshot::of(&state, &nodes, in_grace);
        if plans && homes::give(&shared, &state, &snapshot, now.wall).await? {
            return Ok(Turn::Again);
        }
        if plans && runs::turn::take(&shared, &state, &nodes, &snapshot, in_grace, now.wall).await? {
            return Ok(Turn::Again);
        }
        let plan = gilliam_plan::plan(&snapshot);
        report::keep(&shared, state.revision, &plan);
        // What was asked for is done when nothing is on its way any more.
        if let Some(asked) = &state.rebalance
            && plan.is_empty()
            && plans
            && !state.placements.is_leaving()
        {
            let done = records::delete(asked.key.clone());
            return match shared.store.commit(&[asked.unchanged()], &[done]).await {
                // Or it was asked for again.
                Ok(_) | Err(CommitError::Conflict { .. }) => Ok(Turn::Again),
                Err(error) => Err(TurnError::Commit(error)),
            };
        }
        if plan.is_empty() || !plans {
            // Time ends migrations and runs too.
            let moves = state.apps.values().any(|entry| entry.is_migrating()) || !state.runs.is_empty();
            self.settled = (!moves).then_some(grounds);
            return Ok(Turn::AtRest(followed));
        }
        commit(&shared, &state, &plan).await?;
        Ok(Turn::Again)
    }

    /// Forgets the logs of apps that are gone.
    fn forget_logs(&mut self) {
        for gone in self.mirror.take_gone() {
            self.shared.logs.close(&gone);
        }
    }

    /// Tells nodes what they should run, and of each other.
    fn publish(&mut self, state: &State, nodes: &BTreeMap<NodeName, NodeView>, in_grace: bool) {
        let version = self.mirror.routes_version();
        if self.routes.version != version {
            let table = gilliam_plan::routes(state.apps.values().map(|entry| &*entry.state));
            self.routes = Routes {
                version,
                routed: Arc::new(Routed::of(&table)),
                table: Arc::new(table),
            };
        }
        let Routes { table, routed, .. } = &self.routes;
        let shared = &self.shared;
        shared.peers.publish(routed, &state.assigned, nodes, in_grace);
        shared.publisher.publish(
            state.revision.0,
            table,
            &state.assigned,
            &state.assigned_runs(),
            nodes.keys(),
        );
    }

    /// Does what is due about crons; says whether there was anything.
    async fn fire(&mut self, state: &State, now: Timestamp) -> Result<bool, TurnError> {
        let due = self.clockwork.due(state, self.mirror.version(), now);
        crons::turn::take(&self.shared, state, &due, now).await
    }

    /// Ends the migrations that are done or given up; says whether there was one.
    async fn end_migrations(
        &self,
        state: &State,
        nodes: &BTreeMap<NodeName, NodeView>,
        now: Timestamp,
    ) -> Result<bool, TurnError> {
        let mut changed = false;
        for entry in state.apps.values().filter(|entry| entry.is_migrating()) {
            if let Some((after, text)) = decide_migration(state, entry, nodes, self.since, now) {
                changed = true;
                let store = &self.shared.store;
                tracing::info!(app = %after.name, text);
                let (check, remark) = remarks::added(store, &after.name, now, text).await?;
                let (checks, writes) = (
                    [entry.stored.unchanged(), check],
                    [records::put_app(&after), remark],
                );
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
    entry: &AppEntry,
    nodes: &BTreeMap<NodeName, NodeView>,
    since: Timestamp,
    now: Timestamp,
) -> Option<(App, String)> {
    let app = &entry.stored.value;
    let to = app.migration.as_ref()?.to;
    let placements: Vec<Placement> = state.placements.of_app(&app.name).collect();
    let report = |node: &NodeName, key: &ProcessKey| {
        let node = nodes.get(node).filter(|node| node.is_ready())?;
        node.reports.get(key).map(|report| &**report)
    };
    let view = MigrationView {
        app,
        images: &entry.state.images,
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

/// Commits the first parts of a plan; what is left, or came too late, is dropped, since the next turn plans
/// again.
async fn commit(shared: &Shared, state: &State, plan: &Plan) -> Result<(), TurnError> {
    let mut read_at = state.epoch.as_ref().map(|epoch| epoch.revision);
    let parts = PARTS_PER_TURN + state.placements.records_count() / RECORDS_PER_PART;
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
