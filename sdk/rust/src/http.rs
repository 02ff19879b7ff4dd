//! Requests: to other apps, and to the hosts that the process may call.
//!
//! ```no_run
//! # async fn example() -> Result<(), gilliam::Error> {
//! // An app of `[uses]` in gilliam.toml; nothing leaves the cluster.
//! let invoice: serde_json::Value = gilliam::app("billing").get("/invoices/7").send().await?.ok().await?.json().await?;
//! // A host of `allowed_outbound_hosts`.
//! let answer = gilliam::http::post("https://api.example.com/v1/mails").json(&invoice)?.send().await?;
//! # Ok(())
//! # }
//! ```

use serde::{Serialize, de::DeserializeOwned};
use wasip2::{
    http::{
        outgoing_handler::{self, ErrorCode},
        types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme},
    },
    io::streams::{InputStream, StreamError},
};

use crate::{Error, executor::ready, path};

/// Bytes of a body that are read at once.
const CHUNK_BYTES: u64 = 64 << 10;

/// Another app of the cluster, by its name in `[uses]` of `gilliam.toml`.
pub fn app(name: &str) -> App {
    App {
        origin: format!("http://{name}.internal"),
    }
}

/// Another app; see [`app`].
#[derive(Debug, Clone)]
pub struct App {
    origin: String,
}

impl App {
    /// A request of it; `path` begins with a slash.
    pub fn request(&self, method: &str, path: &str) -> Request {
        request(method, &format!("{}{path}", self.origin))
    }

    /// `GET` of a path.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// `POST` to a path.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }
}

/// A request of any method.
pub fn request(method: &str, url: &str) -> Request {
    Request {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

/// `GET` of a URL.
pub fn get(url: &str) -> Request {
    request("GET", url)
}

/// `POST` to a URL.
pub fn post(url: &str) -> Request {
    request("POST", url)
}

/// A request that is to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// With one header more.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With a value as its body, written as JSON.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Sends it; any status is an answer.
    pub async fn send(self) -> Result<Response, Error> {
        let (scheme, authority, target) = parts(&self.url)?;
        let headers = Fields::new();
        for (name, value) in &self.headers {
            headers
                .append(name, value)
                .map_err(|error| unreachable(format!("header {name}: {error:?}")))?;
        }
        if !self.body.is_empty() {
            let length = self.body.len().to_string();
            // Fields that are new take a name that is allowed.
            let _ = headers.append("content-length", length.as_bytes());
        }
        let request = OutgoingRequest::new(headers);
        let refused =
            |what: &str| unreachable(format!("{what} of {} {} cannot be sent", self.method, self.url));
        request
            .set_method(&method(&self.method))
            .map_err(|()| refused("the method"))?;
        request
            .set_scheme(Some(&scheme))
            .map_err(|()| refused("the scheme"))?;
        request
            .set_authority(Some(authority))
            .map_err(|()| refused("the host"))?;
        request
            .set_path_with_query(Some(target))
            .map_err(|()| refused("the path"))?;
        let body = request.body().map_err(|()| refused("the body"))?;
        let answer = outgoing_handler::handle(request, None).map_err(|code| said(&self.url, &code))?;
        let sent = send_body(body, &self.body).await;
        loop {
            if let Some(answer) = answer.get() {
                // Taken once: the first time that it is there.
                let answer = answer.map_err(|()| refused("the answer"))?;
                return match (answer, sent) {
                    // An answer counts even where the other end did not want the whole body.
                    (Ok(answer), _) => Response::new(answer),
                    (Err(_), Err(error)) => Err(error),
                    (Err(code), Ok(())) => Err(said(&self.url, &code)),
                };
            }
            ready(answer.subscribe()).await;
        }
    }
}

async fn send_body(body: OutgoingBody, bytes: &[u8]) -> Result<(), Error> {
    let broken = || unreachable("the other end did not take the body".to_owned());
    {
        let stream = body.write().map_err(|()| broken())?;
        let mut left = bytes;
        while !left.is_empty() {
            let room = stream.check_write().map_err(|_| broken())?;
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(left.len());
            if room == 0 {
                ready(stream.subscribe()).await;
                continue;
            }
            let (now, later) = left.split_at(room);
            stream.write(now).map_err(|_| broken())?;
            left = later;
        }
        if !bytes.is_empty() {
            stream.flush().map_err(|_| broken())?;
        }
    }
    OutgoingBody::finish(body, None).map_err(|_| broken())
}

/// An answer: its head is there, its body comes as it is read.
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    // In the order in which they are to be dropped.
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
}

impl Response {
    fn new(response: IncomingResponse) -> Result<Self, Error> {
        let lost = |()| unreachable("the answer has no body".to_owned());
        let body = response.consume().map_err(lost)?;
        Ok(Self {
            status: response.status(),
            headers: response.headers().entries(),
            stream: body.stream().map_err(lost)?,
            _body: body,
            _response: response,
        })
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of a name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Itself, unless its status says that it was refused (400 and above).
    pub async fn ok(self) -> Result<Self, Error> {
        match self.status {
            400.. => {
                let status = self.status;
                Err(Error::refused(status, &self.bytes().await?))
            }
            _ => Ok(self),
        }
    }

    /// The next piece of the body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            match self.stream.read(CHUNK_BYTES) {
                Ok(bytes) if bytes.is_empty() => ready(self.stream.subscribe()).await,
                Ok(bytes) => return Ok(Some(bytes)),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(unreachable(format!(
                        "the answer broke off: {}",
                        error.to_debug_string()
                    )));
                }
            }
        }
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// The whole body as text; what is no UTF-8 is replaced.
    pub async fn text(self) -> Result<String, Error> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The whole body, read as JSON.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        Ok(serde_json::from_slice(&self.bytes().await?)?)
    }
}

fn unreachable(why: String) -> Error {
    Error::Unreachable(why)
}

fn said(url: &str, code: &ErrorCode) -> Error {
    unreachable(format!("{url}: {code:?}"))
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

/// Scheme, authority, and path with query.
fn parts(url: &str) -> Result<(Scheme, &str, &str), Error> {
    let wrong = || unreachable(format!("{url} is no URL such as https://example.com/path"));
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(wrong()),
    };
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    match authority.is_empty() {
        true => Err(wrong()),
        false => Ok((scheme, authority, if target.is_empty() { "/" } else { target })),
    }
}

/// What a service lists below its root, page after page; `parts` takes one apart.
pub(crate) async fn listed<P: DeserializeOwned, T>(
    origin: &str,
    prefix: &str,
    parts: impl Fn(P) -> (Vec<T>, Option<String>),
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    let mut after = None::<String>;
    loop {
        let mut url = format!("{origin}/");
        path::query(&mut url, "prefix", prefix);
        if let Some(after) = &after {
            path::query(&mut url, "after", after);
        }
        let (found, next) = parts(get(&url).send().await?.ok().await?.json().await?);
        all.extend(found);
        match next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let of = |url| {
            parts(url)
                .map(|(scheme, host, target)| (format!("{scheme:?}"), host, target))
                .ok()
        };
        let http = || "Scheme::Http".to_owned();
        assert_eq!(
            of("http://billing.internal/a?b=c#d"),
            Some((http(), "billing.internal", "/a?b=c"))
        );
        assert_eq!(of("http://a:80"), Some((http(), "a:80", "/")));
        assert_eq!(of("http://a?b"), Some((http(), "a", "?b")));
        for url in ["", "a/b", "ftp://a/", "http:///a"] {
            assert!(of(url).is_none(), "{url}");
        }
    }
}
