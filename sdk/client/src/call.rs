//! One HTTP call: address, token, timeouts, bounded answers, errors.

use std::{fmt, sync::Arc, time::Duration};

use gilliam_model::api::ApiError;
use reqwest::{
    Method, RequestBuilder, Response,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ClientError, Trust,
    servers::{self, Servers},
};

/// Longest wait for a connection: a control plane is on this machine or a network's round trip away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where another server can be asked instead.
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(2);
/// Longest wait for an ordinary answer; the slowest is a commit to the store.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A dead peer of a long stream is noticed after a few of these.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Idle connections are dropped before the server's own idle limit would race with a new request.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Largest JSON answer: a list of very many apps; a page of instances is below 1 MiB.
pub(crate) const ANSWER_BYTES_MAX: usize = 128 << 20;
/// Largest error answer: a message and a hint.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Largest certificate of a CA; ours have one kilobyte.
const CA_BYTES_MAX: usize = 16 << 10;

/// A connection to one cluster's API; cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    servers: Arc<Servers>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.servers.chosen())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the API at `base_url` (`http://127.0.0.1:7788`) that shows `token`; nothing is sent yet.
    ///
    /// Of several addresses with commas between them (`https://H1:7788,https://H2:7788`), those of the servers of one
    /// cluster, the first is called that can be reached.
    ///
    /// Errors: [`ClientError::Url`], [`ClientError::Token`].
    pub fn new(base_url: &str, token: &str) -> Result<Self, ClientError> {
        Self::trusting(base_url, token, Trust::Public)
    }

    /// The same, for an `https` address whose server is known otherwise than by a public CA.
    pub fn trusting(base_url: &str, token: &str, trust: Trust) -> Result<Self, ClientError> {
        let servers = Arc::new(Servers::parse(base_url)?);
        let mut headers = HeaderMap::new();
        if !token.is_empty() {
            let mut bearer =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let connect_timeout = match servers.count() {
            1 => CONNECT_TIMEOUT,
            _ => CONNECT_TIMEOUT_OF_SEVERAL,
        };
        let http = reqwest::Client::builder()
            .user_agent(concat!("gilliam/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(connect_timeout)
            .tcp_keepalive(KEEPALIVE)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tls_backend_preconfigured(trust.settings())
            .build()
            .map_err(|source| ClientError::Unreachable {
                url: servers.text(),
                source,
            })?;
        Ok(Self { http, servers })
    }

    /// The base URL that is called now, without a trailing slash.
    pub fn base_url(&self) -> &str {
        self.servers.chosen()
    }

    /// Every address of the cluster, with commas between them.
    pub fn addresses(&self) -> String {
        self.servers.text()
    }

    /// Chooses a server that answers before a call that cannot be repeated at another one.
    pub(crate) async fn choose(&self) {
        if self.servers.count() > 1 {
            // If none answers, the call itself says so.
            let _ = self.health().await;
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base_url()))
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path).timeout(CALL_TIMEOUT))
            .await
    }

    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(self.request(method, path).json(body).timeout(CALL_TIMEOUT))
            .await
    }

    /// The certificate of the cluster's CA (PEM), for programs that speak TLS to it themselves, such as git.
    pub async fn ca(&self) -> Result<String, ClientError> {
        let request = self.request(Method::GET, "/git/ca.pem").timeout(CALL_TIMEOUT);
        let response = self.answer(request).await?;
        let body = self.body(response, CA_BYTES_MAX).await?;
        String::from_utf8(body).map_err(|_| self.protocol("its CA's certificate is not text".to_string()))
    }

    /// Makes a call whose answer has no body.
    pub(crate) async fn finish(&self, request: RequestBuilder) -> Result<(), ClientError> {
        self.answer(request.timeout(CALL_TIMEOUT)).await.map(drop)
    }

    /// Makes a call whose answer is one JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.answer(request).await?;
        let body = self.body(response, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(|e| self.protocol(format!("its answer cannot be read: {e}")))
    }

    /// Makes a call up to the head of a successful answer; an error answer becomes an error.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = self.reach(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response, ERROR_BYTES_MAX).await?;
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => Err(ClientError::Api {
                status: status.as_u16(),
                error,
            }),
            Err(_) => Err(self.protocol(format!("it answers {status}"))),
        }
    }

    /// Sends a request to the server that is chosen; to the next, as long as nobody is reached.
    async fn reach(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let mut request = request.build().map_err(|source| self.unsent(source))?;
        for _ in 1..self.servers.count() {
            // What is a stream can be sent once.
            let Some(copy) = request.try_clone() else { break };
            let base = self.base_url();
            match self.http.execute(copy).await {
                Err(error) if error.is_connect() => {
                    self.servers.leave(base);
                    match servers::moved(request.url(), base, self.base_url()) {
                        Some(url) => *request.url_mut() = url,
                        None => return Err(self.unsent(error)),
                    }
                }
                Err(error) => return Err(self.unsent(error)),
                Ok(response) => return Ok(response),
            }
        }
        let sent = self.http.execute(request).await;
        sent.map_err(|source| self.unsent(source))
    }

    async fn body(&self, mut response: Response, bytes_max: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.broken(source))? {
            if body.len() + chunk.len() > bytes_max {
                return Err(self.protocol(format!("its answer is longer than {bytes_max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unsent(&self, source: reqwest::Error) -> ClientError {
        let url = self.left();
        if source.is_timeout() && !source.is_connect() {
            return ClientError::Timeout { url };
        }
        match tls_error(&source) {
            Some(reason) => ClientError::Untrusted { url, reason },
            None => ClientError::Unreachable { url, source },
        }
    }

    pub(crate) fn broken(&self, source: reqwest::Error) -> ClientError {
        let url = self.left();
        if source.is_timeout() {
            return ClientError::Timeout { url };
        }
        ClientError::Interrupted {
            url,
            source: Some(source),
        }
    }

    /// The server that is chosen, after another one is chosen for the next call.
    fn left(&self) -> String {
        let base = self.base_url().to_string();
        self.servers.leave(&base);
        base
    }

    pub(crate) fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol {
            url: self.base_url().to_string(),
            reason,
        }
    }
}

/// What TLS says, when it is TLS that failed.
fn tls_error(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls.to_string());
    }
    // An IO error shows what it wraps by itself, not as its source.
    let wrapped = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    match wrapped {
        Some(wrapped) => tls_error(wrapped),
        None => tls_error(error.source()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_never_printed_and_must_fit_a_header() {
        let client = Client::new("http://127.0.0.1:1", "gil_secret").expect("client");
        assert!(!format!("{client:?}").contains("secret"));
        assert!(matches!(
            Client::new("http://127.0.0.1:1", "a\nb"),
            Err(ClientError::Token)
        ));
    }
}
