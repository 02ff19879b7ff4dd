//! Answers: a short text, or the request's body sent back.

use wasip3::http::types::{ErrorCode, Fields, HeaderError, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

pub type Answer = Result<Response, ErrorCode>;

pub fn text(status: u16, text: String) -> Answer {
    let headers = fields(&[
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", &text.len().to_string()),
    ])?;
    let (mut writer, body) = wit_stream::new();
    let (trailers_writer, trailers) = wit_future::new(|| Ok(None));
    drop(trailers_writer); // no trailers: the default value above stands
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    set_status(&response, status)?;
    spawn_local(async move {
        // What is left when the client has gone away has nowhere to go.
        let _unsent = writer.write_all(text.into_bytes()).await;
    });
    Ok(response)
}

/// Joins the request's body to the answer's: the bytes never pass through this instance's memory.
pub fn echo(request: Request) -> Answer {
    let content_type = request.get_headers().get("content-type").into_iter().next();
    let content_type = content_type.unwrap_or_else(|| b"application/octet-stream".to_vec());
    let headers = Fields::from_list(&[("content-type".to_owned(), content_type)]).map_err(refused)?;
    let (received_writer, received) = wit_future::new(|| Ok(()));
    drop(received_writer); // the body is read without an error of ours
    let (body, trailers) = Request::consume_body(request, received);
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    Ok(response)
}

fn fields(entries: &[(&str, &str)]) -> Result<Fields, ErrorCode> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    Fields::from_list(&entries).map_err(refused)
}

fn set_status(response: &Response, status: u16) -> Result<(), ErrorCode> {
    response
        .set_status_code(status)
        .map_err(|()| ErrorCode::InternalError(Some(format!("no status {status}"))))
}

fn refused(error: HeaderError) -> ErrorCode {
    ErrorCode::InternalError(Some(format!("header refused: {error}")))
}
