//! Images of releases: what each process type runs and with what, and the components themselves.

use axum::{Json, extract::State, response::Response};
use gilliam_model::{api::ImageInfo, code::Code, name::AppName, release::ReleaseId, text::excerpt};
use serde::Deserialize;

use crate::{
    api::{
        Api, blobs,
        extract::{AppPath, LastName, Params},
        openapi::Errors,
    },
    refusal::Refusal,
    release,
    shared::Shared,
};

/// Of which release.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImageParams {
    /// The release; by default the newest.
    release: Option<String>,
}

/// Shows the image of a release, with the limits that it runs with.
#[utoipa::path(get, path = "/v1/apps/{app}/image", operation_id = "show_image", tag = "releases",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"), ImageParams),
    responses((status = 200, description = "The image", body = ImageInfo), Errors))]
pub(crate) async fn show(
    State(api): State<Api>,
    AppPath(app): AppPath,
    Params(params): Params<ImageParams>,
) -> Result<Json<ImageInfo>, Refusal> {
    image(&api.shared, &app, &params).await.map(Json)
}

/// Reads the component of a process type.
#[utoipa::path(get, path = "/v1/apps/{app}/components/{process}", operation_id = "read_component",
    tag = "releases", security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"),
        ("process" = String, Path, description = "The process type"), ImageParams),
    responses((status = 200, description = "The component", content_type = "application/octet-stream"),
        Errors))]
pub(crate) async fn component(
    State(api): State<Api>,
    AppPath(app): AppPath,
    LastName(name): LastName,
    Params(params): Params<ImageParams>,
) -> Result<Response, Refusal> {
    let info = image(&api.shared, &app, &params).await?;
    let Some(process) = info.image.processes.get(name.as_str()) else {
        let known: Vec<&str> = info.image.processes.keys().map(|name| name.as_str()).collect();
        let message = format!("{} of {app} has no process {}", info.release, excerpt(&name));
        return Err(Refusal::new(Code::A404, message).hint(format!("it has {}", known.join(", "))));
    };
    blobs::answer(&api.shared, &process.component).await
}

async fn image(shared: &Shared, app: &AppName, params: &ImageParams) -> Result<ImageInfo, Refusal> {
    let latest = shared.app(app).await?.value.latest;
    let latest = latest.ok_or_else(|| Refusal::nothing_released(app))?;
    let id = match &params.release {
        Some(text) => text
            .parse::<ReleaseId>()
            .map_err(|error| Refusal::invalid(error.to_string()))?,
        None => latest,
    };
    if id > latest {
        return Err(Refusal::no_release(app, &id.to_string()));
    }
    let release = release::load(shared, app, id).await?;
    let image = release::load_image(shared, &release).await?;
    Ok(ImageInfo {
        release: id,
        digest: release.image,
        image: release.limits.image(&image),
    })
}
