//! A bucket: an S3 server on a folder, in this process, that counts what it is asked and can be made to fail.

#![allow(dead_code, unreachable_pub, reason = "it is a part of the harness")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use gilliam_scheduler::{AwsVariables, BlobsPlace};
use http::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::{Body, auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{net::TcpListener, task::JoinHandle};

/// Who may ask it.
pub const KEY: &str = "AKIDTEST";
pub const SECRET: &str = "a secret of the test";
const BUCKET: &str = "images";

/// What the server does beside serving.
#[derive(Debug, Default)]
pub struct Conduct {
    /// Whole blobs that were read.
    pub reads: AtomicUsize,
    /// Answers 503 to everything.
    pub is_out: AtomicBool,
    /// Answers 503 to what is written.
    pub is_read_only: AtomicBool,
    /// Answers 503 to each part of an upload but the first.
    pub takes_first_parts: AtomicBool,
}

/// A server with one bucket.
pub struct S3 {
    pub address: SocketAddr,
    pub conduct: Arc<Conduct>,
    root: PathBuf,
    serving: JoinHandle<()>,
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl S3 {
    /// Serves the folder `root`.
    pub async fn start(root: &Path) -> Self {
        std::fs::create_dir_all(root.join(BUCKET)).expect("bucket");
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("folder"));
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let conduct = Arc::new(Conduct::default());
        let counted = conduct.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("accept");
                let (service, conduct) = (service.clone(), counted.clone());
                let answer = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (service, conduct) = (service.clone(), conduct.clone());
                    async move {
                        if let Some(status) = conduct.refuses(request.method(), request.uri()) {
                            let mut refused = Response::new(Body::empty());
                            *refused.status_mut() = status;
                            return Ok(refused);
                        }
                        let answer = hyper::service::Service::call(&service, request).await;
                        Ok::<_, Infallible>(answer.expect("the service answers"))
                    }
                });
                tokio::spawn(async move {
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // A client that goes away is no failure of the test.
                    let _ = builder.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self {
            address,
            conduct,
            root: root.to_path_buf(),
            serving,
        }
    }

    /// The bucket's folder.
    pub fn folder(&self) -> PathBuf {
        self.root.join(BUCKET)
    }

    /// The bucket, with what a client needs to get in.
    pub fn place(&self) -> BlobsPlace {
        self.place_with(&format!("s3://{BUCKET}/production"), SECRET)
    }

    pub fn place_with(&self, text: &str, secret: &str) -> BlobsPlace {
        let variables = [
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
        ];
        let variables = AwsVariables::of(variables.map(|(name, value)| (name.to_owned(), value)));
        BlobsPlace::parse(text, &variables).expect("a place")
    }
}

impl Conduct {
    /// The status of the answer to a request that is not served.
    fn refuses(&self, method: &Method, uri: &http::Uri) -> Option<StatusCode> {
        let path = uri.path();
        if method == Method::GET && path.contains("/blobs/sha256/") {
            self.reads.fetch_add(1, SeqCst);
        }
        // The server behind would make the folder.
        if !path.starts_with(&format!("/{BUCKET}/")) {
            return Some(StatusCode::NOT_FOUND);
        }
        let writes = matches!(*method, Method::PUT | Method::POST);
        let is_out = self.is_out.load(SeqCst) || writes && self.is_read_only.load(SeqCst);
        let part = uri
            .query()
            .and_then(|query| query.split('&').find(|pair| pair.starts_with("partNumber=")));
        let is_cut_off =
            self.takes_first_parts.load(SeqCst) && part.is_some_and(|part| part != "partNumber=1");
        (is_out || is_cut_off).then_some(StatusCode::SERVICE_UNAVAILABLE)
    }
}
