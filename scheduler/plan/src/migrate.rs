//! Whether a migration goes on, is done, or is given up. (How fast it goes is decided in `desired`.)

use std::{collections::BTreeMap, sync::Arc};

use gilliam_model::{
    Timestamp,
    app::{App, Migration, MigrationFailure},
    image::Image,
    instance::{Failure, InstanceState},
    name::NodeName,
    placement::Placement,
    release::ReleaseId,
    report::{ProcessKey, ProcessReport},
    scale::Scale,
};

use crate::instances::InstanceSet;

/// Crashes of one instance of the new release after which a migration is given up: the first may be bad luck,
/// and the third comes within four seconds of it (the delays before a start are 0, 1 and 2 s).
pub const CRASHES_MAX: u32 = 3;
/// Time without one more instance of the new release becoming ready after which a migration is given up: the
/// default time that an instance has to boot. A longer boot time of the process type counts instead.
pub const STALL_MS_MAX: u64 = 60_000;

static NO_SCALE: Scale = Scale(BTreeMap::new());

/// What becomes of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationStep {
    /// It goes on.
    Continue,
    /// All of the new release runs and nothing of the old ones is left: [`finished`].
    Done,
    /// The new release does not become ready: [`given_up`].
    GiveUp {
        /// Why, with its code if there is one.
        reason: String,
    },
}

/// What a decision about a migration is made from.
#[derive(Clone, Copy)]
pub struct MigrationView<'a> {
    /// The app.
    pub app: &'a App,
    /// The images of its releases.
    pub images: &'a BTreeMap<ReleaseId, Arc<Image>>,
    /// Placements; those of other apps do not matter.
    pub placements: &'a [Placement],
    /// What a node that can be counted on reports of a process type, if it does.
    pub report: &'a dyn Fn(&NodeName, &ProcessKey) -> Option<&'a ProcessReport>,
    /// Since when reports are listened to (the start of the control plane): earlier time is not held against
    /// anyone.
    pub watching_since: Timestamp,
    /// The time.
    pub now: Timestamp,
}

impl std::fmt::Debug for MigrationView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrationView")
            .field("app", self.app)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// What is reported of the new release.
#[derive(Default)]
struct Seen<'a> {
    ready: Scale,
    newest_ready: Option<Timestamp>,
    crashed: Option<String>,
    last_failure: Option<(String, &'a Failure)>,
    /// Whether one that is placed is not ready.
    waits: bool,
}

/// Decides whether a migration goes on; an app without one is done.
///
/// Times in reports are those of their nodes: a node whose clock is behind makes a stall look longer by as
/// much.
pub fn migration(view: &MigrationView<'_>) -> MigrationStep {
    let Some(migration) = &view.app.migration else {
        return MigrationStep::Done;
    };
    let seen = look(view, migration.to);
    if let Some(reason) = seen.crashed {
        return MigrationStep::GiveUp { reason };
    }
    let wanted = view.app.scale.get(&migration.to).unwrap_or(&NO_SCALE);
    let unready: Vec<_> = wanted
        .0
        .iter()
        .filter(|(process, count)| seen.ready.count(process) < **count)
        .collect();
    if unready.is_empty() {
        let old_are_gone = !placed(view).any(|placement| migration.from.contains_key(&placement.release));
        return if old_are_gone {
            MigrationStep::Done
        } else {
            MigrationStep::Continue
        };
    }
    let image = view.images.get(&migration.to);
    let boot_ms = unready
        .iter()
        .filter_map(|(process, _)| image?.processes.get(*process));
    let stall_ms = boot_ms
        .map(|process| process.limits.boot_ms_max)
        .max()
        .unwrap_or(0)
        .max(STALL_MS_MAX);
    let newest_ready = seen.newest_ready.unwrap_or(migration.started_at).min(view.now);
    let since = migration.started_at.max(view.watching_since).max(newest_ready);
    let passed_ms = u64::try_from(view.now.as_millisecond() - since.as_millisecond()).unwrap_or(0);
    if passed_ms < stall_ms {
        return MigrationStep::Continue;
    }
    let counts = unready
        .iter()
        .map(|(process, count)| format!("{} of {count} {process}", seen.ready.count(process)));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let mut reason = format!(
        "{} s passed without one more of {} ready ({counts})",
        stall_ms / 1000,
        migration.to
    );
    if let Some((label, failure)) = &seen.last_failure {
        reason.push_str(&format!("; {label}: {}", text(failure)));
    } else if !seen.waits {
        reason.push_str("; no node has room for more");
    }
    MigrationStep::GiveUp { reason }
}

/// The app after its migration is done.
pub fn finished(app: &App) -> App {
    App {
        migration: None,
        ..app.clone()
    }
}

/// The app after its migration is given up: what ran before it is wanted again.
pub fn given_up(app: &App, reason: String, now: Timestamp) -> App {
    let Some(Migration { to, fallback, .. }) = app.migration.clone() else {
        return app.clone();
    };
    let mut scale = app.scale.clone();
    scale.remove(&to);
    scale.extend(fallback);
    scale.retain(|_, counts| !counts.is_empty());
    App {
        scale,
        migration: None,
        migration_failure: Some(MigrationFailure { to, reason, at: now }),
        ..app.clone()
    }
}

fn placed<'a>(view: &MigrationView<'a>) -> impl Iterator<Item = &'a Placement> {
    let app = &view.app.name;
    view.placements
        .iter()
        .filter(move |placement| placement.app == *app && !placement.ranges.is_empty())
}

fn look<'a>(view: &MigrationView<'a>, to: ReleaseId) -> Seen<'a> {
    let mut seen = Seen::default();
    for placement in placed(view).filter(|placement| placement.release == to) {
        let key = ProcessKey {
            app: placement.app.clone(),
            release: placement.release,
            process: placement.process.clone(),
        };
        let here = (view.report)(&placement.node, &key);
        let ready = here.map_or(0, |report| seen.add(placement, report));
        seen.waits |= ready < placement.count();
        let before = seen.ready.count(&placement.process);
        seen.ready.set(placement.process.clone(), before + ready);
    }
    seen
}

impl<'a> Seen<'a> {
    /// Takes in what a node reports of what is placed on it; gives how many of those are ready.
    fn add(&mut self, placement: &Placement, report: &'a ProcessReport) -> u32 {
        let placed = InstanceSet::of(&placement.ranges);
        let running = report.states.get(&InstanceState::Running);
        let ready = running.map_or(0, |ranges| InstanceSet::of(ranges).intersect(&placed).count());
        if ready > 0 {
            let newest = report.newest.get(&InstanceState::Running).copied();
            self.newest_ready = self.newest_ready.max(newest);
        }
        let details = report.details.iter();
        for detail in details.filter(|detail| placed.contains(detail.id.slot, detail.id.epoch)) {
            let label = detail.id.label();
            let crashes = detail.restarts + u32::from(detail.state == InstanceState::Crashed);
            if crashes >= CRASHES_MAX && self.crashed.is_none() {
                let of = placement.release;
                self.crashed = Some(match &detail.last_failure {
                    Some(failure) => format!("{label} of {of} crashed {crashes} times: {}", text(failure)),
                    None => format!("{label} of {of} ended {crashes} times"),
                });
            }
            if let Some(failure) = &detail.last_failure
                && self
                    .last_failure
                    .as_ref()
                    .is_none_or(|(_, last)| last.at < failure.at)
            {
                self.last_failure = Some((label, failure));
            }
        }
        ready
    }
}

fn text(failure: &Failure) -> String {
    match failure.code {
        Some(code) => format!("{code} {}", failure.message),
        None => failure.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use gilliam_model::{
        image::{Process, Shape},
        instance::{Epoch, InstanceId, InstanceReport},
        limits::Limits,
        placement::SlotRange,
        report::fold,
    };

    use super::*;

    const START: &str = "2026-11-21T09:00:00Z";

    fn after(seconds: i64) -> Timestamp {
        let start: Timestamp = START.parse().expect("time");
        Timestamp::from_second(start.as_second() + seconds).expect("in this century")
    }

    fn release(n: u32) -> ReleaseId {
        format!("v{n}").parse().expect("release")
    }

    fn web(count: u32) -> Scale {
        let mut scale = Scale::default();
        scale.set("web".parse().expect("name"), count);
        scale
    }

    /// An app that moves two web instances from v1 to v2.
    fn moving() -> App {
        let from = BTreeMap::from([(release(1), web(2))]);
        let migration = Migration {
            to: release(2),
            from: from.clone(),
            fallback: from,
            started_at: after(0),
        };
        let mut app = App::new("hello".parse().expect("name"), after(-10));
        app.latest = Some(release(2));
        app.scale.insert(release(2), web(2));
        app.migration = Some(migration);
        app
    }

    fn images(boot_ms_max: u64) -> BTreeMap<ReleaseId, Arc<Image>> {
        let process = Process {
            component: gilliam_model::digest::Digest::from_sha256([0; 32]),
            component_bytes: 1,
            shape: Shape::HttpP2,
            command: "web.wasm".into(),
            args: vec!["web.wasm".into()],
            limits: Limits {
                boot_ms_max,
                ..Limits::default()
            },
            allowed_outbound_hosts: Vec::new(),
            guard_pages: false,
            jobs: gilliam_model::queue::JobTerms::default(),
            uses: Default::default(),
            imports: None,
            placement: gilliam_model::rules::PlacementRules::default(),
        };
        let processes = BTreeMap::from([("web".parse().expect("name"), process)]);
        BTreeMap::from([(release(2), Arc::new(Image::new(processes)))])
    }

    fn reported(id: &InstanceId, since: Timestamp) -> ProcessReport {
        let report = InstanceReport {
            id: id.clone(),
            state: InstanceState::Running,
            since,
            port: None,
            memory_bytes: 0,
            memory_bytes_peak: 0,
            memory_bytes_max: 0,
            fuel_per_s: 0,
            restarts: 0,
            last_failure: None,
            retry_at: None,
        };
        fold([report], &[]).remove(0)
    }

    fn decide(boot_ms_max: u64, watching_since: i64, ready_at: Option<i64>, now: i64) -> MigrationStep {
        let app = moving();
        let placement = Placement {
            app: app.name.clone(),
            release: release(2),
            process: "web".parse().expect("name"),
            node: "a".parse().expect("name"),
            ranges: vec![SlotRange {
                first: 1,
                last: 2,
                epoch: Epoch(2),
            }],
            leaving: Vec::new(),
        };
        let first = placement.instances().next().expect("an instance");
        let report = ready_at.map(|since| reported(&first, after(since)));
        migration(&MigrationView {
            app: &app,
            images: &images(boot_ms_max),
            placements: &[placement],
            report: &|_, _| report.as_ref(),
            watching_since: after(watching_since),
            now: after(now),
        })
    }

    #[track_caller]
    fn check(boot_ms_max: u64, watching_since: i64, ready_at: Option<i64>, given_up_at: i64) {
        assert_eq!(
            decide(boot_ms_max, watching_since, ready_at, given_up_at - 1),
            MigrationStep::Continue
        );
        let step = decide(boot_ms_max, watching_since, ready_at, given_up_at);
        assert!(matches!(step, MigrationStep::GiveUp { .. }), "{step:?}");
    }

    #[test]
    fn a_stall_is_counted_from_the_last_that_became_ready() {
        check(60_000, -10, None, 60);
        check(60_000, -10, Some(25), 85);
    }

    #[test]
    fn a_process_type_that_boots_longer_gets_its_time() {
        check(600_000, -10, None, 600);
        check(100, -10, None, 60);
    }

    #[test]
    fn time_in_which_nobody_listened_does_not_count() {
        check(60_000, 3_600, None, 3_660);
        check(60_000, 3_600, Some(25), 3_660);
    }

    #[test]
    fn what_a_node_with_a_fast_clock_says_is_taken_for_now() {
        assert_eq!(decide(60_000, -10, Some(500), 70), MigrationStep::Continue);
        check(60_000, -10, Some(500), 560);
    }

    #[test]
    fn what_else_was_scaled_meanwhile_stays_when_it_is_given_up() {
        let mut app = moving();
        app.scale.insert(release(3), web(1));
        let after = given_up(&app, "R23 trap".into(), after(60));
        assert_eq!(
            after.scale,
            BTreeMap::from([(release(1), web(2)), (release(3), web(1))])
        );
        assert_eq!(after.migration, None);
        assert_eq!(after.migration_failure.expect("failure").to, release(2));
    }
}
