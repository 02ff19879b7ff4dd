//! A blob service as an app has it: real files.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use gilliam_services::{
    Handle,
    blob::{BlobError, Blobs},
    http::{self, Body, whole},
};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};

struct Store {
    folder: tempfile::TempDir,
    blobs: Blobs,
}

fn store(quota_bytes: u64) -> Store {
    let folder = tempfile::tempdir().expect("folder");
    let blobs = Blobs::new(folder.path().join("shop/uploads"), quota_bytes);
    Store { folder, blobs }
}

fn body(bytes: &[u8]) -> Full<Bytes> {
    Full::from(bytes.to_vec())
}

/// Pieces, and then a failure of whoever sent them.
struct Breaks(usize);

impl http_body::Body for Breaks {
    type Data = Bytes;
    type Error = String;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        self.0 -= 1;
        Poll::Ready(Some(match self.0 {
            0 => Err("the client went away".to_owned()),
            _ => Ok(Frame::data(Bytes::from_static(&[7; 1000]))),
        }))
    }
}

impl Store {
    async fn read(&self, name: &str) -> Option<Vec<u8>> {
        let object = self.blobs.get(name).await.expect(name)?;
        let mut all = Vec::new();
        loop {
            let piece = object.read(all.len() as u64).await.expect("read");
            if piece.is_empty() {
                return Some(all);
            }
            all.extend(piece);
        }
    }

    /// Files with bytes of objects.
    fn files(&self) -> usize {
        let data = self.folder.path().join("shop/uploads/data");
        std::fs::read_dir(data).expect("data").count()
    }

    async fn ask(
        &self,
        method: &str,
        target: &str,
        range: &str,
        sent: &str,
    ) -> (u16, ::http::HeaderMap, String) {
        let request = ::http::Request::builder().method(method).uri(target);
        let request = match range {
            "" => request.header("content-type", "text/plain"),
            range => request.header("range", range),
        };
        let request = request
            .body(whole(Bytes::from(sent.to_owned())))
            .expect("request");
        let response = http::answer(Handle::Blob(self.blobs.clone()), request).await;
        let (head, body): (_, Body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        (
            head.status.as_u16(),
            head.headers,
            String::from_utf8_lossy(&body).into_owned(),
        )
    }
}

#[tokio::test]
async fn an_object_is_there_whole_or_not_at_all() {
    let store = store(1 << 20);
    let large: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let info = store
        .blobs
        .put("a/b", "image/png", body(&large))
        .await
        .expect("put");
    assert_eq!((info.bytes, info.content_type.as_str()), (200_000, "image/png"));
    assert_eq!(store.read("a/b").await.expect("there"), large);
    // One that breaks off leaves what was there.
    let broken = store.blobs.put("a/b", "", Breaks(5)).await.expect_err("broken");
    assert!(
        matches!(&broken, BlobError::Broken(why) if why == "the client went away"),
        "{broken}"
    );
    assert_eq!(store.read("a/b").await.expect("there").len(), 200_000);
    // Who reads the old one reads it to its end.
    let old = store.blobs.get("a/b").await.expect("get").expect("there");
    store.blobs.put("a/b", "", body(b"new")).await.expect("put");
    assert_eq!(old.read(199_999).await.expect("read").as_ref(), &large[199_999..]);
    assert_eq!(store.read("a/b").await.expect("there"), b"new");
    let usage = store.blobs.usage().await.expect("usage");
    assert_eq!((usage.bytes, usage.objects), (3, 1));
    assert!(store.blobs.delete("a/b").await.expect("delete"));
    assert!(!store.blobs.delete("a/b").await.expect("delete"));
    assert_eq!(store.read("a/b").await, None);
    assert_eq!(store.blobs.usage().await.expect("usage").bytes, 0);
}

#[tokio::test]
async fn objects_are_there_again_and_what_was_not_put_is_not() {
    let store = store(1 << 20);
    store.blobs.put("kept", "", body(b"kept")).await.expect("put");
    let folder = store.folder.path().join("shop/uploads");
    // What a node that was killed leaves: a file that no name leads to.
    std::fs::write(folder.join("data/17"), "half").expect("left");
    store.blobs.close().await;
    assert!(matches!(store.blobs.get("kept").await, Err(BlobError::Gone)));
    let again = Store {
        blobs: Blobs::new(folder, 1 << 20),
        folder: store.folder,
    };
    assert_eq!(again.read("kept").await.expect("there"), b"kept");
    assert_eq!(again.files(), 1);
    again.blobs.put("next", "", body(b"next")).await.expect("put");
    assert_eq!(again.read("kept").await.expect("there"), b"kept");
}

#[tokio::test]
async fn a_service_ends_at_its_quota_while_an_object_comes() {
    let store = store(10_000);
    store.blobs.put("a", "", body(&[1; 6_000])).await.expect("fits");
    let full = store
        .blobs
        .put("b", "", body(&[1; 5_000]))
        .await
        .expect_err("full");
    assert!(matches!(full, BlobError::Quota(10_000)), "{full}");
    let endless = store
        .blobs
        .put("b", "", Breaks(1_000_000))
        .await
        .expect_err("full");
    assert!(matches!(endless, BlobError::Quota(_)), "{endless}");
    store.blobs.put("b", "", body(&[1; 4_000])).await.expect("fits");
    store.blobs.set_quota(20_000);
    store.blobs.put("c", "", body(&[1; 10_000])).await.expect("fits");
}

#[tokio::test]
async fn no_name_is_a_path() {
    let store = store(1 << 20);
    let long = "x".repeat(1024);
    for name in [
        "../../escape",
        "/etc/passwd",
        "a//b",
        ".",
        "..",
        "a/../b",
        "ünï",
        "C:\\x",
        " ",
        long.as_str(),
    ] {
        store
            .blobs
            .put(name, "", body(name.as_bytes()))
            .await
            .expect(name);
        assert_eq!(store.read(name).await.expect(name), name.as_bytes());
    }
    for name in ["", "a\0b", "a\nb", "x".repeat(1025).as_str()] {
        let refused = store.blobs.put(name, "", body(b"")).await.expect_err(name);
        assert!(matches!(refused, BlobError::Name), "{name:?}: {refused}");
    }
    assert_eq!(std::fs::read_dir(store.folder.path()).expect("folder").count(), 1);
    assert_eq!(store.files(), 10);
}

#[tokio::test]
async fn lists_go_by_prefix_and_page() {
    let store = store(1 << 20);
    for name in ["a", "b/1", "b/2", "b/3", "c"] {
        store.blobs.put(name, "", body(b"x")).await.expect(name);
    }
    let names = async |prefix: &str, after: Option<&str>, limit: usize| {
        let page = store.blobs.list(prefix, after, limit).await.expect("list");
        let names: Vec<String> = page.objects.into_iter().map(|(name, _)| name).collect();
        (names.join(" "), page.has_more)
    };
    assert_eq!(names("", None, 10).await, ("a b/1 b/2 b/3 c".to_owned(), false));
    assert_eq!(names("b/", None, 2).await, ("b/1 b/2".to_owned(), true));
    assert_eq!(names("b/", Some("b/2"), 2).await, ("b/3".to_owned(), false));
    assert_eq!(names("b/", Some("c"), 2).await, (String::new(), false));
    assert_eq!(names("d", None, 2).await, (String::new(), false));
}

#[tokio::test]
async fn objects_go_by_http() {
    let store = store(1 << 20);
    let (status, headers, _) = store.ask("PUT", "/pic%20ture.txt", "", "0123456789").await;
    assert_eq!(status, 201);
    let tag = headers["etag"].clone();
    let (status, headers, text) = store.ask("GET", "/pic%20ture.txt", "", "").await;
    assert_eq!((status, text.as_str()), (200, "0123456789"));
    assert_eq!(
        (&headers["etag"], headers["content-type"].as_bytes()),
        (&tag, b"text/plain".as_slice())
    );
    assert_eq!(headers["content-length"], "10");
    let (status, headers, text) = store.ask("GET", "/pic%20ture.txt", "bytes=2-4", "").await;
    assert_eq!((status, text.as_str()), (206, "234"));
    assert_eq!(headers["content-range"], "bytes 2-4/10");
    let (status, headers, _) = store.ask("GET", "/pic%20ture.txt", "bytes=10-", "").await;
    assert_eq!(
        (status, headers["content-range"].as_bytes()),
        (416, b"bytes */10".as_slice())
    );
    let (status, headers, text) = store.ask("HEAD", "/pic%20ture.txt", "", "").await;
    assert_eq!(
        (status, text.as_str(), headers["content-length"].as_bytes()),
        (200, "", b"10".as_slice())
    );
    let (status, _, text) = store.ask("GET", "/?prefix=pic", "", "").await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with(r#"{"objects":[{"name":"pic ture.txt","bytes":10,"content_type":"text/plain""#),
        "{text}"
    );
    assert!(text.ends_with(r#""next":null}"#), "{text}");
    assert_eq!(store.ask("DELETE", "/pic%20ture.txt", "", "").await.0, 204);
    assert_eq!(store.ask("GET", "/pic%20ture.txt", "", "").await.0, 404);
    assert_eq!(store.ask("POST", "/x", "", "").await.0, 400);
    assert_eq!(store.ask("GET", "/%zz", "", "").await.0, 400);
    assert_eq!(store.ask("GET", "/?limit=x", "", "").await.0, 400);
}
