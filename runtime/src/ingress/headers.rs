//! Which headers pass the ingress, and which it makes itself. Pure.
//!
//! Invariant: nothing a client says about where it comes from reaches an app; nothing that speaks of one
//! connection passes to another, in either direction.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The request's id: always the platform's, so that a log line cannot be forged from outside.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The catalogue code of an answer the platform made.
pub(crate) const GILLIAM_ERROR: HeaderName = HeaderName::from_static("gilliam-error");
/// What a node in front tells the node that runs the guest: whose request it is. No client can say it.
pub(super) const GILLIAM_APP: HeaderName = HeaderName::from_static("gilliam-app");
pub(super) const GILLIAM_PROCESS: HeaderName = HeaderName::from_static("gilliam-process");
/// And what that one tells of itself: requests in flight at its least loaded instance.
pub(super) const GILLIAM_LOAD: HeaderName = HeaderName::from_static("gilliam-load");
/// What an app learns of another one that calls it inside the cluster; nobody else can say these.
pub(super) const GILLIAM_CALLER: HeaderName = HeaderName::from_static("gilliam-caller");
pub(super) const GILLIAM_CALLER_INSTANCE: HeaderName = HeaderName::from_static("gilliam-caller-instance");
/// How many apps called one another up to this request.
pub(crate) const GILLIAM_DEPTH: HeaderName = HeaderName::from_static("gilliam-depth");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers of one connection (RFC 9110 section 7.6.1), and those whose meaning the ingress has used up. Like
/// the others below not a constant, which would be made anew for each look.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Headers that the ingress adds to a request at most.
const OWN_COUNT: usize = 6;

/// Headers by which proxies speak to apps: a client's own are dropped, whatever their number.
const OURS_PREFIXES: [&str; 3] = ["x-forwarded-", "x-gilliam-", "gilliam-"];
static OURS: [HeaderName; 5] = [
    header::FORWARDED,
    X_REQUEST_ID,
    HeaderName::from_static("x-real-ip"),
    // Becomes HTTP_PROXY in programs that follow CGI ("httpoxy").
    HeaderName::from_static("proxy"),
    // The ingress has answered it.
    header::EXPECT,
];

/// What is told of a connection with each of its requests.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    client: HeaderValue,
    port: HeaderValue,
}

impl Ends {
    /// Of a connection from `client` to our `port`.
    pub(crate) fn new(client: IpAddr, port: u16) -> Self {
        let client = match client.to_canonical() {
            IpAddr::V4(ip) => HeaderValue::from_str(&ip.to_string()),
            IpAddr::V6(ip) => HeaderValue::from_str(&ip.to_string()),
        };
        Self {
            client: client.expect("an address is visible ASCII"),
            port: HeaderValue::from(port),
        }
    }
}

/// Where a request comes from.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) ends: &'a Ends,
    /// As the client gave it.
    pub(crate) host: &'a str,
    pub(crate) request_id: &'a HeaderValue,
}

/// Turns a client's headers into those an app gets.
pub(crate) fn forward_request(headers: &mut HeaderMap, origin: &Origin<'_>) {
    strip(headers, |name| is_hop_by_hop(name) || is_ours(name));
    join_cookies(headers);
    // Room for all at once: a small map grows with every other header.
    headers.reserve(OWN_COUNT);
    let given = headers.get(header::HOST).filter(|host| *host == origin.host);
    let host = match given {
        Some(host) => Some(host.clone()),
        None => {
            let host = HeaderValue::from_str(origin.host).ok();
            host.inspect(|host| drop(headers.insert(header::HOST, host.clone())))
        }
    };
    let ours = [
        (X_FORWARDED_FOR, Some(origin.ends.client.clone())),
        (X_FORWARDED_HOST, host),
        (X_FORWARDED_PORT, Some(origin.ends.port.clone())),
        (X_FORWARDED_PROTO, Some(HeaderValue::from_static("http"))),
        (X_REQUEST_ID, Some(origin.request_id.clone())),
    ];
    for (name, value) in ours {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

/// Turns the headers of a guest's own request into those that the app gets which it calls.
pub(super) fn forward_inside(headers: &mut HeaderMap, own: [(HeaderName, HeaderValue); 5]) {
    strip(headers, |name| is_hop_by_hop(name) || is_ours(name));
    headers.reserve(own.len());
    for (name, value) in own {
        headers.insert(name, value);
    }
}

/// Turns an app's headers into those a client gets; fails when their frame is ambiguous (H17).
pub(crate) fn forward_response(
    headers: &mut HeaderMap,
    request_id: &HeaderValue,
) -> Result<(), &'static str> {
    strip(headers, is_hop_by_hop);
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = length.as_bytes();
        if lengths.next().is_some() {
            return Err("more than one Content-Length header");
        }
        if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
            return Err("a Content-Length that is not a number");
        }
    }
    // Only the platform speaks of itself.
    headers.remove(GILLIAM_ERROR);
    headers.insert(X_REQUEST_ID, request_id.clone());
    Ok(())
}

/// Turns the headers of another node's answer into those a client gets: that node has made them.
pub(crate) fn pass_response(headers: &mut HeaderMap) {
    strip(headers, is_hop_by_hop);
}

/// The length of the body that a head announces.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

fn is_ours(name: &HeaderName) -> bool {
    OURS.contains(name)
        || OURS_PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix))
}

/// Drops the headers that `is_dropped` says, and those that the Connection header names.
fn strip(headers: &mut HeaderMap, is_dropped: impl Fn(&HeaderName) -> bool) {
    // Most heads have few headers and nothing to drop: one look at each is less than a search for all there
    // are.
    let mut dropped: Vec<HeaderName> = headers.keys().filter(|name| is_dropped(name)).cloned().collect();
    if dropped.contains(&header::CONNECTION) {
        let named = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            // Naming these would strip what the message itself needs.
            .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH);
        dropped.extend(named);
    }
    for name in dropped {
        headers.remove(name);
    }
}

/// HTTP/2 clients may split cookies over fields; others know one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a header");
            let name = HeaderName::from_bytes(name.as_bytes()).expect("name");
            headers.append(name, HeaderValue::from_str(value.trim()).expect("value"));
        }
        headers
    }

    fn text(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ascii")))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_a_client_says_of_its_origin_is_replaced() {
        let mut given = headers(
            "host: a.localhost:80
             x-forwarded-for: 6.6.6.6
             x-forwarded-for: 7.7.7.7
             x-forwarded-prefix: /x
             forwarded: for=6.6.6.6
             x-request-id: forged
             x-real-ip: 6.6.6.6
             x-gilliam-app: b
             gilliam-error: H99
             proxy: http://evil
             expect: 100-continue
             accept: */*
             cookie: a=1
             cookie: b=2",
        );
        let host = super::super::request::parse("a.localhost:80").expect("host");
        let request_id = HeaderValue::from_static("id");
        let client = "::ffff:9.8.7.6".parse().expect("address");
        forward_request(
            &mut given,
            &Origin {
                ends: &Ends::new(client, 8080),
                host: &host.given,
                request_id: &request_id,
            },
        );
        assert_eq!(
            text(&given),
            [
                "accept: */*",
                "cookie: a=1; b=2",
                "host: a.localhost:80",
                "x-forwarded-for: 9.8.7.6",
                "x-forwarded-host: a.localhost:80",
                "x-forwarded-port: 8080",
                "x-forwarded-proto: http",
                "x-request-id: id",
            ]
        );
    }

    #[test]
    fn headers_of_one_connection_do_not_pass() {
        let mut given = headers(
            "connection: close, X-Secret, host, content-length
             x-secret: 1
             content-length: 3
             keep-alive: timeout=5
             te: trailers
             transfer-encoding: chunked
             upgrade: websocket
             proxy-connection: x
             gilliam-error: H10
             content-type: text/plain",
        );
        forward_response(&mut given, &HeaderValue::from_static("id")).expect("well-formed");
        assert_eq!(
            text(&given),
            [
                "content-length: 3",
                "content-type: text/plain",
                "x-request-id: id"
            ]
        );
    }

    #[test]
    fn an_ambiguous_length_is_malformed() {
        for bad in [
            "content-length: 1\ncontent-length: 1",
            "content-length: +1",
            "content-length: 1, 1",
        ] {
            assert!(
                forward_response(&mut headers(bad), &HeaderValue::from_static("id")).is_err(),
                "{bad}"
            );
        }
    }
}
