//! Images by their digest: those of an app, what is in one, and the blobs of one as an OCI registry has them.
//!
//! Invariant: a blob is read through an image that has it, so that no digest opens what is no image's.

use axum::{
    Extension, Json,
    extract::{Request, State},
    response::Response,
};
use gilliam_model::{
    api::DeployEvent,
    code::Code,
    digest::Digest,
    images::{ImageSummary, StoredImage},
    text::excerpt,
};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use crate::{
    api::{
        Api,
        auth::Caller,
        blobs,
        deploy::{self, DeployParams, Order},
        extract::{AppPath, DigestPath, LastName, Params},
        openapi::Errors,
    },
    blobs::BlobsError,
    images,
    refusal::Refusal,
    shared::Shared,
};

/// Largest manifest: 64 components have some 15 KB.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// Lists the images of an app: those of its releases, and those that were built or pulled and not released yet.
#[utoipa::path(get, path = "/v1/apps/{app}/images", operation_id = "list_images", tag = "images",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, description = "Its images, those made last first", body = Vec<ImageSummary>),
        Errors))]
pub(crate) async fn list(
    State(api): State<Api>,
    AppPath(app): AppPath,
) -> Result<Json<Vec<ImageSummary>>, Refusal> {
    images::of_app(&api.shared, &app).await.map(Json)
}

/// What to say of an image that is kept without a release.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeepParams {
    /// Where it comes from.
    message: Option<String>,
    /// Whether the app's build cache is dropped first: all is built as for the first time.
    clean: bool,
}

impl KeepParams {
    fn of_deploy(self) -> Params<DeployParams> {
        Params(DeployParams {
            message: self.message,
            clean: self.clean,
            ..DeployParams::default()
        })
    }
}

/// Builds the archive into an image of the app, and releases nothing.
#[utoipa::path(post, path = "/v1/apps/{app}/build", operation_id = "build", tag = "images",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"), KeepParams),
    request_body(content = Vec<u8>, content_type = "application/x-tar", description = "The sources"),
    responses((status = 200, description = "One event in each line", body = DeployEvent,
        content_type = "application/x-ndjson"), Errors))]
pub(crate) async fn build(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    app: Result<AppPath, Refusal>,
    params: Result<Params<KeepParams>, Refusal>,
    request: Request,
) -> Result<Response, Refusal> {
    let params = params.map(|Params(params)| params.of_deploy());
    deploy::start(api, caller, Order::Keep, app, params, request).await
}

/// Checks an image that was sealed elsewhere and keeps it: the tar archive of an OCI image layout.
#[utoipa::path(post, path = "/v1/apps/{app}/images", operation_id = "import_image", tag = "images",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"), KeepParams),
    request_body(content = Vec<u8>, content_type = "application/x-tar", description = "The image"),
    responses((status = 200, description = "One event in each line", body = DeployEvent,
        content_type = "application/x-ndjson"), Errors))]
pub(crate) async fn import(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    app: Result<AppPath, Refusal>,
    params: Result<Params<KeepParams>, Refusal>,
    request: Request,
) -> Result<Response, Refusal> {
    let params = params.map(|Params(params)| params.of_deploy());
    deploy::start(api, caller, Order::Import, app, params, request).await
}

/// Shows an image that the cluster has.
#[utoipa::path(get, path = "/v1/images/{digest}", operation_id = "show_stored_image", tag = "images",
    security(("bearer" = [])),
    params(("digest" = String, Path, description = "sha256: and 64 hex digits")),
    responses((status = 200, description = "The image", body = StoredImage), Errors))]
pub(crate) async fn show(
    State(api): State<Api>,
    DigestPath(digest): DigestPath,
) -> Result<Json<StoredImage>, Refusal> {
    let image = images::load(&api.shared, &digest).await?;
    Ok(Json(StoredImage { digest, image }))
}

/// Reads a blob of an image: its manifest, which has the image's digest, its config, or a component.
#[utoipa::path(get, path = "/v1/images/{digest}/blobs/{blob}", operation_id = "read_image_blob", tag = "images",
    security(("bearer" = [])),
    params(("digest" = String, Path, description = "The image: sha256: and 64 hex digits"),
        ("blob" = String, Path, description = "The blob: sha256: and 64 hex digits")),
    responses((status = 200, description = "The blob", content_type = "application/octet-stream"), Errors))]
pub(crate) async fn blob(
    State(api): State<Api>,
    DigestPath(digest): DigestPath,
    LastName(name): LastName,
) -> Result<Response, Refusal> {
    images::load(&api.shared, &digest).await?;
    let foreign = || {
        let message = format!("image {digest} has no blob {}", excerpt(&name));
        Refusal::new(Code::A404, message)
    };
    let blob: Digest = name.parse().map_err(|_| foreign())?;
    if blob != digest && !manifest(&api.shared, &digest).await?.refers_to(&blob) {
        return Err(foreign());
    }
    blobs::answer(&api.shared, &blob).await
}

/// What refers to blobs in a manifest (OCI image-spec 1.1, "Image Manifest").
#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
}

impl Manifest {
    fn refers_to(&self, blob: &Digest) -> bool {
        let mut all = self.layers.iter().chain([&self.config]);
        all.any(|descriptor| descriptor.digest == *blob)
    }
}

async fn manifest(shared: &Shared, digest: &Digest) -> Result<Manifest, Refusal> {
    let blob = shared
        .blobs
        .file(digest)
        .await
        .map_err(BlobsError::into_refusal)?;
    let failed =
        |error: &dyn std::fmt::Display| Refusal::internal(&format!("the manifest {digest}: {error}"));
    let file = tokio::fs::File::open(blob.path()).await;
    let file = file.map_err(|error| failed(&error))?;
    let mut text = Vec::new();
    let read = file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text).await;
    read.map_err(|error| failed(&error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&error))
}
