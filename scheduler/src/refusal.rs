//! Refusals: every error answer of the API, as a catalogue code, a message and a way out.
//!
//! Invariant: nothing leaves the API as a bare status; nothing of the inside (paths, addresses, secrets)
//! leaves in a message.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use gilliam_model::{
    api::ApiError,
    code::Code,
    name::{AppName, NodeName},
    release::ReleaseId,
    text::excerpt,
};
use gilliam_store::{CommitError, RangeError};
use http::{HeaderValue, StatusCode, header};

/// When a caller that met a limit may come back, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A request that is not done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    error: ApiError,
    status: u16,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let status = if code.status() == 0 { 500 } else { code.status() };
        Self {
            error: ApiError {
                code,
                message: message.into(),
                hint: None,
            },
            status,
        }
    }

    /// Adds the way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }

    /// Keeps the code, but answers with a status that says it better.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status.as_u16();
        self
    }

    /// The body of the answer.
    pub(crate) fn into_error(self) -> ApiError {
        self.error
    }

    /// A body, query or path that cannot be read.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(Code::A400, message)
    }

    /// Input that is well formed and means something that is not allowed.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::A422, message)
    }

    /// The one answer to every token that does not open a route.
    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            Code::A401,
            "the token is missing, wrong, for another use, or has ended",
        )
        .hint("send a token of this cluster as Authorization: Bearer …")
    }

    pub(crate) fn no_app(name: &str) -> Self {
        Self::new(Code::A404, format!("no app {:?}", excerpt(name))).hint("gilliam apps lists them")
    }

    pub(crate) fn app_exists(app: &AppName) -> Self {
        Self::new(Code::A409, format!("app {app} exists already"))
            .hint("choose another name, or gilliam destroy it first")
    }

    pub(crate) fn no_release(app: &AppName, release: &str) -> Self {
        Self::new(Code::A404, format!("{app} has no release {}", excerpt(release)))
            .hint("gilliam releases lists them")
    }

    pub(crate) fn no_image(digest: &str) -> Self {
        Self::new(Code::A404, format!("no image {} here", excerpt(digest)))
            .hint("gilliam images lists those of an app; gilliam image pull fetches one from a registry")
    }

    /// Something needs a release and the app has none.
    pub(crate) fn nothing_released(app: &AppName) -> Self {
        Self::new(Code::A409, format!("{app} has no release yet")).hint("gilliam deploy first")
    }

    pub(crate) fn another_node(path: &str, facts: &NodeName) -> Self {
        Self::invalid(format!(
            "the path names node {:?} and the report comes from {facts}",
            excerpt(path)
        ))
    }

    /// A certificate of this cluster whose node is not in the store, which was set back perhaps: it goes on.
    pub(crate) fn unknown_node(node: &NodeName) -> Self {
        Self::new(Code::A401, format!("no node {node} is known here"))
            .hint("if the store was set back to a backup: gilliam nodes join-token, and join it anew")
    }

    /// A node that was forgotten, or whose name another has now: it is to end.
    pub(crate) fn dismissed_node(node: &NodeName) -> Self {
        Self::new(
            Code::A409,
            format!("node {node} was forgotten, or another has its name now: this one is not of the cluster"),
        )
        .hint("to use the machine again: gilliam nodes join-token, and start it with an empty data folder")
        .with_status(StatusCode::GONE)
    }

    /// A process that runs as a node which another process, that began later, runs as too.
    pub(crate) fn older_life(node: &NodeName, than: gilliam_model::Timestamp, is_replaced: bool) -> Self {
        let refusal = Self::new(
            Code::A409,
            format!("another process runs as node {node}; it began at {than}, after this one"),
        )
        .hint("two machines must not share a node's data folder: join each under a name of its own");
        if is_replaced {
            refusal.with_status(StatusCode::GONE)
        } else {
            refusal
        }
    }

    pub(crate) fn name_taken(node: &NodeName) -> Self {
        Self::new(
            Code::A409,
            format!("a node named {node} is of this cluster already"),
        )
        .hint(format!(
            "choose another with --name; if that node is gone for good: gilliam nodes forget {node}"
        ))
    }

    pub(crate) fn no_node(node: &str) -> Self {
        Self::new(Code::A404, format!("no node {:?}", excerpt(node))).hint("gilliam nodes lists them")
    }

    pub(crate) fn too_large(what: &str, bytes_max: u64) -> Self {
        Self::new(Code::A413, format!("{what} is larger than {bytes_max} bytes"))
    }

    pub(crate) fn busy(what: &str) -> Self {
        Self::new(Code::A429, format!("too many {what} at once")).hint("try again in a moment")
    }

    pub(crate) fn draining() -> Self {
        Self::new(Code::A503, "this control plane is stopping").hint("try again in a moment")
    }

    /// A bug or a broken machine: the cause goes to the log, not to the caller.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(Code::A500, "the platform failed to do this").hint("its own log says why")
    }

    /// A record that another record promises is gone.
    pub(crate) fn missing(what: &str, app: &AppName, release: ReleaseId) -> Self {
        tracing::error!(%app, %release, what, "a stored record is missing");
        Self::new(
            Code::S11,
            format!("the {what} of {app} {release} is missing in the store"),
        )
        .hint("restore the data folder from a backup, or deploy again")
    }
}

impl From<RangeError> for Refusal {
    fn from(error: RangeError) -> Self {
        tracing::error!(%error, "store cannot be read");
        Self::new(error.code(), error.to_string())
    }
}

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        let refusal = Self::new(error.code(), error.to_string());
        match error {
            CommitError::Conflict { .. } => refusal.hint("nothing was changed; look at it and try again"),
            CommitError::TooLarge { .. } => refusal,
            CommitError::Unavailable { code: Code::S10, .. } => {
                tracing::error!(%error, "store takes no writes");
                refusal.hint(
                    "nothing was changed; free the disk and restart the control plane, or, when the store is \
                     in etcd, compact and defragment it and disarm its alarm",
                )
            }
            CommitError::Unavailable { .. } => {
                tracing::error!(%error, "store takes no writes");
                refusal.hint("nothing was changed; try again when the store is back: its own log says why")
            }
            CommitError::OutcomeUnknown { .. } => {
                tracing::error!(%error, "store failed in the middle of a write");
                refusal.hint(
                    "it may have happened: look before trying again; a store in a file takes no writes until \
                     the control plane is restarted",
                )
            }
        }
    }
}

/// The answer to a request whose head cannot be read, so that no handler ever sees it.
pub(crate) fn unreadable(status: StatusCode) -> http::Response<Bytes> {
    let message = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the request's head is too large",
        StatusCode::URI_TOO_LONG => "the request's target is too long",
        _ => "the request's head is malformed",
    };
    let refusal = Refusal::malformed(message);
    let body = serde_json::to_vec(&refusal.error).expect("a code and texts are JSON");
    let mut response = http::Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        "gilliam-error",
        HeaderValue::from_static(refusal.error.code.as_str()),
    );
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Refusal {
    /// The answer to a client that shows text to people: git.
    pub(crate) fn into_text(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let ApiError { code, message, hint } = self.error;
        let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        let text = format!("error: {message} ({code})\n{hint}");
        let mut response = (status, text).into_response();
        let headers = response.headers_mut();
        headers.insert("gilliam-error", HeaderValue::from_static(code.as_str()));
        if status == StatusCode::UNAUTHORIZED {
            // Without it git asks nobody for a password.
            let basic = HeaderValue::from_static("Basic realm=\"gilliam\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, basic);
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = self.error.code;
        let mut response = (status, Json(self.error)).into_response();
        let headers = response.headers_mut();
        headers.insert("gilliam-error", HeaderValue::from_static(code.as_str()));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_the_status_and_headers() {
        let response = Refusal::unauthenticated().into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.headers()["gilliam-error"], "A401");
        assert_eq!(
            Refusal::busy("requests").into_response().headers()["retry-after"],
            "1"
        );
        assert_eq!(
            Refusal::new(Code::R99, "no status of its own")
                .into_response()
                .status(),
            500
        );
    }

    #[test]
    fn an_unknown_outcome_never_reads_as_nothing_happened() {
        let error = CommitError::OutcomeUnknown {
            reason: "fsync failed".into(),
        };
        let refusal = Refusal::from(error);
        assert_eq!((refusal.status, refusal.error.code), (503, Code::S10));
        assert!(refusal.error.hint.expect("hint").contains("may have happened"));
    }

    #[test]
    fn long_input_is_cut_in_messages() {
        let message = Refusal::no_app(&"x".repeat(10_000)).into_error().message;
        assert!(message.len() < 200, "{message}");
        let error = Refusal::no_app("ghost").into_error();
        assert_eq!(error.message, r#"no app "ghost""#);
    }
}
