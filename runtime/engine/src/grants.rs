//! Outbound grants: which hosts an instance may call.
//!
//! In flows Spin's spelling (`https://api.example.com`, `https://*.example.com:8443`,
//! `http://127.0.0.1:9000`, `*://*:*`), out flow verdicts on requests and addresses. Pure.
//!
//! Invariant: an address that is not public is allowed only by a grant that names that very address (or
//! `localhost`, for loopback), never by a name or wildcard: whoever controls a name controls what it
//! resolves to.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use crate::address;

/// Longest grant, in bytes: a scheme, a host name and a port fit.
const GRANT_BYTES_MAX: usize = 300;

/// One host that an instance may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// None stands for any scheme.
    scheme: Option<String>,
    host: Host,
    ports: RangeInclusive<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// With its leading dot.
    Below(String),
    Name(String),
    Address(IpAddr),
}

/// Text that is not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not an outbound host: {reason}; expected the form https://api.example.com:443")]
pub struct GrantError {
    /// The text as given, cut to a printable length.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Grant {
    /// Whether a request to this scheme, host and port is granted, before its address is known.
    pub(crate) fn allows(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.scheme.as_deref().is_none_or(|granted| granted == scheme)
            && self.ports.contains(&port)
            && self.host.matches(host)
    }

    /// Whether this grant, which allows the request, lets it go to `address`.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        address::is_public(address)
            || match &self.host {
                Host::Address(granted) => *granted == address.to_canonical(),
                Host::Name(name) => name == "localhost" && address.to_canonical().is_loopback(),
                Host::Any | Host::Below(_) => false,
            }
    }

    /// Whether a plain connection to `address` is granted. A name says nothing here: no resolution is known.
    pub(crate) fn allows_socket(&self, address: IpAddr, port: u16) -> bool {
        self.ports.contains(&port)
            && match &self.host {
                Host::Any => address::is_public(address),
                Host::Address(granted) => *granted == address.to_canonical(),
                Host::Name(name) => name == "localhost" && address.to_canonical().is_loopback(),
                Host::Below(_) => false,
            }
    }

    /// Whether it grants every host, so that any name may be looked up.
    pub(crate) fn is_any_host(&self) -> bool {
        self.host == Host::Any
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let bare = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Host::Address(address.to_canonical()));
        }
        let name = if text == "*." {
            text.to_owned()
        } else {
            normal(text)
        };
        match name.strip_prefix('*') {
            Some("") => Ok(Host::Any),
            Some(below) if below.starts_with('.') && is_name(&below[1..]) => {
                Ok(Host::Below(below.to_owned()))
            }
            None if is_name(&name) => Ok(Host::Name(name)),
            _ => Err("the host is neither a name, an address, nor a wildcard such as *.example.com"),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Host::Any => true,
            Host::Below(suffix) => normal(host)
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| !rest.is_empty()),
            Host::Name(name) => normal(host) == *name,
            Host::Address(granted) => {
                let bare = host
                    .strip_prefix('[')
                    .and_then(|h| h.strip_suffix(']'))
                    .unwrap_or(host);
                bare.parse::<IpAddr>()
                    .is_ok_and(|address| address.to_canonical() == *granted)
            }
        }
    }
}

/// Lower case, without the trailing dot of a rooted name.
fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(value: &str) -> Result<Self, GrantError> {
        let parse = || -> Result<Grant, &'static str> {
            if value.len() > GRANT_BYTES_MAX {
                return Err("it is too long");
            }
            let (scheme, rest) = value.split_once("://").ok_or("the scheme is missing")?;
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            if rest.contains(['/', '?', '#', '@']) {
                return Err("it has more than a scheme, a host and a port");
            }
            // The last colon outside brackets divides host and port.
            let (host, port) = match rest.rfind(':') {
                Some(colon) if !rest[colon..].contains(']') => (&rest[..colon], Some(&rest[colon + 1..])),
                _ => (rest, None),
            };
            let scheme = match scheme {
                "*" => None,
                s if !s.is_empty()
                    && s.bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
                {
                    Some(s.to_ascii_lowercase())
                }
                _ => return Err("the scheme is malformed"),
            };
            let ports = ports(port, scheme.as_deref())?;
            Ok(Grant {
                scheme,
                host: Host::parse(host)?,
                ports,
            })
        };
        parse().map_err(|reason| GrantError {
            value: value.chars().take(80).collect(),
            reason,
        })
    }
}

fn ports(port: Option<&str>, scheme: Option<&str>) -> Result<RangeInclusive<u16>, &'static str> {
    const MALFORMED: &str = "the port is neither a number, a range such as 8000..8010, nor *";
    match (port, scheme) {
        (None, Some("http")) => Ok(80..=80),
        (None, Some("https")) => Ok(443..=443),
        (None, _) => Err("this scheme needs a port"),
        (Some("*"), _) => Ok(1..=u16::MAX),
        (Some(text), _) => {
            let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(MALFORMED);
            match text.split_once("..") {
                None => number(text).map(|port| port..=port),
                // Spin's ranges exclude their end.
                Some((first, end)) => {
                    let (first, end) = (number(first)?, number(end)?);
                    if first < end {
                        Ok(first..=end - 1)
                    } else {
                        Err(MALFORMED)
                    }
                }
            }
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_deref().unwrap_or("*"))?;
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Below(suffix) => write!(f, "*{suffix}")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Address(address) => write!(f, "{address}")?,
        }
        match (*self.ports.start(), *self.ports.end()) {
            (1, u16::MAX) => f.write_str(":*"),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}..{}", u32::from(last) + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Grant {
        text.parse().expect(text)
    }

    #[test]
    fn spellings_parse_and_print() {
        for (text, printed) in [
            ("https://api.example.com", "https://api.example.com:443"),
            ("http://API.Example.com./", "http://api.example.com:80"),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
            ("*://*:*", "*://*:*"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("postgres://10.0.0.5:5432", "postgres://10.0.0.5:5432"),
            ("http://localhost:8000..8010", "http://localhost:8000..8010"),
        ] {
            assert_eq!(grant(text).to_string(), printed);
        }
        for bad in [
            "",
            "example.com",
            "https://",
            "https://a b",
            "https://a/b",
            "https://u@a",
            "postgres://db",
            "http://a:0",
            "http://a:99999",
            "http://a:9..3",
            "http://*a.com",
            "http://a*.com",
            "http://*.",
            "ht tp://a",
        ] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_match_scheme_host_and_port() {
        let below = grant("https://*.example.com");
        assert!(below.allows("https", "API.example.com.", 443));
        assert!(!below.allows("https", "example.com", 443));
        assert!(!below.allows("https", "evilexample.com", 443));
        assert!(!below.allows("http", "api.example.com", 443));
        assert!(!below.allows("https", "api.example.com", 8443));
        assert!(grant("*://*:*").allows("http", "anything", 1));
        assert!(grant("http://[::1]:80").allows("http", "[::1]", 80));
        assert!(!grant("http://127.0.0.1:80").allows("http", "2130706433", 80));
    }

    #[test]
    fn private_addresses_need_their_own_grant() {
        let (loopback, metadata) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([169, 254, 169, 254]));
        for any in [
            "*://*:*",
            "https://*.example.com",
            "https://api.example.com",
            "http://10.0.0.1",
        ] {
            assert!(!grant(any).reaches(loopback), "{any}");
            assert!(!grant(any).reaches(metadata), "{any}");
        }
        assert!(grant("http://127.0.0.1:9000").reaches("::ffff:127.0.0.1".parse().expect("address")));
        assert!(grant("http://localhost:9000").reaches(loopback));
        assert!(!grant("http://localhost:9000").reaches(metadata));
        assert!(grant("https://api.example.com").reaches(IpAddr::from([1, 1, 1, 1])));
    }
}
