//! Scale: how many instances of each process type should run.

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    api::{ScaleInfo, ScalePatch},
    app::App,
    code::Code,
    name::AppName,
    release::ReleaseId,
};
use gilliam_plan::{ScaleRefusal, scale_target};
use gilliam_store::records;

use crate::{
    api::{
        Api,
        auth::Caller,
        extract::{self, AppPath},
        openapi::Errors,
    },
    change::{Decision, change},
    refusal::Refusal,
    release,
    shared::Shared,
};

/// Shows what should run of an app.
#[utoipa::path(get, path = "/v1/apps/{app}/scale", operation_id = "show_scale", tag = "scale",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its scale", body = ScaleInfo), Errors))]
pub(crate) async fn show(State(api): State<Api>, AppPath(app): AppPath) -> Result<Json<ScaleInfo>, Refusal> {
    let app = api.shared.app(&app).await?.value;
    Ok(Json(ScaleInfo {
        release: default_target(&app),
        scale: app.scale,
        previous: None,
    }))
}

/// Changes how many instances of the named process types should run; the others keep their counts.
#[utoipa::path(patch, path = "/v1/apps/{app}/scale", operation_id = "change_scale", tag = "scale",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")), request_body = ScalePatch,
    responses((status = 200, description = "The scale from now on", body = ScaleInfo), Errors))]
pub(crate) async fn change_scale(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    AppPath(app): AppPath,
    extract::Json(patch): extract::Json<ScalePatch>,
) -> Result<Json<ScaleInfo>, Refusal> {
    let shared = &api.shared;
    let info = change(shared, &app, || decide(shared, &app, &patch, &caller)).await?;
    Ok(Json(info))
}

async fn decide(
    shared: &Shared,
    app: &AppName,
    patch: &ScalePatch,
    caller: &Caller,
) -> Result<Decision<ScaleInfo>, Refusal> {
    let stored = shared.app(app).await?;
    if patch.counts.is_empty() {
        return Err(
            Refusal::invalid("no counts are given").hint("name process types, such as web=2 worker=1")
        );
    }
    let target = scale_target(&stored.value, patch.release).map_err(|r| refused(app, r))?;
    let release = release::load(shared, app, target).await?;
    if !release.may_run() && patch.counts.values().any(|count| *count > 0) {
        return Err(release::unproven(&release, "cannot be scaled"));
    }
    let image = release::load_image(shared, &release).await?;
    let changed = gilliam_plan::scaled(&stored.value, patch, &image).map_err(|r| refused(app, r))?;
    let previous = stored.value.scale.get(&target).cloned().unwrap_or_default();
    let writes = vec![records::put_app(&changed)];
    let counts = patch.counts.iter();
    let counts: Vec<String> = counts.map(|(process, n)| format!("{process}={n}")).collect();
    let remark = format!("scaled {target} {} by {}", counts.join(" "), caller.name);
    let info = ScaleInfo {
        release: default_target(&changed),
        scale: changed.scale,
        previous: Some(previous),
    };
    Ok(Decision {
        checks: vec![stored.unchanged()],
        writes,
        remark: Some(remark),
        answer: info,
    })
}

/// The release that a `scale` without one acts on.
fn default_target(app: &App) -> Option<ReleaseId> {
    scale_target(app, None).ok()
}

pub(super) fn refused(app: &AppName, refusal: ScaleRefusal) -> Refusal {
    let code = match &refusal {
        ScaleRefusal::NoRelease { .. } => return Refusal::nothing_released(app),
        ScaleRefusal::UnknownRelease { release, .. } => {
            return Refusal::no_release(app, &release.to_string());
        }
        ScaleRefusal::MigratingAway { .. } => Code::A409,
        ScaleRefusal::UnknownProcess { .. } | ScaleRefusal::Hook | ScaleRefusal::TooMany { .. } => Code::A422,
    };
    Refusal::new(code, refusal.to_string()).hint(refusal.hint())
}
