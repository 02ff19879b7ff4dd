//! How many slots of each group there should be now.
//!
//! Outside of a migration that is the app's scale. During one, as many of the new release as may start, and
//! as many of the old ones as are still needed:
//!
//! - of `N` wanted instances of a process type of the new release, at most `max(1, ⌈N/4⌉)` are on their way
//!   to be ready at once;
//! - of `M` instances of an old release, `⌈M × (1 − ready/N)⌉` stay, where `ready` of the new ones are;
//! - a process type that the new release lacks stays whole until all of the new release is ready;
//! - what has not been heard of is taken for ready where old instances would start, for not ready where they
//!   would stop: after a restart of the control plane nothing moves until nodes have spoken;
//! - a release that is not fallen back to (one that a newer migration overtook) loses instances but gains
//!   none.

use std::collections::BTreeMap;

use gilliam_model::{
    app::{App, Migration},
    release::ReleaseId,
    scale::Scale,
};

use crate::{
    snapshot::Snapshot,
    world::{GroupName, Tally, World},
};

/// The share of a process type that may be on its way to be ready at once in a migration: a quarter, so that
/// a migration takes a few rounds and a bad release takes little room.
const SURGE_DIVISOR: u32 = 4;

static NO_SCALE: Scale = Scale(BTreeMap::new());

/// The groups that an app's record speaks of, with their counts outside of a migration.
pub(crate) fn names(app: &App) -> impl Iterator<Item = (GroupName<'_>, u32)> {
    let group = |release: ReleaseId, process| GroupName {
        app: &app.name,
        release,
        process,
    };
    let scale = app.scale.iter().flat_map(move |(release, scale)| {
        scale
            .0
            .iter()
            .map(move |(process, count)| (group(*release, process), *count))
    });
    let from = app.migration.iter().flat_map(|migration| &migration.from);
    let from = from
        .flat_map(move |(release, scale)| scale.0.keys().map(move |process| (group(*release, process), 0)));
    scale.chain(from)
}

/// Sets how many slots of each group of apps that migrate there should be.
pub(crate) fn migrations<'a>(snapshot: &'a Snapshot, world: &mut World<'a>) {
    let mut wants = BTreeMap::new();
    for app in snapshot.apps.iter().map(|state| &state.app) {
        if let Some(migration) = &app.migration {
            migrate(&mut wants, app, migration, world);
        }
    }
    for (name, want) in wants {
        if let Some(group) = world.find(name) {
            world.groups[group].want = want;
        }
    }
}

fn migrate<'a>(
    wants: &mut BTreeMap<GroupName<'a>, u32>,
    app: &'a App,
    migration: &'a Migration,
    world: &mut World<'a>,
) {
    let new = |process| GroupName {
        app: &app.name,
        release: migration.to,
        process,
    };
    let to = app.scale.get(&migration.to).unwrap_or(&NO_SCALE);
    let all_ready =
        to.0.iter()
            .all(|(process, count)| world.tally(new(process)).running >= *count);
    for (release, scale) in &migration.from {
        let proven = migration.fallback.contains_key(release);
        for (process, count) in &scale.0 {
            let old = GroupName {
                app: &app.name,
                release: *release,
                process,
            };
            let (most, least) = match to.count(process) {
                0 if all_ready => (0, 0),
                0 => (*count, *count),
                n => {
                    let ready = world.tally(new(process));
                    (
                        stay(*count, n, ready.running),
                        stay(*count, n, ready.running + ready.unheard),
                    )
                }
            };
            let tally = world.tally(old);
            let want = if proven {
                (tally.placed + tally.lost).clamp(least, most)
            } else {
                tally.placed.min(most)
            };
            wants.insert(old, want);
        }
    }
    for (process, count) in &to.0 {
        wants.insert(new(process), may_run(*count, world.tally(new(process))));
    }
}

/// `⌈old × (1 − ready/n)⌉`.
fn stay(old: u32, n: u32, ready: u32) -> u32 {
    let missing = u64::from(n.saturating_sub(ready));
    let stay = (u64::from(old) * missing).div_ceil(u64::from(n));
    u32::try_from(stay).unwrap_or(old)
}

/// How many of `n` slots of the new release may be placed.
fn may_run(n: u32, tally: Tally) -> u32 {
    let surge = n.div_ceil(SURGE_DIVISOR).max(1);
    (tally.running + surge).max(tally.kept + tally.lost).min(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_instances_stay_in_proportion_to_what_is_not_ready() {
        for (old, n, ready, want) in [
            (1, 1, 0, 1),
            (1, 1, 1, 0),
            (4, 4, 0, 4),
            (4, 4, 1, 3),
            (4, 4, 3, 1),
            (4, 4, 9, 0),
            (2, 8, 3, 2),
            (8, 2, 1, 4),
            (100_000, 100_000, 99_999, 1),
        ] {
            assert_eq!(stay(old, n, ready), want, "{old} old, {ready} of {n} ready");
        }
    }

    #[test]
    fn a_quarter_starts_at_once() {
        let tally = |running, kept| Tally {
            running,
            kept,
            placed: kept,
            ..Tally::default()
        };
        for (n, running, kept, want) in [
            (1, 0, 0, 1),
            (4, 0, 0, 1),
            (5, 0, 0, 2),
            (5, 0, 2, 2),
            (5, 2, 2, 4),
            (5, 4, 4, 5),
            (8, 0, 6, 6),
            (2, 0, 3, 2),
        ] {
            assert_eq!(
                may_run(n, tally(running, kept)),
                want,
                "{running} of {kept} run, {n} wanted"
            );
        }
    }
}
