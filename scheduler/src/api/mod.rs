//! The API at `/v1`: one file per group of endpoints, and here what all of them share.
//!
//! A request passes, from the outside in: the catch for panics, the limit of requests at once, the check of
//! its token (by route, so that no route can forget it), the handler. Every answer that is not the asked-for
//! one is a [`Refusal`](crate::refusal::Refusal): axum's own rejections are replaced.
//!
//! Invariant: a route at `/v1` that the OpenAPI document does not list does not exist: both are made from the
//! handlers. Beside them is `/git` alone, whose protocol is git's.
//! Invariant: a request that is refused has changed nothing.

mod apps;
mod attach;
pub(crate) mod auth;
mod blobs;
mod config;
mod crons;
mod deploy;
pub(crate) mod extract;
mod git;
mod hook;
mod image;
mod images;
mod instances;
mod jobs;
mod join;
mod limits;
mod logs;
mod members;
mod nodes;
mod openapi;
mod plan;
mod puts;
mod queues;
mod releases;
mod restart;
mod runs;
mod scale;
mod services;
mod skew;
mod status;
mod uses;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use gilliam_model::{code::Code, text::excerpt};
use gilliam_serve::DrainSignal;
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use git::sweep as sweep_repositories;
pub(crate) use join::invite;

use crate::{refusal::Refusal, shared::Shared};

/// What handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
    pub(crate) drain: DrainSignal,
}

/// The whole API as a service.
pub(crate) fn router(api: Api) -> Router {
    let (router, document) = documented(&api).split_for_parts();
    router
        .merge(openapi::route(&api, document))
        .merge(git::router(&api))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn(catch_panics))
        .with_state(api)
}

/// The routes, with the document that describes them.
fn documented(api: &Api) -> OpenApiRouter<Api> {
    let short = OpenApiRouter::new()
        .routes(routes!(apps::list, apps::create))
        .routes(routes!(apps::show, apps::destroy))
        .routes(routes!(releases::list, releases::release))
        .routes(routes!(releases::rollback))
        .routes(routes!(config::show, config::change_config))
        .routes(routes!(image::show))
        .routes(routes!(image::component))
        .routes(routes!(images::list))
        .routes(routes!(images::show))
        .routes(routes!(images::blob))
        .routes(routes!(limits::show, limits::change_limits))
        .routes(routes!(scale::show, scale::change_scale))
        .routes(routes!(instances::list))
        .routes(routes!(restart::restart))
        .routes(routes!(plan::ask))
        .routes(routes!(plan::rebalance))
        .routes(routes!(status::status))
        .routes(routes!(uses::show))
        .routes(routes!(uses::change_callers))
        .routes(routes!(queues::list))
        .routes(routes!(queues::show))
        .routes(routes!(queues::jobs, queues::put, queues::purge))
        .routes(routes!(queues::job))
        .routes(routes!(queues::retry))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(crons::list))
        .routes(routes!(crons::run))
        .routes(routes!(crons::pause))
        .routes(routes!(crons::resume))
        .routes(routes!(services::list))
        .routes(routes!(services::destroy))
        .routes(routes!(services::share))
        .routes(routes!(services::unshare))
        .routes(routes!(members::list))
        .routes(routes!(members::show, members::forget))
        .routes(routes!(members::drain))
        .routes(routes!(members::undrain))
        .routes(routes!(join::make_token))
        .route_layer(middleware::from_fn_with_state(api.clone(), limit));
    let held_open = OpenApiRouter::new()
        .routes(routes!(deploy::deploy))
        .routes(routes!(images::build))
        .routes(routes!(images::import))
        .routes(routes!(runs::list, runs::ask))
        .routes(routes!(runs::show, runs::stop))
        .routes(routes!(attach::send_input))
        .routes(routes!(attach::take_output))
        .routes(routes!(services::request))
        .routes(routes!(logs::read));
    let users = short
        .merge(held_open)
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::users));
    let nodes = OpenApiRouter::new()
        .routes(routes!(nodes::sync))
        .routes(routes!(nodes::take_logs))
        .routes(routes!(attach::take_input))
        .routes(routes!(attach::send_output))
        .routes(routes!(jobs::exchange))
        .routes(routes!(puts::put))
        .routes(routes!(jobs::wait))
        .routes(routes!(services::await_questions))
        .routes(routes!(services::answer))
        .routes(routes!(blobs::read))
        .routes(routes!(join::renew))
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::nodes));
    // Nobody is known at the door: the handler itself looks at what is shown.
    let door = OpenApiRouter::new()
        .routes(routes!(join::join))
        .route_layer(middleware::from_fn_with_state(api.clone(), limit));
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(status::health))
        .merge(door)
        .merge(users)
        .merge(nodes)
}

/// Lets so many requests in at once, and no more.
async fn limit(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.shared.requests.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => Refusal::busy("requests").into_response(),
    }
}

async fn catch_panics(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic's own message has gone to the log.
        Err(_) => Refusal::internal(&"a handler panicked").into_response(),
    }
}

async fn unknown_path(request: Request) -> Refusal {
    Refusal::new(
        Code::A404,
        format!("no such path: {}", excerpt(request.uri().path())),
    )
    .hint("GET /v1/openapi.json describes every path")
}

async fn unknown_method(request: Request) -> Refusal {
    let (method, path) = (request.method(), excerpt(request.uri().path()));
    Refusal::new(
        Code::A400,
        format!("{} is not a method of {path}", excerpt(method.as_str())),
    )
    .with_status(StatusCode::METHOD_NOT_ALLOWED)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use axum::{body::Body, routing};
    use gilliam_store::Store;
    use tower::ServiceExt as _;

    use super::*;
    use crate::Config;

    async fn answer(router: Router) -> (StatusCode, String) {
        let response = router
            .oneshot(Request::new(Body::empty()))
            .await
            .expect("infallible");
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .expect("a body");
        (status, String::from_utf8(bytes.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_a_code() {
        async fn panics() {
            panic!("the inside")
        }
        let router = Router::new()
            .route("/", routing::get(panics))
            .layer(middleware::from_fn(catch_panics));
        let (status, body) = answer(router).await;
        assert_eq!(status, 500);
        assert!(
            body.contains(r#""code":"A500""#) && !body.contains("the inside"),
            "{body}"
        );
    }

    #[tokio::test]
    async fn requests_beyond_the_limit_are_told_to_come_back() {
        let config = Config::new(PathBuf::new(), ([127, 0, 0, 1], 0).into(), Vec::new());
        let shared = Arc::new(Shared::new(config, Store::memory(), "a life".to_string()));
        let (_trigger, drain) = gilliam_serve::drain::channel();
        let api = Api {
            shared: shared.clone(),
            drain,
        };
        let router = || {
            let layer = middleware::from_fn_with_state(api.clone(), limit);
            Router::new()
                .route("/", routing::get(async || "done"))
                .layer(layer)
        };
        let places = u32::try_from(shared.requests.available_permits()).expect("few");
        let all = shared.requests.acquire_many(places).await.expect("open");
        let (status, body) = answer(router()).await;
        assert_eq!(status, 429);
        assert!(body.contains(r#""code":"A429""#), "{body}");
        drop(all);
        assert_eq!(answer(router()).await.0, 200);
    }
}
