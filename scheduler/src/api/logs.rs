//! The log of an app: its last lines, and those to come.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures::{Stream, StreamExt as _, stream};
use gilliam_model::{api::LOG_LINES_MAX, log::LogLine, name::PROCESS_NAME_BYTES_MAX, text::excerpt};
use http::{HeaderValue, header};
use serde::Deserialize;

use crate::{
    api::{
        Api,
        extract::{AppPath, Params},
        openapi::Errors,
    },
    logs::Source,
    refusal::Refusal,
    remarks,
};

/// Lines shown when the caller does not say how many: a screenful, as Heroku does.
const LINES_DEFAULT: usize = 100;
/// Longest source: a process name, a dot and a slot number.
const SOURCE_BYTES_MAX: usize = PROCESS_NAME_BYTES_MAX + 12;
/// The type of answers that are one JSON document a line.
pub(crate) const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// What to read of a log.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// How many of the last lines; 100 by default.
    lines: Option<usize>,
    /// Whether the answer goes on with every later line.
    follow: bool,
    /// Only lines of `web.1`, of all of `web`, of `router` or of `control`.
    source: Option<String>,
}

/// Reads the log of an app.
#[utoipa::path(get, path = "/v1/apps/{app}/logs", operation_id = "read_logs", tag = "logs",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"), LogParams),
    responses((status = 200, description = "One line of the log in each line", body = LogLine,
        content_type = "application/x-ndjson"), Errors))]
pub(crate) async fn read(
    State(api): State<Api>,
    AppPath(app): AppPath,
    Params(params): Params<LogParams>,
) -> Result<Response, Refusal> {
    api.shared.app(&app).await?;
    let lines = params.lines.unwrap_or(LINES_DEFAULT);
    if lines > LOG_LINES_MAX {
        return Err(Refusal::invalid(format!(
            "lines={lines} is more than the {LOG_LINES_MAX} that are kept"
        )));
    }
    let source = source(params.source)?;
    let shared = &api.shared;
    if !params.follow {
        let told = remarks::newest(&shared.store, &app).await?;
        let last = shared.logs.last(&app, &source, lines);
        return Ok(ndjson(stream::iter(merged(last, told, &source, lines))));
    }
    let place = api
        .shared
        .followers
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refusal::busy("log readers"))?;
    let mut drain = api.drain.clone();
    let (told, later) = remarks::follow(&shared.store, &app).await?;
    let (last, followed) = shared.logs.follow(&app, source.clone(), lines);
    let last = merged(last, told, &source, lines);
    let wanted = later.filter(move |line| std::future::ready(source.wants(line)));
    // Remarks do not end by themselves: the app's end ends both.
    let followed = followed.map(Some).chain(stream::once(std::future::ready(None)));
    let later = stream::select(followed, wanted.map(|line| Some(Arc::new(line))));
    let later = later
        .take_while(|line| std::future::ready(line.is_some()))
        .filter_map(std::future::ready);
    let all = stream::iter(last).chain(later);
    let until = Box::pin(async move { drain.requested().await });
    Ok(ndjson(all.take_until(until).inspect(move |_| {
        // Held as long as the stream is.
        let _ = &place;
    })))
}

/// The last `lines_max` of lines of nodes and of remarks that `source` wants, by time.
fn merged(
    mut lines: Vec<Arc<LogLine>>,
    told: Vec<LogLine>,
    source: &Source,
    lines_max: usize,
) -> Vec<Arc<LogLine>> {
    let told = told.into_iter().filter(|line| source.wants(line)).map(Arc::new);
    lines.extend(told);
    lines.sort_by_key(|line| line.at);
    let surplus = lines.len().saturating_sub(lines_max);
    lines.drain(..surplus);
    lines
}

fn source(given: Option<String>) -> Result<Source, Refusal> {
    let Some(name) = given else { return Ok(Source::Any) };
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > SOURCE_BYTES_MAX || !name.bytes().all(allowed) {
        let message = format!("source {:?} cannot be one", excerpt(&name));
        return Err(Refusal::invalid(message).hint("it is web.1, web, router or control"));
    }
    Ok(Source::Named(name))
}

fn ndjson(lines: impl Stream<Item = Arc<LogLine>> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(|line| Ok::<_, Infallible>(json_line(&*line))));
    ([(header::CONTENT_TYPE, NDJSON)], body).into_response()
}

/// A document with its line end.
pub(crate) fn json_line(document: &impl serde::Serialize) -> Bytes {
    let mut line = serde_json::to_vec(document).expect("the model's types have no failing serializer");
    line.push(b'\n');
    line.into()
}
