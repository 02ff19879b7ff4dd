//! What apps use of one another, as it is told and warned of.
//!
//! In flow the records of apps, out flow the graph and, for a new release, what is missing. Nothing here decides about
//! a request: nodes do, by the table of routes.

use std::collections::{BTreeMap, BTreeSet};

use gilliam_model::{
    app::App,
    image::Image,
    name::{AppName, ServiceName},
    route::WEB,
    uses::{AppUses, Use, UseInfo, UseState, Uses, UsesGraph, cycles, permits},
};
use gilliam_store::records;

use crate::{refusal::Refusal, release, shared::Shared};

/// The newest release that may run of each app, as it is looked at here.
type Newest = BTreeMap<AppName, (App, Option<Image>)>;

/// What the newest releases use.
pub(crate) async fn graph(shared: &Shared) -> Result<UsesGraph, Refusal> {
    let (_, apps) = records::list_apps(&shared.store).await?;
    let mut newest = Newest::new();
    for app in apps {
        let image = newest_image(shared, &app.value).await?;
        newest.insert(app.value.name.clone(), (app.value, image));
    }
    let uses = |image: &Option<Image>| image.as_ref().map(uses_of).unwrap_or_default();
    let apps: Vec<AppUses> = newest
        .values()
        .map(|(app, image)| AppUses {
            app: app.name.clone(),
            uses: uses(image)
                .into_iter()
                .map(|(name, used)| info(&app.name, name, used, &newest))
                .collect(),
            callers: app.callers.clone(),
        })
        .collect();
    let calls = apps.iter().map(|app| {
        let called = app.uses.iter().map(|used| used.app.clone()).collect();
        (app.app.clone(), called)
    });
    Ok(UsesGraph {
        cycles: cycles(&calls.collect()),
        apps,
    })
}

/// What is wrong with the uses of an image that is about to be released: lines for whoever does that.
pub(crate) async fn warnings(
    shared: &Shared,
    caller: &AppName,
    image: &Image,
) -> Result<Vec<String>, Refusal> {
    let uses = uses_of(image);
    if uses.is_empty() {
        return Ok(Vec::new());
    }
    let mut newest = Newest::new();
    // As far as what it uses leads.
    let mut next: BTreeSet<AppName> = uses.values().map(|used| used.app.clone()).collect();
    let mut calls = BTreeMap::from([(caller.clone(), next.clone())]);
    while let Some(app) = next.pop_first() {
        if newest.contains_key(&app) {
            continue;
        }
        let Some(stored) = records::load_app(&shared.store, &app).await? else {
            continue;
        };
        let found = match app == *caller {
            true => Some(image.clone()),
            false => newest_image(shared, &stored.value).await?,
        };
        let used = found.as_ref().map(uses_of).unwrap_or_default();
        let called: BTreeSet<AppName> = used.into_values().map(|used| used.app).collect();
        next.extend(called.iter().cloned());
        calls.insert(app.clone(), called);
        newest.insert(app, (stored.value, found));
    }
    let missing = uses.into_iter().filter_map(|(name, used)| {
        let state = info(caller, name.clone(), used.clone(), &newest).state;
        let (what, hint) = state.remark(caller, &used)?;
        Some(format!("{name}.internal does not answer: {what} ({hint})"))
    });
    let mut warnings: Vec<String> = missing.collect();
    warnings.extend(
        cycles(&calls)
            .iter()
            .filter(|cycle| cycle.contains(caller))
            .map(|cycle| circle(cycle)),
    );
    Ok(warnings)
}

fn circle(cycle: &[AppName]) -> String {
    let names: Vec<&str> = cycle.iter().chain(cycle.first()).map(AppName::as_str).collect();
    format!("apps call each other in a circle: {}", names.join(" -> "))
}

/// What the processes of an image use, which is the same for all of them.
fn uses_of(image: &Image) -> Uses {
    let uses = image.processes.values().flat_map(|process| process.uses.clone());
    uses.collect()
}

fn info(caller: &AppName, name: ServiceName, used: Use, newest: &Newest) -> UseInfo {
    let state = match newest.get(&used.app) {
        None => UseState::NoApp,
        Some((app, _)) if !permits(&used.app, app.callers.as_ref(), caller) => UseState::NotPermitted,
        Some((_, None)) => UseState::NoRelease,
        Some((_, Some(image))) => match image.processes.get(&used.process) {
            Some(process) if process.shape.is_http() || used.process.as_str() == WEB => UseState::Ok,
            _ => UseState::NoProcess,
        },
    };
    let Use { app, process } = used;
    UseInfo {
        name,
        app,
        process,
        state,
    }
}

async fn newest_image(shared: &Shared, app: &App) -> Result<Option<Image>, Refusal> {
    let Some(base) = app.base() else { return Ok(None) };
    let release = release::load(shared, &app.name, base).await?;
    Ok(Some(release::load_image(shared, &release).await?))
}
