//! Blob services.

use std::ops::Range;

use serde::Deserialize;

use crate::{Error, http, path};

/// A blob service of the app, by its name in `[services]` of `gilliam.toml`.
pub fn blobs(name: &str) -> Blobs {
    Blobs {
        origin: format!("http://{name}.internal"),
    }
}

/// A blob service; see [`blobs`]. Names may have slashes.
#[derive(Debug, Clone)]
pub struct Blobs {
    origin: String,
}

/// A blob that is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct BlobInfo {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

#[derive(Deserialize)]
struct Page {
    objects: Vec<BlobInfo>,
    next: Option<String>,
}

impl Blobs {
    fn request(&self, method: &str, name: &str) -> http::Request {
        http::request(method, &format!("{}{}", self.origin, path::of_name(name)))
    }

    /// Writes a blob, in place of one of its name.
    pub async fn put(&self, name: &str, content: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.request("PUT", name).body(content).send().await?.ok().await?;
        Ok(())
    }

    /// A whole blob; none when there is none.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.open(name).await? {
            Some(blob) => Ok(Some(blob.bytes().await?)),
            None => Ok(None),
        }
    }

    /// A blob to be read piece by piece ([`http::Response::chunk`]); none when there is none.
    pub async fn open(&self, name: &str) -> Result<Option<http::Response>, Error> {
        found(self.request("GET", name)).await
    }

    /// These bytes of a blob; none when there is none.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, Error> {
        if range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        match found(self.request("GET", name).header("range", &wanted)).await? {
            Some(blob) => Ok(Some(blob.bytes().await?)),
            None => Ok(None),
        }
    }

    /// The size of a blob; none when there is none.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        let blob = found(self.request("HEAD", name)).await?;
        Ok(blob.and_then(|blob| blob.header("content-length")?.parse().ok()))
    }

    /// Removes a blob; there may be none.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        found(self.request("DELETE", name)).await.map(drop)
    }

    /// The blobs whose names begin so, in their order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, Error> {
        http::listed(&self.origin, prefix, |page: Page| (page.objects, page.next)).await
    }
}

/// An answer that is not that there is none.
async fn found(request: http::Request) -> Result<Option<http::Response>, Error> {
    let answer = request.send().await?;
    match answer.status() {
        404 => Ok(None),
        _ => answer.ok().await.map(Some),
    }
}
