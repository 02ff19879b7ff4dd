//! Releases: listed, made of an image that is there, and rolled back to.

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    api::{ReleaseInfo, Rollback},
    images::MakeRelease,
    name::AppName,
    release::ReleaseId,
};
use http::StatusCode;

use crate::{
    api::{
        Api,
        auth::Caller,
        extract::{self, AppPath},
        openapi::Errors,
    },
    images,
    refusal::Refusal,
    release::{self, Basis, NewRelease},
};

/// Lists the releases of an app, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/releases", operation_id = "list_releases", tag = "releases",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its releases", body = Vec<ReleaseInfo>), Errors))]
pub(crate) async fn list(
    State(api): State<Api>,
    AppPath(app): AppPath,
) -> Result<Json<Vec<ReleaseInfo>>, Refusal> {
    release::list(&api.shared, &app).await.map(Json)
}

/// Releases an image that the cluster has.
#[utoipa::path(post, path = "/v1/apps/{app}/releases", operation_id = "release_image", tag = "releases",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")), request_body = MakeRelease,
    responses((status = 201, description = "The new release", body = ReleaseInfo), Errors))]
pub(crate) async fn release(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    AppPath(app): AppPath,
    extract::Json(body): extract::Json<MakeRelease>,
) -> Result<(StatusCode, Json<ReleaseInfo>), Refusal> {
    let shared = &api.shared;
    shared.app(&app).await?;
    release::check_message(body.message.as_deref())?;
    let image = images::load(shared, &body.image).await?;
    images::check_there(shared, &body.image, &image).await?;
    let said = body.message.filter(|message| !message.is_empty());
    let new = NewRelease {
        basis: Basis::Build(body.image, image),
        message: said.or_else(|| Some(format!("image {}", body.image.short()))),
        author: caller.name,
        migrate: body.migrate,
        hook_ms_max: None,
    };
    let info = release::make(shared, &app, &new).await?;
    Ok((StatusCode::CREATED, Json(info)))
}

/// Makes a release and answers with it.
pub(crate) async fn create(
    api: &Api,
    app: &AppName,
    author: &Caller,
    basis: Basis,
    migrate: bool,
) -> Result<(StatusCode, Json<ReleaseInfo>), Refusal> {
    let new = NewRelease {
        basis,
        message: None,
        author: author.name.clone(),
        migrate,
        hook_ms_max: None,
    };
    let info = release::make(&api.shared, app, &new).await?;
    Ok((StatusCode::CREATED, Json(info)))
}

/// Goes back: makes a release with the image and the configuration of an older one.
#[utoipa::path(post, path = "/v1/apps/{app}/rollback", operation_id = "rollback", tag = "releases",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")), request_body = Rollback,
    responses((status = 201, description = "The new release", body = ReleaseInfo), Errors))]
pub(crate) async fn rollback(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    AppPath(app): AppPath,
    extract::Json(body): extract::Json<Rollback>,
) -> Result<(StatusCode, Json<ReleaseInfo>), Refusal> {
    let to = body.to.map(|text| text.parse::<ReleaseId>()).transpose();
    let to = to.map_err(|error| Refusal::invalid(error.to_string()))?;
    create(&api, &app, &caller, Basis::Rollback(to), true).await
}
