//! Restart: the same slots, in a new epoch.

use std::collections::BTreeSet;

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    api::{Instances, Restart},
    instance::Epoch,
    name::AppName,
    placement::Placement,
};
use gilliam_plan::{RANGES_MAX, RestartRefusal, RestartTarget, STEPS_MAX};
use gilliam_store::{Check, Expect, Write, keys, records};

use crate::{
    api::{
        Api,
        auth::Caller,
        extract::{self, AppPath},
        instances,
        openapi::Errors,
    },
    change::{Decision, change},
    refusal::Refusal,
    shared::Shared,
};

/// Restarts instances of an app: all of them, those of a process type, or one.
#[utoipa::path(post, path = "/v1/apps/{app}/restart", operation_id = "restart", tag = "instances",
    security(("bearer" = [])), params(("app" = String, Path, description = "The app's name")),
    request_body = Restart,
    responses((status = 200, description = "The instances from now on", body = Instances), Errors))]
pub(crate) async fn restart(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    AppPath(app): AppPath,
    extract::Json(body): extract::Json<Restart>,
) -> Result<Json<Instances>, Refusal> {
    let shared = &api.shared;
    let target = match body.target.as_deref() {
        None => RestartTarget::All,
        Some(text) => text
            .parse()
            .map_err(|refusal: RestartRefusal| refused(&refusal))?,
    };
    let what = body.target.as_deref().unwrap_or("all instances");
    // More records than fit a commit are restarted in parts, each record once.
    let mut done = BTreeSet::new();
    loop {
        let remark = || {
            done.is_empty()
                .then(|| format!("restart of {what} by {}", caller.name))
        };
        let part = change(shared, &app, || decide(shared, &app, &target, &done, remark())).await?;
        if part.is_empty() {
            break;
        }
        done.extend(part);
    }
    instances::load(shared, &app, &instances::Asked::default())
        .await
        .map(Json)
}

/// Restarts the next records, and answers which.
async fn decide(
    shared: &Shared,
    app: &AppName,
    target: &RestartTarget,
    done: &BTreeSet<String>,
    remark: Option<String>,
) -> Result<Decision<Vec<String>>, Refusal> {
    let stored = shared.app(app).await?;
    let (_, mut lists) = shared
        .store
        .ranges(&[&keys::placements_of(app), keys::PLAN_EPOCH])
        .await?;
    let epoch = records::decode_all::<Epoch>(lists.pop().unwrap_or_default())?
        .into_iter()
        .next();
    let placements = records::decode_all::<Placement>(lists.pop().unwrap_or_default())?;
    let placements: Vec<Placement> = placements.into_iter().map(|p| p.value).collect();
    let next = epoch.as_ref().map(|e| e.value).unwrap_or_default().next();
    let changed = match gilliam_plan::restart(&placements, target, next) {
        Ok(changed) => changed,
        // What there was has gone meanwhile.
        Err(_) if !done.is_empty() => Vec::new(),
        Err(refusal) => return Err(refused(&refusal)),
    };
    let part = part(&changed, done);
    let read_at = epoch.as_ref().map(|e| e.revision);
    let of_plans = Check {
        key: keys::PLAN_EPOCH.to_string(),
        expect: Expect::unchanged(read_at),
    };
    let mut writes: Vec<Write> = part
        .iter()
        .map(|placement| records::put_placement(placement))
        .collect();
    let answer = writes.iter().map(|write| write.key().to_string()).collect();
    if !writes.is_empty() {
        writes.push(records::put_epoch(next));
    }
    Ok(Decision {
        checks: vec![stored.unchanged(), of_plans],
        writes,
        remark,
        answer,
    })
}

/// As many of the records that are left as fit a commit.
fn part<'a>(changed: &'a [Placement], done: &BTreeSet<String>) -> Vec<&'a Placement> {
    let mut ranges = 0;
    changed
        .iter()
        .filter(|placement| !done.contains(&keys::of_placement(placement)))
        .take(STEPS_MAX)
        .take_while(|placement| {
            let is_first = ranges == 0;
            ranges += placement.ranges.len();
            is_first || ranges <= RANGES_MAX
        })
        .collect()
}

fn refused(refusal: &RestartRefusal) -> Refusal {
    Refusal::invalid(refusal.to_string()).hint("gilliam ps lists what runs")
}
