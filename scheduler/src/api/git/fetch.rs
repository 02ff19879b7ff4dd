//! A fetch or clone of what was pushed: git's own `http-backend`, a child with limits, as CGI (RFC 3875).
//!
//! Invariant: it is asked for nothing but `git-upload-pack`, whatever a client asks for.

use std::{io, time::Duration};

use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gilliam_model::app::App;
use http::{HeaderMap, StatusCode, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::OwnedSemaphorePermit,
    time::Instant,
};

use crate::{
    api::git::{NO_CACHE, Told, open},
    build::Group,
    git::receive,
    refusal::Refusal,
    shared::Shared,
};

/// Bytes of a request: names of commits that the client has, some thousand of them.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Longest fetch.
const FETCH_MAX: Duration = Duration::from_secs(10 * 60);
/// Bytes of the head that `http-backend` writes; it has five short lines.
const HEAD_BYTES_MAX: usize = 4 << 10;
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Longest value of a client's header that is passed on.
const VALUE_BYTES_MAX: usize = 64;

/// Says what there is to fetch.
pub(super) async fn refs(shared: &Shared, app: App, headers: &HeaderMap) -> Result<Response, Told> {
    let call = Call::new(shared, app, "info/refs", headers).await?;
    let Call { mut command, place } = call;
    command.env("REQUEST_METHOD", "GET");
    command.env("QUERY_STRING", super::UPLOAD);
    answer(command, place, None).await
}

/// Sends objects.
pub(super) async fn pack(shared: &Shared, app: App, request: Request) -> Result<Response, Told> {
    let call = Call::new(shared, app, "git-upload-pack", request.headers()).await?;
    let Call { mut command, place } = call;
    command.env("REQUEST_METHOD", "POST");
    command.env("CONTENT_TYPE", "application/x-git-upload-pack-request");
    answer(command, place, Some(request.into_body())).await
}

struct Call {
    command: Command,
    place: OwnedSemaphorePermit,
}

impl Call {
    async fn new(shared: &Shared, app: App, tail: &str, headers: &HeaderMap) -> Result<Self, Told> {
        let place = shared.git.fetches.clone().try_acquire_owned();
        let place = place.map_err(|_| Refusal::busy("fetches"))?;
        let path = format!("/{}.git/{tail}", app.name);
        open(shared, app).await?;
        let mut command = receive::command(&shared.config.git_command, "serve", &shared.tmp())
            .map_err(|e| Refusal::internal(&e))?;
        command.env("GIT_PROJECT_ROOT", shared.git.folder());
        command.env("PATH_INFO", path).env("GIT_HTTP_EXPORT_ALL", "1");
        let passed = [
            (header::CONTENT_ENCODING.as_str(), "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "HTTP_GIT_PROTOCOL"),
        ];
        for (name, variable) in passed {
            if let Some(value) = headers.get(name).and_then(plain) {
                command.env(variable, value);
            }
        }
        Ok(Self { command, place })
    }
}

/// A short value of letters, digits and what separates them.
fn plain(value: &http::HeaderValue) -> Option<&str> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'=' | b':' | b'.');
    let text = value.to_str().ok()?;
    (text.len() <= VALUE_BYTES_MAX && text.bytes().all(is_plain)).then_some(text)
}

/// What is running while an answer is read.
struct Running {
    stdout: ChildStdout,
    until: Instant,
    _group: Group,
    _child: Child,
    _place: OwnedSemaphorePermit,
}

async fn answer(
    mut command: Command,
    place: OwnedSemaphorePermit,
    body: Option<Body>,
) -> Result<Response, Told> {
    command.stdin(std::process::Stdio::piped());
    let child = command.spawn();
    let mut child = child.map_err(|e| Refusal::internal(&format!("git cannot be started: {e}")))?;
    let stdin = child.stdin.take().expect("stdin is piped");
    let mut running = Running {
        stdout: child.stdout.take().expect("stdout is piped"),
        until: Instant::now() + FETCH_MAX,
        _group: Group::of(&child),
        _child: child,
        _place: place,
    };
    if let Some(body) = body {
        // It ends with the child, whose end of the pipe it writes to.
        tokio::spawn(ask(stdin, body.into_data_stream()));
    }
    let (status, content_type, rest) = head(&mut running).await.map_err(|e| Refusal::internal(&e))?;
    let first = stream::once(async move { Ok(rest) });
    let chunks = first.chain(stream::try_unfold(running, next));
    let mut response = (status, Body::from_stream(chunks)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static(NO_CACHE));
    Ok(response)
}

async fn ask(mut stdin: ChildStdin, body: BodyDataStream) {
    let mut body = body.map_err(io::Error::other);
    let mut bytes = 0;
    while let Some(Ok(chunk)) = body.next().await {
        bytes += chunk.len();
        if bytes > REQUEST_BYTES_MAX || stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

async fn next(mut running: Running) -> io::Result<Option<(Bytes, Running)>> {
    let mut chunk = BytesMut::with_capacity(READ_BYTES);
    let reading = running.stdout.read_buf(&mut chunk);
    let n = tokio::time::timeout_at(running.until, reading)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok((n > 0).then(|| (chunk.freeze(), running)))
}

/// The status and type that the child answers with, and what it wrote after its head.
async fn head(running: &mut Running) -> io::Result<(StatusCode, http::HeaderValue, Bytes)> {
    let mut head = BytesMut::new();
    loop {
        let n = tokio::time::timeout_at(running.until, running.stdout.read_buf(&mut head)).await;
        if n.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0
            || head.len() > HEAD_BYTES_MAX + READ_BYTES
        {
            return Err(io::Error::other("git http-backend answered with nothing"));
        }
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let rest = head.split_off(end + 4).freeze();
            let (status, content_type) = parse(&String::from_utf8_lossy(&head));
            return Ok((status, content_type, rest));
        }
    }
}

fn parse(head: &str) -> (StatusCode, http::HeaderValue) {
    let value = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value))
    };
    let status = value("status").and_then(|text| text.split(' ').next()?.parse().ok());
    let content_type = value("content-type").and_then(|text| text.parse().ok());
    (
        status.unwrap_or(StatusCode::OK),
        content_type.unwrap_or(http::HeaderValue::from_static("text/plain")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgi_head_gives_status_and_type() {
        let (status, kind) =
            parse("Expires: x\r\nContent-Type: application/x-git-upload-pack-result\r\n\r\n");
        assert_eq!(
            (status.as_u16(), kind.to_str().expect("text")),
            (200, "application/x-git-upload-pack-result")
        );
        assert_eq!(parse("Status: 404 Not Found\r\n\r\n").0, StatusCode::NOT_FOUND);
    }

    #[test]
    fn only_plain_values_are_passed_on() {
        let value = |text: &'static str| http::HeaderValue::from_static(text);
        assert_eq!(plain(&value("version=2")), Some("version=2"));
        for bad in ["a b", "$(id)", "x;y"] {
            assert_eq!(plain(&value(bad)), None, "{bad}");
        }
    }
}
