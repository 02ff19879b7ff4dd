//! Deploy: an archive in, the build's output out as it comes, and at the end a release or the reason for
//! none.
//!
//! The answer is a stream from the moment the archive has arrived. When the client goes away before the build
//! has ended, the build is stopped and nothing is released: nobody would learn of it. Once the image is
//! sealed the release is made in any case.
//!
//! Invariant: `released` is sent after the release is durable, and is the last event, as `failed` is.

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use gilliam_model::{
    Timestamp,
    api::{ARCHIVE_BYTES_MAX, DeployEvent, IMAGE_ARCHIVE_BYTES_MAX, ReleaseInfo},
    digest::Digest,
    image::Image,
    images::KeptImage,
    name::AppName,
};
use http::header;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    api::{
        Api,
        auth::Caller,
        extract::{AppPath, Params},
        hook,
        logs::{NDJSON, json_line},
        openapi::Errors,
    },
    archive::{self, Archive},
    blobs::BlobsError,
    build::{self, Build, BuildError, Cache},
    build_cache, images,
    refusal::Refusal,
    release::{self, Basis, NewRelease},
    shared::Shared,
};

/// Events on their way to the client; the build waits while it is full.
const EVENTS_MAX: usize = 256;

/// What to do with the new release.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeployParams {
    /// What changed.
    pub(super) message: Option<String>,
    /// Whether what the previous release ran moves to the new one; it does by default.
    pub(super) migrate: bool,
    /// Whether the app's build cache is dropped first: all is built as for the first time.
    pub(super) clean: bool,
    /// How long the `release` process may take, in milliseconds; ten minutes by default.
    pub(super) release_timeout_ms: Option<u64>,
}

impl Default for DeployParams {
    fn default() -> Self {
        Self {
            message: None,
            migrate: true,
            clean: false,
            release_timeout_ms: None,
        }
    }
}

/// Builds the archive and releases the image.
#[utoipa::path(post, path = "/v1/apps/{app}/deploy", operation_id = "deploy", tag = "releases",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"), DeployParams),
    request_body(content = Vec<u8>, content_type = "application/x-tar", description = "The sources"),
    responses((status = 200, description = "One event in each line", body = DeployEvent,
        content_type = "application/x-ndjson"), Errors))]
pub(crate) async fn deploy(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    app: Result<AppPath, Refusal>,
    params: Result<Params<DeployParams>, Refusal>,
    request: Request,
) -> Result<Response, Refusal> {
    start(api, caller, Order::Release, app, params, request).await
}

/// What comes of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Its sources are built, and the image is released.
    Release,
    /// Its sources are built, and the image is kept.
    Keep,
    /// The image in it is checked and kept.
    Import,
}

impl Order {
    /// Largest archive.
    fn bytes_max(self) -> u64 {
        match self {
            Order::Release | Order::Keep => ARCHIVE_BYTES_MAX,
            Order::Import => IMAGE_ARCHIVE_BYTES_MAX,
        }
    }
}

/// Takes the archive, and answers with what happens to it.
pub(super) async fn start(
    api: Api,
    caller: Caller,
    order: Order,
    app: Result<AppPath, Refusal>,
    params: Result<Params<DeployParams>, Refusal>,
    request: Request,
) -> Result<Response, Refusal> {
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let body = request.into_body();
    let (app, params, place) = match admit(&api.shared, order, app, params, declared).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            archive::discard(body.into_data_stream()).await;
            return Err(refusal);
        }
    };
    let archive = archive::receive(body, &api.shared.tmp(), order.bytes_max()).await?;
    let (events, stream) = mpsc::channel(EVENTS_MAX);
    let deploy = Deploy {
        app,
        author: caller.name,
        order,
        params,
        archive,
        _place: place,
    };
    tokio::spawn(async move { deploy.run(&api, events).await });
    let lines = ReceiverStream::new(stream).map(|event| Ok::<_, std::convert::Infallible>(json_line(&event)));
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

async fn admit(
    shared: &Shared,
    order: Order,
    app: Result<AppPath, Refusal>,
    params: Result<Params<DeployParams>, Refusal>,
    declared_bytes: Option<u64>,
) -> Result<(AppName, DeployParams, OwnedSemaphorePermit), Refusal> {
    let (AppPath(app), Params(params)) = (app?, params?);
    shared.app(&app).await?;
    can_release(shared).await?;
    release::check_message(params.message.as_deref())?;
    if declared_bytes.is_some_and(|n| n > order.bytes_max()) {
        return Err(archive::too_large(order.bytes_max()));
    }
    let place = place(shared)?;
    Ok((app, params, place))
}

/// Makes sure that images can be kept.
pub(super) async fn can_release(shared: &Shared) -> Result<(), Refusal> {
    let kept = shared.blobs.ready(&shared.store).await;
    kept.map_err(BlobsError::into_refusal)
}

/// A place among the deploys at once.
pub(super) fn place(shared: &Shared) -> Result<OwnedSemaphorePermit, Refusal> {
    let place = shared.deploys.clone().try_acquire_owned();
    place.map_err(|_| Refusal::busy("deploys"))
}

/// A deploy whose archive has arrived.
pub(super) struct Deploy {
    pub(super) app: AppName,
    pub(super) author: String,
    pub(super) order: Order,
    pub(super) params: DeployParams,
    pub(super) archive: Archive,
    pub(super) _place: OwnedSemaphorePermit,
}

impl Deploy {
    async fn run(self, api: &Api, events: mpsc::Sender<DeployEvent>) {
        let mut drain = api.drain.clone();
        let built = tokio::select! {
            built = self.build(&api.shared, &events) => built,
            _ = drain.requested() => Err(Refusal::draining()),
            () = events.closed() => {
                tracing::info!(app = %self.app, "deploy abandoned by its client");
                return;
            }
        };
        let done = match self.order {
            Order::Release => {
                let released = self.release(api, built, &events).await;
                released.map(|release| DeployEvent::Released {
                    release: Box::new(release),
                })
            }
            Order::Keep | Order::Import => self.keep(&api.shared, built).await,
        };
        let last = done.unwrap_or_else(|refusal| DeployEvent::Failed {
            error: refusal.into_error(),
        });
        if let DeployEvent::Released { release } = &last
            && let Some(line) = capabilities(release)
        {
            // An error says that the client has gone away, which is noticed below.
            let _ = events.send(DeployEvent::Output { line }).await;
        }
        // The archive goes before the answer is complete, so that nothing is left when the client has it.
        drop(self);
        // An error says that the client has gone away meanwhile.
        let _ = events.send(last).await;
    }

    pub(super) async fn build(
        &self,
        shared: &Shared,
        events: &mpsc::Sender<DeployEvent>,
    ) -> Result<(Digest, Image), Refusal> {
        if shared.builds.available_permits() == 0 {
            let line = "-----> Waiting for another build to end".to_string();
            // An error says that the client has gone away, which is noticed elsewhere.
            let _ = events.send(DeployEvent::Output { line }).await;
        }
        let _turn = shared
            .builds
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let sealing = shared.blobs.sealing(&shared.tmp());
        let app = shared.app(&self.app).await?.value;
        let cache = Cache {
            folder: &build_cache::folder(shared),
            app: &build_cache::key(&app),
            clean: self.params.clean,
        };
        let build = Build {
            command: &shared.config.build_command,
            blobs: &sealing.layout,
            archive: self.archive.path(),
            is_image: self.order == Order::Import,
            cache,
            wall_max: shared.config.build_max,
        };
        let (digest, image) = build::run(build, events)
            .await
            .map_err(BuildError::into_refusal)?;
        let kept = shared.blobs.keep(&sealing, &digest).await;
        kept.map_err(BlobsError::into_refusal)?;
        images::check_sealed(shared, &digest, &image).await?;
        Ok((digest, image))
    }

    pub(super) async fn release(
        &self,
        api: &Api,
        built: Result<(Digest, Image), Refusal>,
        events: &mpsc::Sender<DeployEvent>,
    ) -> Result<ReleaseInfo, Refusal> {
        let (digest, image) = built?;
        let new = NewRelease {
            basis: Basis::Build(digest, image),
            message: self.params.message.clone().filter(|m| !m.is_empty()),
            author: self.author.clone(),
            migrate: self.params.migrate,
            hook_ms_max: self.params.release_timeout_ms,
        };
        // Large, and most of its time it waits.
        Box::pin(hook::make(api, &self.app, &new, events)).await
    }

    async fn keep(
        &self,
        shared: &Shared,
        built: Result<(Digest, Image), Refusal>,
    ) -> Result<DeployEvent, Refusal> {
        let (digest, image) = built?;
        let own = match self.order {
            Order::Import => "pulled",
            _ => "built",
        };
        let said = self.params.message.clone().filter(|m| !m.is_empty());
        let kept = KeptImage {
            digest,
            author: self.author.clone(),
            made_at: Timestamp::now(),
            message: said.unwrap_or_else(|| own.to_string()),
        };
        images::keep(shared, &self.app, &kept, &image).await?;
        Ok(DeployEvent::Built {
            digest,
            image: Box::new(image),
        })
    }
}

/// `-----> v7 adds: outbound https://api.example.com`, where something changed.
pub(super) fn capabilities(release: &ReleaseInfo) -> Option<String> {
    let change = &release.capabilities;
    (!change.is_empty()).then(|| format!("-----> {} {change}", release.id))
}
