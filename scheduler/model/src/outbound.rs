//! Outbound hosts: the grammar of `allowed_outbound_hosts`, in Spin's spelling.
//!
//! In flows text (`https://api.example.com`, `https://*.example.com:8443`, `http://127.0.0.1:9000`, `*://*:*`),
//! out flow hosts that print as text which parses back to them, and verdicts on names and addresses.
//!
//! Must never: resolve a name, or judge which addresses are public; the engine vets what a name leads to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::text::{excerpt, wire_text};

/// Bytes of one entry: a scheme, a wildcard, a host name and a port range fit.
const HOST_BYTES_MAX: usize = 300;
/// Bytes of a scheme; `postgresql` and `mongodb+srv` are long ones.
const SCHEME_BYTES_MAX: usize = 20;
/// Bytes of a host name, and of one label in it (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// One host that an instance may call, on one or more ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutboundHost {
    /// In lower case; None stands for any scheme.
    scheme: Option<Box<str>>,
    host: Host,
    ports: RangeInclusive<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Any,
    /// In lower case, with its leading dot.
    Below(Box<str>),
    /// In lower case, without the trailing dot of a rooted name.
    Name(Box<str>),
    /// Never an IPv4 address in IPv6's mapped form.
    Address(IpAddr),
}

/// Text that is not an outbound host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("outbound host {value:?} {reason}")]
pub struct OutboundHostError {
    /// The text as given, cut to a printable length.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl OutboundHostError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        "write SCHEME://HOST:PORT, such as https://api.example.com or https://*.example.com:8443"
    }
}

impl OutboundHost {
    /// Whether it covers a request to this scheme, host and port. What the host's name resolves to is not known
    /// here.
    pub fn covers(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.scheme.as_deref().is_none_or(|own| own == scheme)
            && self.covers_port(port)
            && self.host.matches(host)
    }

    /// Whether the port is one of its ports.
    pub fn covers_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// Whether it names this very address: in digits, or as `localhost`.
    pub fn names_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match &self.host {
            Host::Address(own) => *own == address,
            Host::Name(name) => &**name == "localhost" && address.is_loopback(),
            Host::Any | Host::Below(_) => false,
        }
    }

    /// Whether it covers every host.
    pub fn is_any_host(&self) -> bool {
        self.host == Host::Any
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const MALFORMED: &str =
            "has a host that is neither a name, an address, nor a wildcard such as *.example.com";
        if let Some(address) = bracketed(text) {
            let address: Ipv6Addr = address.parse().map_err(|_| MALFORMED)?;
            return Ok(Host::Address(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Host::Address(address.into()));
        }
        if text == "*" {
            return Ok(Host::Any);
        }
        let name = unrooted(text).to_ascii_lowercase();
        match name.strip_prefix('*') {
            Some(below) if below.strip_prefix('.').is_some_and(is_name) => Ok(Host::Below(below.into())),
            None if is_name(&name) => Ok(Host::Name(name.into())),
            _ => Err(MALFORMED),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Host::Any => true,
            Host::Below(suffix) => {
                let host = unrooted(host).as_bytes();
                host.len()
                    .checked_sub(suffix.len())
                    .is_some_and(|at| at > 0 && host[at..].eq_ignore_ascii_case(suffix.as_bytes()))
            }
            Host::Name(name) => unrooted(host).eq_ignore_ascii_case(name),
            Host::Address(own) => bracketed(host)
                .unwrap_or(host)
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical() == *own),
        }
    }
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// Without the trailing dot of a rooted name.
fn unrooted(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

fn parse(value: &str) -> Result<OutboundHost, &'static str> {
    if value.len() > HOST_BYTES_MAX {
        return Err("is longer than 300 bytes");
    }
    if value.contains('$') || value.contains("{{") {
        return Err("refers to a variable; write the host itself");
    }
    if value == "insecure:allow-all" {
        return Err("is an old spelling; write *://*:*");
    }
    let (scheme, rest) = value.split_once("://").ok_or("has no scheme, such as https://")?;
    let scheme = parse_scheme(scheme)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Some((before, _)) = rest.split_once('/')
        && before.parse::<IpAddr>().is_ok()
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
    let host = Host::parse(host)?;
    let ports = parse_ports(port, scheme.as_deref())?;
    Ok(OutboundHost { scheme, host, ports })
}

fn parse_scheme(text: &str) -> Result<Option<Box<str>>, &'static str> {
    let is_scheme = (1..=SCHEME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    match text {
        "*" => Ok(None),
        _ if is_scheme => Ok(Some(text.to_ascii_lowercase().into())),
        _ => Err("has a malformed scheme"),
    }
}

fn parse_ports(text: Option<&str>, scheme: Option<&str>) -> Result<RangeInclusive<u16>, &'static str> {
    const MALFORMED: &str = "has a port that is neither a number, a range such as 8000..8010, nor *";
    let Some(text) = text else {
        return match scheme {
            Some("http") => Ok(80..=80),
            Some("https") => Ok(443..=443),
            _ => Err("needs a port, such as :5432 or :*"),
        };
    };
    if text == "*" {
        return Ok(1..=u16::MAX);
    }
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

impl FromStr for OutboundHost {
    type Err = OutboundHostError;
    fn from_str(value: &str) -> Result<Self, OutboundHostError> {
        parse(value).map_err(|reason| OutboundHostError {
            value: excerpt(value),
            reason,
        })
    }
}

wire_text!(OutboundHost);

impl fmt::Display for OutboundHost {
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
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> OutboundHost {
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
            ("http://[::ffff:127.0.0.1]", "http://127.0.0.1:80"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("postgres://db.internal:5432", "postgres://db.internal:5432"),
            ("http://localhost:8000..8010", "http://localhost:8000..8010"),
            ("http://localhost:8000..8001", "http://localhost:8000"),
        ] {
            assert_eq!(host(text).to_string(), printed);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!("https://{}", "a".repeat(300));
        for (bad, reason) in [
            ("", "has no scheme"),
            ("api.example.com", "has no scheme"),
            (&long, "is longer than"),
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
            ("http://a*.com", "has a host that is neither"),
            ("http://a.*.com", "has a host that is neither"),
            ("http://*.", "has a host that is neither"),
            // Without brackets nobody knows where the address ends and the port begins.
            ("http://2001:db8::1:80", "has a host that is neither"),
            ("http://[127.0.0.1]", "has a host that is neither"),
            ("://a:1", "has a malformed scheme"),
            ("ht tp://a", "has a malformed scheme"),
            ("a-scheme-of-many-letters://a:1", "has a malformed scheme"),
            ("postgres://db", "needs a port"),
            ("*://db", "needs a port"),
            ("http://a:0", "has a port"),
            ("http://a:99999", "has a port"),
            ("http://a:9..3", "has a port"),
        ] {
            let error = bad.parse::<OutboundHost>().expect_err(bad);
            assert!(error.reason.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn requests_match_scheme_host_and_port() {
        let below = host("https://*.example.com");
        assert!(below.covers("https", "API.example.com.", 443));
        assert!(!below.covers("https", "example.com", 443));
        assert!(!below.covers("https", ".example.com", 443));
        assert!(!below.covers("https", "evilexample.com", 443));
        assert!(!below.covers("http", "api.example.com", 443));
        assert!(!below.covers("https", "api.example.com", 8443));
        assert!(!below.covers("https", "ö", 443));
        assert!(host("https://Example.com").covers("https", "eXample.com.", 443));
        assert!(host("*://*:*").covers("http", "anything", 1));
        assert!(host("http://[::1]:80").covers("http", "[::1]", 80));
        assert!(!host("http://127.0.0.1:80").covers("http", "2130706433", 80));
    }

    #[test]
    fn only_digits_and_localhost_name_an_address() {
        let (loopback, public) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([1, 1, 1, 1]));
        assert!(host("http://127.0.0.1").names_address(loopback));
        assert!(host("http://127.0.0.1").names_address("::ffff:127.0.0.1".parse().expect("address")));
        assert!(host("http://localhost").names_address(loopback));
        assert!(!host("http://localhost").names_address(public));
        for name in ["*://*:*", "https://*.1.1.1", "https://one.example.com"] {
            assert!(!host(name).names_address(public), "{name}");
        }
    }

    /// Text in the grammar, near it, and far from it.
    fn texts() -> impl Strategy<Value = String> {
        let scheme = prop_oneof![
            Just("http"),
            Just("HTTPS"),
            Just("*"),
            Just("mongodb+srv"),
            Just("")
        ];
        let name = "([a-zA-Z0-9_-]{1,8}\\.){0,3}[a-zA-Z0-9_-]{1,63}\\.?";
        let host = prop_oneof![
            name,
            name.prop_map(|name| format!("*.{name}")),
            any::<Ipv4Addr>().prop_map(|address| address.to_string()),
            any::<Ipv6Addr>().prop_map(|address| format!("[{address}]")),
            any::<Ipv4Addr>().prop_map(|address| format!("[{}]", address.to_ipv6_mapped())),
            Just("*".to_string()),
        ];
        let port = prop_oneof![
            Just(String::new()),
            Just(":*".to_string()),
            any::<u16>().prop_map(|port| format!(":{port}")),
            any::<(u16, u16)>().prop_map(|(a, b)| format!(":{}..{}", a.min(b), a.max(b))),
        ];
        prop_oneof![
            8 => (scheme, host, port, prop_oneof![Just(""), Just("/")])
                .prop_map(|(scheme, host, port, end)| format!("{scheme}://{host}{port}{end}")),
            1 => "[a-z0-9*.:/@$\\[\\]{}-]{0,40}",
            1 => any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_itself(text in texts()) {
            if let Ok(host) = text.parse::<OutboundHost>() {
                let printed = host.to_string();
                prop_assert_eq!(printed.parse::<OutboundHost>(), Ok(host.clone()), "{}", printed);
                let json = serde_json::to_string(&host).expect("JSON");
                prop_assert_eq!(serde_json::from_str::<OutboundHost>(&json).expect("a host"), host);
            }
        }
    }

    #[test]
    fn an_invalid_host_does_not_deserialize() {
        let error = serde_json::from_str::<OutboundHost>("\"api.example.com\"").expect_err("no scheme");
        assert!(error.to_string().contains("has no scheme"), "{error}");
    }
}
