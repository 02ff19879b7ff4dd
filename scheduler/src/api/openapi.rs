//! The OpenAPI document: made from the handlers, served at `/v1/openapi.json`.

use std::sync::Arc;

use axum::{
    Router, middleware,
    response::{IntoResponse as _, Response},
    routing,
};
use gilliam_model::api::ApiError;
use http::{HeaderValue, header};
use utoipa::{
    IntoResponses, OpenApi, PartialSchema as _,
    openapi::{
        Components, ContentBuilder, Info, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
        response::Response as Described,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::api::{Api, auth};

/// The name of the one security scheme.
pub(crate) const BEARER: &str = "bearer";

/// The error answers that every route shares.
pub(crate) struct Errors;

impl IntoResponses for Errors {
    fn responses() -> std::collections::BTreeMap<String, RefOr<Described>> {
        let all = [
            ("400", "A400: the request cannot be read"),
            ("401", "A401: no token that opens this route"),
            ("404", "A404: no such app, release or blob"),
            ("409", "A409, S12: it does not go with the state of things"),
            ("413", "A413: too large"),
            ("422", "A422: well formed, and not allowed"),
            ("429", "A429: too many at once"),
            ("500", "A500: a failure of the platform"),
            (
                "503",
                "A503, S10, S11, S13: stopping, or the store is unavailable; it may have happened",
            ),
        ];
        let content = || {
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("ApiError")))
                .build()
        };
        all.into_iter()
            .map(|(status, text)| {
                let response = ResponseBuilder::new()
                    .description(text)
                    .content("application/json", content());
                (status.to_string(), RefOr::T(response.build()))
            })
            .collect()
    }
}

/// The document before its paths.
pub(crate) fn head() -> utoipa::openapi::OpenApi {
    let mut info = Info::new("gilliam", env!("CARGO_PKG_VERSION"));
    info.description = Some("The control plane's API: what users and nodes ask of it.".to_string());
    let mut components = Components::new();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components
        .security_schemes
        .insert(BEARER.to_string(), RefOr::T(scheme));
    components
        .schemas
        .insert("ApiError".to_string(), ApiError::schema());
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .build()
}

/// Shows this document.
#[utoipa::path(get, path = "/v1/openapi.json", operation_id = "openapi", tag = "status",
    security(("bearer" = [])),
    responses((status = 200, description = "This document"), Errors))]
#[expect(
    dead_code,
    reason = "documents the route; the answer itself is made once, in `route`"
)]
fn document() {}

#[derive(OpenApi)]
#[openapi(paths(document))]
struct Itself;

/// The route that serves `document`, of which it is a part.
pub(crate) fn route(api: &Api, mut document: utoipa::openapi::OpenApi) -> Router<Api> {
    document.paths.paths.extend(Itself::openapi().paths.paths);
    let text: Arc<str> = document.to_json().expect("a document of strings").into();
    let answer = move || {
        let text = text.to_string();
        async move { json(text) }
    };
    Router::new()
        .route("/v1/openapi.json", routing::get(answer))
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::users))
}

fn json(text: String) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        text,
    )
        .into_response()
}
