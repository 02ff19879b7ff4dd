//! Who calls: one check in front of every route but the health check and the door for new nodes.
//!
//! Users show a token. So does the node of a platform of one machine; the nodes of a cluster show a certificate, and
//! each may speak for itself alone.
//!
//! Invariant: every token that does not open the route gets the same answer: missing, malformed, unknown,
//! ended, of another role. Which of them it was is nobody's business.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gilliam_model::{
    Timestamp,
    digest::Digest,
    identity::node_of_dns,
    name::NodeName,
    node::Node,
    text::excerpt,
    token::{Role, Token},
};
use gilliam_serve::ClientCertificate;
use gilliam_store::{RangeError, Store, keys, records};
use http::{HeaderMap, header};

use crate::{api::Api, archive, authority, refusal::Refusal, token};

/// The holder of the token that a request came with.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The token's name: the author of what it changes.
    pub(crate) name: String,
}

/// The node that a request comes from.
#[derive(Debug, Clone)]
pub(crate) enum CallingNode {
    /// It showed a token: the one node of a platform of one machine.
    Trusted,
    /// It showed a certificate of the cluster.
    Certified {
        /// Its name in it.
        name: NodeName,
        /// What the cluster knows it by.
        key: Digest,
    },
}

impl CallingNode {
    /// The node that a path names; refused is a call in the name of another one.
    pub(crate) fn named(&self, node: &str) -> Result<NodeName, Refusal> {
        self.speaks_for(node)?;
        node.parse()
            .map_err(|_| Refusal::invalid(format!("{:?} is no node's name", excerpt(node))))
    }

    /// Refuses a call in the name of another node.
    pub(crate) fn speaks_for(&self, node: &str) -> Result<(), Refusal> {
        match self {
            CallingNode::Certified { name, .. } if name.as_str() != node => {
                Err(Refusal::another_node(node, name))
            }
            _ => Ok(()),
        }
    }
}

/// Lets users pass.
pub(crate) async fn users(State(api): State<Api>, request: Request, next: Next) -> Response {
    check(&api, Role::Admin, request, next).await
}

/// Lets nodes pass.
pub(crate) async fn nodes(State(api): State<Api>, request: Request, next: Next) -> Response {
    if api.shared.authority.is_none() {
        return check(&api, Role::Node, request, next).await;
    }
    let shown = request.extensions().get::<ClientCertificate>().cloned();
    match certified(&api, shown).await {
        Ok(node) => {
            let mut request = request;
            request.extensions_mut().insert(node);
            next.run(request).await
        }
        Err(refusal) => {
            archive::discard(request.into_body().into_data_stream()).await;
            refusal.into_response()
        }
    }
}

/// The node whose certificate a request came with, if it is of the cluster still.
async fn certified(api: &Api, shown: Option<ClientCertificate>) -> Result<CallingNode, Refusal> {
    let shown = shown.and_then(|shown| {
        let name = shown.dns_names().iter().find_map(|dns| node_of_dns(dns))?;
        Some((name, authority::key_digest(&shown.public_key()?)))
    });
    let (name, key) = shown.ok_or_else(Refusal::unauthenticated)?;
    let known = records::load::<Node>(&api.shared.store, &keys::node(&name)).await?;
    let known = known.ok_or_else(|| Refusal::unknown_node(&name))?.value;
    match known.identity {
        Some(identity) if identity.key == key && known.forgotten_at.is_none() => {
            Ok(CallingNode::Certified { name, key })
        }
        _ => Err(Refusal::dismissed_node(&name)),
    }
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

/// Lets users of git pass: the token is the password of HTTP Basic, whatever the user's name, or a bearer's.
pub(crate) async fn git_users(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let shown = bearer(request.headers()).map(str::to_string);
    let found = match shown.or_else(|| password(request.headers())) {
        Some(text) => verify(&api.shared.store, &text).await,
        None => Ok(None),
    };
    match found {
        Ok(Some(token)) if token.role == Role::Admin => {
            request.extensions_mut().insert(Caller { name: token.name });
            next.run(request).await
        }
        Ok(_) => {
            archive::discard(request.into_body().into_data_stream()).await;
            Refusal::unauthenticated()
                .hint("gilliam git remote lets git find the token of this cluster")
                .into_text()
        }
        Err(error) => Refusal::from(error).into_text(),
    }
}

async fn check(api: &Api, role: Role, mut request: Request, next: Next) -> Response {
    let found = match bearer(request.headers()) {
        Some(text) => verify(&api.shared.store, text).await,
        None => Ok(None),
    };
    match found {
        Ok(Some(token)) if token.role == role => {
            if role == Role::Node {
                request.extensions_mut().insert(CallingNode::Trusted);
            }
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

/// The token of the one `Authorization: Bearer …` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    credentials(headers, "bearer")
}

/// The password of the one `Authorization: Basic …` header (RFC 7617).
fn password(headers: &HeaderMap) -> Option<String> {
    let decoded = STANDARD.decode(credentials(headers, "basic")?).ok()?;
    let (_user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(password.to_string())
}

/// What follows the scheme, which is case-insensitive (RFC 9110 section 11.1), in the one `Authorization` header.
fn credentials<'a>(headers: &'a HeaderMap, want: &str) -> Option<&'a str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(want).then_some(rest.trim())
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

    #[test]
    fn a_password_is_read_whatever_the_user() {
        let basic = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
        };
        // gilliam:gil_a and :a:b
        assert_eq!(
            password(&basic("Basic Z2lsbGlhbTpnaWxfYQ==")).as_deref(),
            Some("gil_a")
        );
        assert_eq!(password(&basic("basic OmE6Yg==")).as_deref(), Some("a:b"));
        for bad in ["Basic ???", "Basic Z2ls", "Bearer Z2lsbGlhbTpnaWxfYQ==", "Basic"] {
            assert_eq!(password(&basic(bad)), None, "{bad}");
        }
    }
}
