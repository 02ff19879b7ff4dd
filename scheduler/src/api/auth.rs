//! Who calls: one check in front of every route but the health check.
//!
//! Invariant: every token that does not open the route gets the same answer: missing, malformed, unknown,
//! ended, of another role. Which of them it was is nobody's business.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use gilliam_model::{
    Timestamp,
    token::{Role, Token},
};
use gilliam_store::{RangeError, Store, records};
use http::{HeaderMap, header};

use crate::{api::Api, archive, refusal::Refusal, token};

/// The holder of the token that a request came with.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The token's name: the author of what it changes.
    pub(crate) name: String,
}

/// Lets users pass.
pub(crate) async fn users(State(api): State<Api>, request: Request, next: Next) -> Response {
    check(&api, Role::Admin, request, next).await
}

/// Lets nodes pass.
pub(crate) async fn nodes(State(api): State<Api>, request: Request, next: Next) -> Response {
    check(&api, Role::Node, request, next).await
}

/// The stored token that `text` proves to hold.
pub(crate) async fn verify(store: &Store, text: &str) -> Result<Option<Token>, RangeError> {
    let Some(presented) = token::parse(text) else {
        return Ok(None);
    };
    let stored = records::load_token(store, presented.id).await?.map(|s| s.value);
    let good = token::matches(stored.as_ref(), presented, Timestamp::now());
    Ok(stored.filter(|_| good))
}

async fn check(api: &Api, role: Role, mut request: Request, next: Next) -> Response {
    let found = match bearer(request.headers()) {
        Some(text) => verify(&api.shared.store, text).await,
        None => Ok(None),
    };
    match found {
        Ok(Some(token)) if token.role == role => {
            request.extensions_mut().insert(Caller { name: token.name });
            next.run(request).await
        }
        Ok(_) => {
            archive::discard(request.into_body().into_data_stream()).await;
            Refusal::unauthenticated().into_response()
        }
        Err(error) => Refusal::from(error).into_response(),
    }
}

/// The token of the one `Authorization: Bearer …` header; the scheme is case-insensitive (RFC 9110 section
/// 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_bearer_header_is_read() {
        let headers = |values: &[&'static str]| {
            let pairs = values
                .iter()
                .map(|v| (header::AUTHORIZATION, HeaderValue::from_static(v)));
            pairs.collect::<HeaderMap>()
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer  abc"])), Some("abc"));
        for bad in [&["Basic abc"][..], &["abc"], &[], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
        }
    }
}
