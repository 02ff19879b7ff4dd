//! What a new release makes of its app's record.

use std::collections::BTreeMap;

use gilliam_model::{
    Timestamp,
    app::{App, Migration},
    image::Image,
    release::ReleaseId,
    run::RELEASE_HOOK,
    scale::{COUNT_MAX, Scale},
};

/// The app after `release`, its next one, was made of `image` by a deploy, a change of config or a rollback.
///
/// With `migrate`, what every scaled release ran is wanted of the new one: the counts by process type are
/// added up, and process types that the image lacks are left out. The old releases leave the scale and become
/// the migration's `from`. A migration under way is merged: the release it moved to becomes one more to move
/// from, and what to fall back to stays what last ran whole. Without `migrate`, or when nothing was scaled,
/// only the newest release changes.
///
/// # Panics
/// When `release` is not the app's next one: release numbers have no gaps.
pub fn released(app: &App, release: ReleaseId, image: &Image, migrate: bool, now: Timestamp) -> App {
    assert_eq!(release, app.next_release(), "the next release of {}", app.name);
    let after = App {
        latest: Some(release),
        migration_failure: None,
        unproven: None,
        ..app.clone()
    };
    move_to(&after, release, image, migrate, now)
}

/// The app once what it runs moves to `release`, its newest, if it is to.
pub(crate) fn move_to(app: &App, release: ReleaseId, image: &Image, migrate: bool, now: Timestamp) -> App {
    let mut after = app.clone();
    if !migrate || (app.scale.is_empty() && app.migration.is_none()) {
        return after;
    }
    let counts = counts(app, image);
    let mut from = app
        .migration
        .as_ref()
        .map(|migration| migration.from.clone())
        .unwrap_or_default();
    from.extend(app.scale.clone());
    after.scale = if counts.is_empty() {
        BTreeMap::new()
    } else {
        BTreeMap::from([(release, counts)])
    };
    after.migration = Some(Migration {
        to: release,
        from,
        fallback: fallback(app),
        started_at: now,
    });
    after
}

/// What the new release should run.
fn counts(app: &App, image: &Image) -> Scale {
    let mut counts = sum(app.scale.values());
    // What the release of a migration under way lacks is wanted still: the next one may bring it back.
    if let Some(migration) = &app.migration {
        for (process, count) in sum(migration.fallback.values()).0 {
            counts.0.entry(process).or_insert(count);
        }
    }
    counts
        .0
        .retain(|process, _| image.processes.contains_key(process) && process.as_str() != RELEASE_HOOK);
    counts
}

/// What to go back to: what ran whole. That is not so of the release of a migration under way.
fn fallback(app: &App) -> BTreeMap<ReleaseId, Scale> {
    let mut fallback = app.scale.clone();
    if let Some(migration) = &app.migration {
        fallback.remove(&migration.to);
        fallback.extend(migration.fallback.clone());
    }
    fallback
}

fn sum<'a>(scales: impl Iterator<Item = &'a Scale>) -> Scale {
    let mut total = Scale::default();
    for (process, count) in scales.flat_map(|scale| &scale.0) {
        let sum = total.count(process).saturating_add(*count).min(COUNT_MAX);
        total.set(process.clone(), sum);
    }
    total
}
