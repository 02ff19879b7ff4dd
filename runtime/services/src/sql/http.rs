//! A database over HTTP: what answers at `http://NAME.internal/` within the node.
//!
//! `POST /query` takes a statement, `POST /batch` a list of them, which are one transaction. An error is
//! `{"code","message","hint"}`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};

use super::{Payer, Sql, SqlError, json};

/// Bytes of the body of a request: parameters of several megabytes.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Answers a request.
pub async fn answer(sql: &Sql, payer: &Arc<dyn Payer>, request: Request<Bytes>) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        let message = format!("{} is not what a database takes", head.method);
        let mut response = refused(
            StatusCode::METHOD_NOT_ALLOWED,
            &message,
            Some("POST /query or /batch"),
        );
        response
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        return response;
    }
    let invalid = |message: String| refused(StatusCode::BAD_REQUEST, &message, None);
    let done = match head.uri.path() {
        "/query" => match json::statement(&body) {
            Ok(statement) => sql
                .query(payer, statement)
                .await
                .map(|answer| json::answer(&answer)),
            Err(message) => return invalid(message),
        },
        "/batch" => match json::batch(&body) {
            Ok(batch) => sql
                .batch(payer, batch)
                .await
                .map(|answers| json::answers(&answers)),
            Err(message) => return invalid(message),
        },
        other => {
            let message = format!("{other} is nothing of a database");
            return refused(StatusCode::NOT_FOUND, &message, Some("POST /query or /batch"));
        }
    };
    match done {
        Ok(text) => response(StatusCode::OK, text),
        Err(error) => {
            let (status, code) = status(&error);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response(status, problem(code, &error.to_string(), error.hint().as_deref()))
        }
    }
}

fn response(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn refused(status: StatusCode, message: &str, hint: Option<&str>) -> Response<Bytes> {
    response(status, problem("A400", message, hint))
}

fn problem(code: &str, message: &str, hint: Option<&str>) -> String {
    serde_json::json!({ "code": code, "message": message, "hint": hint }).to_string()
}

/// The status and the code that say what happened.
fn status(error: &SqlError) -> (u16, &'static str) {
    match error.cause() {
        SqlError::Statement(_) | SqlError::Params(_) => (422, "A422"),
        SqlError::Constraint(_) => (409, "A409"),
        SqlError::Forbidden(_) => (403, "A403"),
        SqlError::TooLarge(_) => (413, "A413"),
        SqlError::Deadline(_) => (408, "A408"),
        SqlError::Busy(_) | SqlError::Memory | SqlError::GivenUp => (503, "S13"),
        SqlError::Ended(_) => (409, "S12"),
        SqlError::Gone => (410, "A404"),
        SqlError::Quota(_) => (507, "S14"),
        SqlError::DiskFull => (507, "S10"),
        SqlError::Corrupt(_) => (500, "S11"),
        SqlError::Failed(_) | SqlError::InBatch { .. } => (500, "S13"),
    }
}
