//! What a request must be to be let in: strict, for whatever is ambiguous here may be read differently
//! behind. Pure.
//!
//! The HTTP parser has already refused what breaks the message's frame. Here the rest: who is meant, and by
//! what method.

use gilliam_serve::AmbiguousLength;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts};

/// Longest host name (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// The host a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Lower case, without port and trailing dot: the key of the route table.
    pub(crate) name: String,
    /// As the client gave it, port included.
    pub(crate) given: String,
}

/// A request that is refused (H26).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
}

fn bad(reason: &'static str) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        reason,
    }
}

/// The host a request is for, or why the request is refused.
pub(crate) fn check(parts: &Parts) -> Result<Host, Refusal> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal {
            status,
            reason: "CONNECT and TRACE are not served",
        });
    }
    if !parts.uri.path().starts_with('/') {
        return Err(bad("the request target is not a path"));
    }
    if parts
        .headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .nth(1)
        .is_some()
    {
        return Err(bad("more than one Content-Length header"));
    }
    // The parser has dropped the length by now; the server still knows of it.
    if parts.extensions.get::<AmbiguousLength>().is_some() {
        return Err(bad("both Content-Length and Transfer-Encoding"));
    }
    host(parts.version, &parts.uri, &parts.headers)
}

fn host(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Host, Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    let in_header = values.next();
    if values.next().is_some() {
        return Err(bad("more than one Host header"));
    }
    let in_header = in_header.map(parse_value).transpose()?;
    // HTTP/2's :authority, or an absolute-form target of HTTP/1.
    let in_target = uri
        .authority()
        .map(|authority| parse(authority.as_str()))
        .transpose()?;
    match (in_target, in_header) {
        (Some(target), Some(header)) if !target.given.eq_ignore_ascii_case(&header.given) => {
            Err(bad("the target names another host than the Host header"))
        }
        // RFC 9112 section 3.2: a request of HTTP/1.1 without Host is refused, absolute-form or not.
        (Some(_), None) if version < Version::HTTP_2 => Err(bad("no Host header")),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(bad("no Host header")),
    }
}

fn parse_value(value: &HeaderValue) -> Result<Host, Refusal> {
    parse(value.to_str().map_err(|_| bad("the host is not a host name"))?)
}

/// Parses `name[:port]`, `1.2.3.4[:port]` or `[v6][:port]`: no user, no list, no path.
pub(crate) fn parse(given: &str) -> Result<Host, Refusal> {
    const INVALID: &str = "the host is not a host name";
    let (name, port) = match given.rfind(':').filter(|at| !given[*at..].contains(']')) {
        Some(at) => (&given[..at], Some(&given[at + 1..])),
        None => (given, None),
    };
    let port_is_valid = port.is_none_or(|port| port.parse::<u16>().is_ok() && !port.starts_with('+'));
    let bare = name.strip_suffix('.').unwrap_or(name);
    if !port_is_valid || bare.len() > HOST_BYTES_MAX || !(is_name(bare) || is_ipv6(bare)) {
        return Err(bad(INVALID));
    }
    Ok(Host {
        name: bare.to_ascii_lowercase(),
        given: given.to_owned(),
    })
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.split('.').all(is_label)
}

fn is_ipv6(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn hosts_are_lower_cased_and_lose_port_and_trailing_dot() {
        for (given, name) in [
            ("Guestbook.LOCALHOST:8080", "guestbook.localhost"),
            ("guestbook.localhost.", "guestbook.localhost"),
            ("guestbook.localhost.:80", "guestbook.localhost"),
            ("127.0.0.1:8080", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a_b.x", "a_b.x"),
        ] {
            assert_eq!(parse(given).map(|host| host.name), Ok(name.to_owned()), "{given}");
        }
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        let long = format!("{}.x", "a".repeat(300));
        for bad in [
            "", ".", ":80", "a..b", "a b", "a/b", "a,b", "u@a", "u:p@a", "a:", "a:x", "a:+1", "a:99999",
            "a:-1", "a:1:2", "[::1", "::1", "[x]", "a%41", "a\\b", "ä", &long,
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[track_caller]
    fn check_request(build: http::request::Builder, expected: Result<&str, u16>) {
        let (parts, ()) = build.body(()).expect("request").into_parts();
        let result = check(&parts);
        let result = result
            .as_ref()
            .map(|h| h.name.as_str())
            .map_err(|r| r.status.as_u16());
        assert_eq!(result, expected);
    }

    #[test]
    fn a_request_names_one_host_in_one_way() {
        let get = |uri: &str| Request::get(uri);
        check_request(get("/").header("host", "a.localhost"), Ok("a.localhost"));
        check_request(get("/"), Err(400));
        check_request(get("/").header("host", "a").header("host", "a"), Err(400));
        check_request(get("http://a/").header("host", "a"), Ok("a"));
        check_request(get("http://a/").header("host", "b"), Err(400));
        check_request(get("http://a/"), Err(400));
        check_request(get("http://a/").version(Version::HTTP_2), Ok("a"));
        check_request(
            get("http://a/").version(Version::HTTP_2).header("host", "b"),
            Err(400),
        );
        check_request(get("http://u@a/").header("host", "u@a"), Err(400));
    }

    #[test]
    fn methods_and_targets_that_are_not_served_are_refused() {
        let with = |method: &str, uri: &str| Request::builder().method(method).uri(uri).header("host", "a");
        check_request(with("CONNECT", "a:80"), Err(405));
        check_request(with("TRACE", "/"), Err(405));
        check_request(with("OPTIONS", "*"), Err(400));
        check_request(with("BREW", "/"), Ok("a"));
        check_request(
            with("POST", "/")
                .header("content-length", "1")
                .header("content-length", "1"),
            Err(400),
        );
        check_request(with("POST", "/").extension(AmbiguousLength), Err(400));
    }
}
