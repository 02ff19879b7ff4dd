//! Blobs, for nodes.

use std::time::Duration;

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use gilliam_model::{code::Code, digest::Digest, image::Process, text::excerpt};
use http::{HeaderValue, header};
use tokio_util::io::ReaderStream;

use crate::{
    api::{Api, auth::CallingNode, extract::LastName, openapi::Errors},
    blobs::BlobsError,
    refusal::Refusal,
    shared::Shared,
};

/// A node that another control plane has just told to run something may be ahead of this one by a turn.
const PLACED_WAIT: Duration = Duration::from_secs(2);
/// Bytes read from the file at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads a blob by its digest. The node verifies what it got.
#[utoipa::path(get, path = "/v1/blobs/{digest}", operation_id = "read_blob", tag = "nodes",
    security(("bearer" = [])),
    params(("digest" = String, Path, description = "sha256: and 64 hex digits")),
    responses((status = 200, description = "The blob", content_type = "application/octet-stream"), Errors))]
pub(crate) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<CallingNode>,
    LastName(name): LastName,
) -> Result<Response, Refusal> {
    let gone = || Refusal::new(Code::A404, format!("no blob {}", excerpt(&name)));
    // Only the hex digits of a digest become a path.
    let digest: Digest = name.parse().map_err(|_| gone())?;
    if let CallingNode::Certified { name, .. } = &caller {
        let is_its = |process: &Process| process.component == digest;
        let publisher = &api.shared.publisher;
        if !publisher.finds(name, PLACED_WAIT, is_its).await {
            return Err(gone());
        }
    }
    answer(&api.shared, &digest).await
}

/// A blob as an answer.
pub(crate) async fn answer(shared: &Shared, digest: &Digest) -> Result<Response, Refusal> {
    let place = shared.blob_streams.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::busy("readers of blobs"))?;
    let blob = shared
        .blobs
        .file(digest)
        .await
        .map_err(BlobsError::into_refusal)?;
    // Once it is open it may go from the cache.
    let file = tokio::fs::File::open(blob.path()).await;
    let file = file.map_err(|e| Refusal::internal(&e))?;
    let length = file.metadata().await.map_err(|e| Refusal::internal(&e))?.len();
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    let chunks = ReaderStream::with_capacity(file, CHUNK_BYTES);
    // The place is taken until the last of it is read, or the reader is gone.
    let body = Body::from_stream(chunks.map(move |chunk| {
        let _place = &place;
        chunk
    }));
    Ok((headers, body).into_response())
}
