//! The plan: what a change would do, and slots that move for a better spread.

use std::{collections::btree_map::Entry, sync::Arc};

use axum::{Json, extract::State};
use gilliam_model::{
    Timestamp,
    name::AppName,
    release::ReleaseId,
    what_if::{Difference, Question, WhatIf, WhatIfError},
};
use gilliam_plan::{Snapshot, WhatIfRefusal, scale_target, what_if};
use gilliam_store::{Since, keys, records};
use http::StatusCode;

use crate::{
    api::{Api, extract, openapi::Errors, scale},
    mirror::Mirror,
    observed::Now,
    refusal::Refusal,
    release,
    shared::Shared,
    snapshot,
    state::{PREFIXES, State as Known},
};

/// Shows what a change would place, move, stop and block, once all has come to rest. Changes nothing.
#[utoipa::path(post, path = "/v1/plan/what-if", operation_id = "what_if", tag = "plan",
    security(("bearer" = [])), request_body = Question,
    responses((status = 200, description = "What would differ", body = Difference), Errors))]
pub(crate) async fn ask(
    State(api): State<Api>,
    extract::Json(question): extract::Json<Question>,
) -> Result<Json<Difference>, Refusal> {
    let shared = &api.shared;
    let change: WhatIf = question
        .change
        .parse()
        .map_err(|error: WhatIfError| Refusal::invalid(error.to_string()).hint(error.hint()))?;
    let app = question
        .app
        .as_deref()
        .map(|app| app.parse::<AppName>().map_err(|_| Refusal::no_app(app)));
    let app = app.transpose()?;
    let state = newest(shared).await?;
    let now = Now::read();
    let mut snapshot = snapshot::of(&state, &shared.observed.view(now), shared.observed.in_grace(now));
    if let (WhatIf::Scale(patch), Some(app)) = (&change, &app) {
        add_image(shared, app, patch.release, &mut snapshot).await?;
    }
    // Planning a large cluster to its end takes seconds of a core.
    let answer = tokio::task::spawn_blocking(move || {
        let answer = what_if(&snapshot, app.as_ref(), &change);
        (answer, app)
    });
    let (answer, app) = answer.await.map_err(|error| Refusal::internal(&error))?;
    answer.map(Json).map_err(|refusal| refused(app.as_ref(), refusal))
}

/// The state as it is now: as the last turn knows it, or read anew if it changed since.
async fn newest(shared: &Shared) -> Result<Arc<Known>, Refusal> {
    if let Some(known) = shared.known() {
        let since = shared.store.since(&PREFIXES, known.revision).await?;
        if matches!(since, Since::Known { changes, .. } if changes.is_empty()) {
            return Ok(known);
        }
    }
    let mut mirror = Mirror::default();
    mirror.refresh(&shared.store).await?;
    Ok(mirror.state())
}

/// Adds the image of a release that is asked about, and runs nowhere so far.
async fn add_image(
    shared: &Shared,
    app: &AppName,
    release: Option<ReleaseId>,
    snapshot: &mut Snapshot,
) -> Result<(), Refusal> {
    let Some(state) = snapshot.apps.iter_mut().find(|state| state.app.name == *app) else {
        return Err(Refusal::no_app(app.as_str()));
    };
    let state = Arc::make_mut(state);
    let target = scale_target(&state.app, release).map_err(|refusal| scale::refused(app, refusal))?;
    if let Entry::Vacant(entry) = state.images.entry(target) {
        let release = release::load(shared, app, target).await?;
        entry.insert(Arc::new(release::load_image(shared, &release).await?));
    }
    Ok(())
}

/// Asks for slots to move for the sake of a better spread, some at a time, until it is as even as can be.
#[utoipa::path(post, path = "/v1/plan/rebalance", operation_id = "rebalance", tag = "plan",
    security(("bearer" = [])),
    responses((status = 202, description = "It begins"), Errors))]
pub(crate) async fn rebalance(State(api): State<Api>) -> Result<StatusCode, Refusal> {
    // Whichever control plane plans does it, and goes on with it when another one began.
    let asked = records::put(keys::REBALANCE.to_string(), &Timestamp::now());
    api.shared.store.commit(&[], &[asked]).await?;
    Ok(StatusCode::ACCEPTED)
}

fn refused(app: Option<&AppName>, refusal: WhatIfRefusal) -> Refusal {
    let message = refusal.to_string();
    match (refusal, app) {
        (WhatIfRefusal::NoApp { app: Some(app) }, _) => Refusal::no_app(app.as_str()),
        (WhatIfRefusal::NoApp { app: None }, _) => Refusal::invalid(message).hint("name the app: --app NAME"),
        (WhatIfRefusal::NoNode { .. }, _) => Refusal::invalid(message).hint("gilliam nodes lists them"),
        (WhatIfRefusal::Scale(refusal), Some(app)) => scale::refused(app, refusal),
        (WhatIfRefusal::Scale(_), None) => Refusal::invalid(message),
    }
}
