//! What handlers take from a request: its JSON, its query, the names in its path; each bad one refused in our
//! words.
//!
//! Invariant: no body is read beyond its limit or for longer than [`BODY_MAX`].

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request},
};
use futures::StreamExt as _;
use gilliam_model::{digest::Digest, name::AppName};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::refusal::Refusal;

/// Largest JSON body of a user's request: a full configuration is 64 KiB.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest time for a JSON body to arrive.
const BODY_MAX: Duration = Duration::from_secs(30);

/// A JSON body of at most `BYTES_MAX`. An empty one is read as `{}`, for bodies whose fields all have
/// defaults.
#[derive(Debug)]
pub(crate) struct Json<T, const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(crate) T);

/// The app that a path names, well formed; whether it exists is another question.
#[derive(Debug)]
pub(crate) struct AppPath(pub(crate) AppName);

/// The digest that a path names, well formed; whether there is such an image is another question.
#[derive(Debug)]
pub(crate) struct DigestPath(pub(crate) Digest);

/// The last name in a path, as given.
#[derive(Debug)]
pub(crate) struct LastName(pub(crate) String);

/// All names in a path, as given.
#[derive(Debug)]
pub(crate) struct Names(RawPathParams);

impl Names {
    /// The one that the route calls `name`.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| *key == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The parameters of a query.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync, const BYTES_MAX: usize> FromRequest<S> for Json<T, BYTES_MAX> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = whole(request.into_body(), BYTES_MAX).await?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text)
            .map(Json)
            .map_err(|error| unreadable(&error))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AppPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let name = param(parts, state, "app").await?;
        // A name that cannot be one belongs to no app.
        name.parse().map(AppPath).map_err(|_| Refusal::no_app(&name))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DigestPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = param(parts, state, "digest").await?;
        text.parse().map(DigestPath).map_err(|_| Refusal::no_image(&text))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LastName {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        param(parts, state, "").await.map(LastName)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        params.map(Names).map_err(|_| not_utf8())
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Params(params)),
            Err(rejection) => {
                let cause = std::error::Error::source(&rejection).map(ToString::to_string);
                let cause = cause.unwrap_or_else(|| rejection.to_string());
                Err(Refusal::malformed(format!("the query cannot be read: {cause}")))
            }
        }
    }
}

/// The parameter `name` of the path, or its last one when `name` is empty.
async fn param<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, Refusal> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| not_utf8())?;
    let found = params
        .iter()
        .filter(|(key, _)| name.is_empty() || *key == name)
        .last();
    let (_, value) = found.expect("the route has the parameter that its handler takes");
    Ok(value.to_string())
}

fn not_utf8() -> Refusal {
    Refusal::malformed("the path is not UTF-8")
}

/// A whole body, as it is.
pub(crate) async fn whole(body: Body, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let reading = read(body, bytes_max);
    tokio::time::timeout(BODY_MAX, reading)
        .await
        .map_err(|_| late())?
}

fn late() -> Refusal {
    Refusal::malformed(format!("the body did not arrive within {} s", BODY_MAX.as_secs()))
}

async fn read(body: Body, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| Refusal::malformed(format!("the body did not arrive whole: {e}")))?;
        if bytes.len() + chunk.len() > bytes_max {
            return Err(Refusal::too_large("the body", bytes_max as u64));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Text that is no JSON is a bad request; JSON that means nothing allowed is an invalid one.
fn unreadable(error: &serde_json::Error) -> Refusal {
    let message = error.to_string();
    if error.classify() != Category::Data {
        return Refusal::malformed(format!("the body is not JSON: {message}"));
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    Refusal::invalid(message.strip_suffix(&place).unwrap_or(&message))
}

#[cfg(test)]
mod tests {
    use gilliam_model::api::{ConfigPatch, CreateApp, Restart, ScalePatch};

    use super::*;

    async fn refused<T: DeserializeOwned + std::fmt::Debug>(body: impl Into<Body>) -> (String, String) {
        let request = Request::new(body.into());
        let error = Json::<T>::from_request(request, &())
            .await
            .expect_err("refused")
            .into_error();
        (error.code.to_string(), error.message)
    }

    #[tokio::test]
    async fn what_is_not_json_or_means_nothing_is_told_apart() {
        let (code, message) = refused::<CreateApp>("{\"name\":").await;
        assert_eq!(code, "A400");
        assert!(message.starts_with("the body is not JSON"), "{message}");
        let (code, message) = refused::<CreateApp>("{}").await;
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("A422", "missing field `name`")
        );
        let (code, message) = refused::<CreateApp>(r#"{"name":"a","id":7}"#).await;
        assert_eq!(code, "A422", "{message}");
        let (code, message) =
            refused::<ConfigPatch>(r#"{"change":{"set":{"PORT":"1"}},"migrate":true}"#).await;
        assert_eq!(code, "A422");
        assert_eq!(
            message,
            r#"config name "PORT" is set by the platform for each instance and cannot be changed"#
        );
        for counts in [
            r#"{"web":-1}"#,
            r#"{"web":1.5}"#,
            r#"{"web":"two"}"#,
            r#"{"web":99999999999}"#,
        ] {
            let (code, _) = refused::<ScalePatch>(format!(r#"{{"counts":{counts}}}"#)).await;
            assert_eq!(code, "A422", "{counts}");
        }
    }

    #[tokio::test]
    async fn bodies_are_bounded_in_bytes_and_depth() {
        let (code, message) = refused::<CreateApp>(vec![b' '; BODY_BYTES_MAX + 1]).await;
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("A413", "the body is larger than 1048576 bytes")
        );
        let (code, _) = refused::<serde_json::Value>("[".repeat(100_000)).await;
        assert_eq!(code, "A400");
        let (code, _) = refused::<CreateApp>(vec![0xff, 0xfe]).await;
        assert_eq!(code, "A400");
    }

    #[tokio::test]
    async fn an_empty_body_is_all_defaults() {
        let request = Request::new(Body::empty());
        let Json(restart) = Json::<Restart>::from_request(request, &())
            .await
            .expect("defaults");
        assert_eq!(restart, Restart::default());
    }
}
