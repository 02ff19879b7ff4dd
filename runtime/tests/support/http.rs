//! Clients: one that sends well-formed requests, and a socket for those that are not.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::DEADLINE;

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Answer {
    /// The platform's code, when it made the answer.
    pub fn code(&self) -> Option<&str> {
        self.header("gilliam-error")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

pub type Http = Client<HttpConnector, Full<Bytes>>;

pub fn client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

pub fn h2c_client() -> Http {
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}

pub async fn collect(response: Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = timeout(DEADLINE, body.collect())
        .await
        .expect("a body in time")
        .expect("body")
        .to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

/// `GET path` of `app`, on a new connection.
pub async fn get(address: SocketAddr, app: &str, path: &str) -> Answer {
    send(
        address,
        Request::get(path).header("host", format!("{app}.localhost")),
    )
    .await
}

pub async fn send(address: SocketAddr, request: http::request::Builder) -> Answer {
    send_with(address, request, Bytes::new()).await
}

pub async fn send_with(address: SocketAddr, request: http::request::Builder, body: Bytes) -> Answer {
    let mut request = request.body(Full::new(body)).expect("request");
    let path = request.uri().path_and_query().expect("path").clone();
    *request.uri_mut() = format!("http://{address}{path}").parse().expect("uri");
    let response = timeout(DEADLINE, client().request(request))
        .await
        .expect("an answer in time");
    collect(response.expect("answer")).await
}

/// After an answer began, a connection that is silent for so long has said all.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Sends bytes as they are, and gives all that comes back until the server closes or is quiet for a while.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut patience = DEADLINE;
    while let Ok(Ok(1..)) = timeout(patience, stream.read_buf(&mut answer)).await {
        // A connection that is kept open says nothing more.
        patience = SILENCE;
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the answers in what came back.
pub fn statuses(answer: &str) -> Vec<u16> {
    let mut rest = answer;
    let mut statuses = Vec::new();
    while let Some(at) = rest.find("HTTP/1.") {
        rest = &rest[at + "HTTP/1.1 ".len()..];
        statuses.push(rest.get(..3).and_then(|status| status.parse().ok()).unwrap_or(0));
    }
    statuses
}
