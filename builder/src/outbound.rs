//! Outbound hosts: the grammar of `allowed_outbound_hosts`, in Spin's spelling.
//!
//! Pure. It only checks: the engine decides what a host matches, and takes exactly what is accepted here.

use std::net::IpAddr;

/// Bytes of one entry: a scheme, a host name of 253 and a port range fit.
const HOST_BYTES_MAX: usize = 300;

/// Checks one entry; the error says what is wrong with it.
pub(crate) fn check(entry: &str) -> Result<(), &'static str> {
    if entry.len() > HOST_BYTES_MAX {
        return Err("is longer than 300 bytes");
    }
    if entry.contains('$') || entry.contains("{{") {
        return Err("refers to a variable; write the host itself");
    }
    if entry == "insecure:allow-all" {
        return Err("is an old spelling; write *://*:*");
    }
    let (scheme, rest) = entry.split_once("://").ok_or("has no scheme, such as https://")?;
    let scheme_is_name = |s: &str| {
        !s.is_empty()
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    if scheme != "*" && !scheme_is_name(scheme) {
        return Err("has a malformed scheme");
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('/')
        && rest
            .split('/')
            .next()
            .is_some_and(|host| host.parse::<IpAddr>().is_ok())
    {
        return Err("is a range of addresses; name each address");
    }
    if rest.contains(['/', '?', '#', '@']) {
        return Err("has more than a scheme, a host and a port");
    }
    // The last colon outside brackets divides host and port.
    let (host, port) = match rest.rfind(':') {
        Some(colon) if !rest[colon..].contains(']') => (&rest[..colon], Some(&rest[colon + 1..])),
        _ => (rest, None),
    };
    if host == "self" {
        return Err("is not offered; name the host");
    }
    if !is_host(host) {
        return Err("has a host that is neither a name, an address, nor a wildcard such as *.example.com");
    }
    match port {
        None if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => Ok(()),
        None => Err("needs a port, such as :5432 or :*"),
        Some(port) if is_port(port) => Ok(()),
        Some(_) => Err("has a port that is neither a number, a range such as 8000..8010, nor *"),
    }
}

fn is_host(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host == "*" || bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let name = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once("..") {
        _ if text == "*" => true,
        None => number(text).is_some(),
        // Spin's ranges exclude their end.
        Some((first, end)) => matches!((number(first), number(end)), (Some(first), Some(end)) if first < end),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn hosts_in_spins_spelling_are_taken() {
        for good in [
            "https://api.example.com",
            "http://API.Example.com./",
            "https://*.example.com:8443",
            "*://*:*",
            "http://[::1]:80",
            "http://127.0.0.1:9000",
            "postgres://db.internal:5432",
            "http://localhost:8000..8010",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (bad, reason) in [
            ("", "has no scheme"),
            ("api.example.com", "has no scheme"),
            ("$api", "refers to a variable"),
            ("https://{{ host }}", "refers to a variable"),
            ("https://$HOST", "refers to a variable"),
            ("insecure:allow-all", "is an old spelling"),
            ("http://self", "is not offered"),
            ("https://10.0.0.0/8", "is a range of addresses"),
            ("https://api.example.com/v1", "has more than"),
            ("https://user@api.example.com", "has more than"),
            ("https://", "has a host that is neither"),
            ("https://a b", "has a host that is neither"),
            ("http://*a.com", "has a host that is neither"),
            ("http://a.*.com", "has a host that is neither"),
            ("://a:1", "has a malformed scheme"),
            ("ht tp://a", "has a malformed scheme"),
            ("postgres://db", "needs a port"),
            ("*://db", "needs a port"),
            ("http://a:0", "has a port"),
            ("http://a:99999", "has a port"),
            ("http://a:9..3", "has a port"),
        ] {
            let error = check(bad).expect_err(bad);
            assert!(error.starts_with(reason), "{bad}: {error}");
        }
    }
}
