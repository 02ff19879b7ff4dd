//! What apps use of one another, and who may use an app.

use axum::{Json, extract::State};
use gilliam_model::{
    name::AppName,
    uses::{CALLERS_MAX, Callers, CallersChange, UsesGraph},
};
use gilliam_store::records;

use crate::{
    api::{
        Api,
        extract::{self, AppPath},
        openapi::Errors,
    },
    change::{Decision, change},
    refusal::Refusal,
    shared::Shared,
    uses,
};

/// Shows what the apps of the cluster use of one another.
#[utoipa::path(get, path = "/v1/uses", operation_id = "show_uses", tag = "uses",
    security(("bearer" = [])),
    responses((status = 200, description = "Apps, what they use, and circles", body = UsesGraph), Errors))]
pub(crate) async fn show(State(api): State<Api>) -> Result<Json<UsesGraph>, Refusal> {
    Ok(Json(uses::graph(&api.shared).await?))
}

/// Changes who may use an app inside the cluster.
#[utoipa::path(patch, path = "/v1/apps/{app}/callers", operation_id = "change_callers", tag = "uses",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")), request_body = CallersChange,
    responses((status = 200, description = "Who may from now on", body = Callers), Errors))]
pub(crate) async fn change_callers(
    State(api): State<Api>,
    AppPath(app): AppPath,
    extract::Json(asked): extract::Json<CallersChange>,
) -> Result<Json<Callers>, Refusal> {
    let shared = &api.shared;
    let callers = change(shared, &app, || decide(shared, &app, &asked)).await?;
    Ok(Json(callers))
}

async fn decide(shared: &Shared, app: &AppName, asked: &CallersChange) -> Result<Decision<Callers>, Refusal> {
    let stored = shared.app(app).await?;
    let callers = asked.applied(stored.value.callers.as_ref());
    if let Some(count) = callers.as_ref().map(std::collections::BTreeSet::len)
        && count > CALLERS_MAX
    {
        let message = format!("{count} apps that may use {app}; at most {CALLERS_MAX} are named");
        return Err(Refusal::invalid(message).hint("let every app of the cluster: gilliam uses allow --any"));
    }
    let remark = match &callers {
        None => "every app of the cluster may use it".to_string(),
        Some(callers) if callers.is_empty() => "no other app may use it".to_string(),
        Some(callers) => {
            let names: Vec<&str> = callers.iter().map(AppName::as_str).collect();
            format!("these apps may use it: {}", names.join(", "))
        }
    };
    let mut changed = stored.value.clone();
    changed.callers = callers.clone();
    Ok(Decision {
        checks: vec![stored.unchanged()],
        writes: vec![records::put_app(&changed)],
        remark: Some(remark),
        answer: Callers { callers },
    })
}
