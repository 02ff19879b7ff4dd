//! `/git/APP.git`: git's smart HTTP protocol (gitprotocol-http), for `git push`, `git fetch` and `git clone`.
//!
//! It is not of the API at `/v1`: git speaks it, so refusals are text, which git shows with `remote: ` before each
//! line, and a token comes as the password of HTTP Basic, as git's credential helpers give it, or as a bearer's.
//!
//! Invariant: a request passes the same check of its token as one of the API, before its path is looked at.

mod fetch;
mod push;

use std::{collections::BTreeMap, io, sync::Arc};

use axum::{
    Extension, Router,
    extract::{FromRequestParts, RawPathParams, RawQuery, Request, State},
    middleware,
    response::{IntoResponse, Response},
    routing,
};
use gilliam_model::{app::App, code::Code, name::AppName, text::excerpt};
use gilliam_store::records;
use http::{HeaderMap, StatusCode, header, request::Parts};

use crate::{
    api::{
        Api,
        auth::{self, Caller},
    },
    git::{self, repository, repository::Repository, request},
    refusal::Refusal,
    shared::Shared,
};

/// What a ref advertisement is asked with; the rest of the query is nobody's.
const RECEIVE: &str = "service=git-receive-pack";
const UPLOAD: &str = "service=git-upload-pack";
const NO_CACHE: &str = "no-cache, max-age=0, must-revalidate";

/// A refusal as git shows it.
#[derive(Debug)]
struct Told(Refusal);

/// The app whose repository a path names.
#[derive(Debug)]
struct RepositoryPath(AppName);

/// The routes.
pub(super) fn router(api: &Api) -> Router<Api> {
    let short = Router::new()
        .route("/git/{repository}/info/refs", routing::get(info_refs))
        .route("/git/ca.pem", routing::get(ca))
        .route_layer(middleware::from_fn_with_state(api.clone(), super::limit));
    short
        .route("/git/{repository}/git-receive-pack", routing::post(receive_pack))
        .route("/git/{repository}/git-upload-pack", routing::post(upload_pack))
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::git_users))
}

/// Removes what was pushed for an app that is gone.
pub(super) async fn forget(shared: &Shared, app: &AppName) {
    let (folder, app) = (shared.git.folder().to_path_buf(), app.clone());
    let removed = blocking(move || repository::remove(&folder, &app)).await;
    if let Err(error) = removed {
        tracing::warn!(%error, "the repository of a destroyed app is left for later");
    }
}

/// Removes the repositories of apps that were destroyed while this server was away.
pub(crate) async fn sweep(shared: Arc<Shared>) {
    let apps = match records::list_apps(&shared.store).await {
        Ok((_, apps)) => apps,
        Err(error) => return tracing::warn!(%error, "repositories of destroyed apps are left for later"),
    };
    let apps: BTreeMap<_, _> = apps
        .into_iter()
        .map(|app| (app.value.name, app.value.created_at))
        .collect();
    let folder = shared.git.folder().to_path_buf();
    if let Err(error) = blocking(move || repository::sweep(&folder, &apps)).await {
        tracing::warn!(%error, "repositories of destroyed apps are left for later");
    }
}

/// Says what is there, and what this end can do.
async fn info_refs(
    State(api): State<Api>,
    RepositoryPath(app): RepositoryPath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Told> {
    let shared = &api.shared;
    let app = admitted(shared, &app).await?;
    match query.as_deref() {
        Some(RECEIVE) => {
            let repository = open(shared, app).await?;
            let refs = blocking(move || Ok(repository.refs()))
                .await
                .map_err(|e| broken(&e))?;
            let head = headed("application/x-git-receive-pack-advertisement");
            Ok((head, request::advertisement(&refs).freeze()).into_response())
        }
        Some(UPLOAD) => fetch::refs(shared, app, &headers).await,
        _ => Err(Told(
            Refusal::malformed("this is not a request of a git that speaks smart HTTP").hint("update git"),
        )),
    }
}

/// The certificate of the cluster's CA, which git wants as a file.
async fn ca(State(api): State<Api>) -> Result<Response, Told> {
    match &api.shared.authority {
        Some(authority) => Ok((headed("application/x-pem-file"), authority.pem.clone()).into_response()),
        None => Err(Told(Refusal::new(
            Code::A404,
            "this platform has no CA of its own",
        ))),
    }
}

async fn receive_pack(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RepositoryPath(app): RepositoryPath,
    request: Request,
) -> Result<Response, Told> {
    let app = admitted(&api.shared, &app).await?;
    check_type(&request, "application/x-git-receive-pack-request")?;
    push::take(api, app, caller, request.into_body()).await
}

async fn upload_pack(
    State(api): State<Api>,
    RepositoryPath(app): RepositoryPath,
    request: Request,
) -> Result<Response, Told> {
    let app = admitted(&api.shared, &app).await?;
    check_type(&request, "application/x-git-upload-pack-request")?;
    fetch::pack(&api.shared, app, request).await
}

/// The app of the name, on a server that has git.
async fn admitted(shared: &Shared, app: &AppName) -> Result<App, Told> {
    if shared.config.git_command.is_empty() || !git::is_installed() {
        let refusal = Refusal::new(
            Code::A503,
            "this server has no git program, so nothing can be pushed to it",
        )
        .hint("gilliam deploy does the same without it; its operator installs git");
        return Err(Told(refusal));
    }
    Ok(shared.app(app).await?.value)
}

fn check_type(request: &Request, want: &str) -> Result<(), Told> {
    let is_it = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|it| it == want);
    match is_it {
        true => Ok(()),
        false => Err(Told(
            Refusal::malformed(format!("the body is not {want}"))
                .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        )),
    }
}

/// The repository of an app, made when there is none.
async fn open(shared: &Shared, app: App) -> Result<Repository, Told> {
    let folder = shared.git.folder().to_path_buf();
    let opened = blocking(move || Repository::open(&folder, &app)).await;
    opened.map_err(|error| broken(&error))
}

fn broken(error: &io::Error) -> Told {
    tracing::error!(%error, "a repository cannot be used");
    let refusal = Refusal::new(
        Code::A503,
        "the app's repository cannot be used; the disk may be full",
    );
    Told(refusal.hint("the server's log says why; gilliam deploy does the same without a repository"))
}

/// Does work on files where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

fn headed(content_type: &'static str) -> [(header::HeaderName, &'static str); 2] {
    [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, NO_CACHE),
    ]
}

impl<S: Send + Sync> FromRequestParts<S> for RepositoryPath {
    type Rejection = Told;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Told> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| Told(Refusal::malformed("the path is not UTF-8")))?;
        let (_, name) = params.iter().next().expect("the routes have one parameter");
        let app = name.strip_suffix(".git").unwrap_or(name);
        let named = app.parse().map(RepositoryPath);
        named.map_err(|_| Told(Refusal::no_app(&excerpt(app))))
    }
}

impl From<Refusal> for Told {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        self.0.into_text()
    }
}
