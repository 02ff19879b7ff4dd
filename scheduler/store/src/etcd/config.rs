//! Where etcd is and how to speak to it: parsed from `etcd://h1:2379,h2:2379[/CLUSTER][?OPTION=VALUE&…]`.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// How a store in etcd is named on a command line.
const SCHEME: &str = "etcd://";
/// etcd's own port for clients.
const PORT: u16 = 2379;
/// Most members that are named: etcd clusters have at most seven in practice.
const MEMBERS_MAX: usize = 16;
/// Longest name of a cluster in etcd: that of a DNS label.
const CLUSTER_BYTES_MAX: usize = 63;
/// The cluster that is meant when none is named.
const CLUSTER: &str = "default";
/// Time for one reading or one commit, over all members that are tried: longer than etcd's election of a
/// leader (one to three seconds by default), shorter than a client waits.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bounds of that time.
const DEADLINE_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Where etcd is, whose data it holds, and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `host:port` of each member.
    pub members: Vec<String>,
    /// The cluster whose data it is: keys begin with `/gilliam/CLUSTER/`.
    pub cluster: String,
    /// Whether members are spoken to by TLS.
    pub tls: bool,
    /// Certificates (PEM) that a member's must be signed by; the web's authorities without one.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The user in etcd, with a password.
    pub user: Option<(String, Password)>,
    /// Longest time for one reading or one commit.
    pub deadline: Duration,
    /// The data folder that remembers which cluster it belongs to, and is locked while the store is open.
    pub data: Option<PathBuf>,
}

/// A password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// A store's URL that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdUrlError {
    /// It names something else.
    #[error("{url:?} names no store: it does not begin with {SCHEME}")]
    Scheme {
        /// What was given.
        url: String,
    },
    /// It names no member, or too many, or one that is none.
    #[error("{member:?} is no member of etcd: HOST or HOST:PORT is expected, at most {MEMBERS_MAX} of them")]
    Member {
        /// What was given.
        member: String,
    },
    /// The cluster's name has letters that it must not have.
    #[error("{cluster:?} cannot name a cluster: a-z, 0-9 and - are allowed, at most {CLUSTER_BYTES_MAX}")]
    Cluster {
        /// What was given.
        cluster: String,
    },
    /// An option that there is not, or whose value makes no sense.
    #[error("the store has no option {option:?} with value {value:?}")]
    Option {
        /// The option.
        option: String,
        /// Its value.
        value: String,
    },
    /// A certificate without its key, or the reverse.
    #[error("a client's certificate and its key are given together")]
    HalfIdentity,
    /// A user without a password, or the reverse.
    #[error("a user of etcd and a password are given together")]
    HalfUser,
}

impl EtcdUrlError {
    /// The way out, for people.
    pub fn hint(&self) -> &'static str {
        match self {
            EtcdUrlError::Option { .. } => {
                "options are tls=true|false, ca=FILE, cert=FILE, key=FILE and timeout=SECONDS"
            }
            EtcdUrlError::HalfIdentity => "give both cert and key, or neither",
            EtcdUrlError::HalfUser => "give both --store-user and --store-password-file, or neither",
            _ => "for example etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379/production?ca=ca.pem",
        }
    }
}

impl Password {
    /// Takes the text as a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl EtcdConfig {
    /// The address of each member as a URL.
    pub(super) fn urls(&self) -> Vec<String> {
        let scheme = if self.tls { "https" } else { "http" };
        let url = |member: &String| format!("{scheme}://{member}");
        self.members.iter().map(url).collect()
    }
}

/// `etcd://h1:2379,h2:2379/production`: without options, for messages.
impl fmt::Display for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.members.join(","), self.cluster)
    }
}

impl FromStr for EtcdConfig {
    type Err = EtcdUrlError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let rest = url
            .strip_prefix(SCHEME)
            .ok_or_else(|| EtcdUrlError::Scheme { url: url.into() })?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (members, cluster) = place.split_once('/').unwrap_or((place, ""));
        let cluster = if cluster.is_empty() { CLUSTER } else { cluster };
        let mut config = Self {
            members: parse_members(members)?,
            cluster: parse_cluster(cluster)?,
            tls: false,
            ca: None,
            identity: None,
            user: None,
            deadline: DEADLINE,
            data: None,
        };
        config.take_options(options)?;
        Ok(config)
    }
}

impl EtcdConfig {
    fn take_options(&mut self, options: &str) -> Result<(), EtcdUrlError> {
        let (mut certificate, mut key, mut tls) = (None, None, None);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let refused = || EtcdUrlError::Option {
                option: name.into(),
                value: value.into(),
            };
            let file = || {
                (!value.is_empty())
                    .then(|| PathBuf::from(value))
                    .ok_or_else(refused)
            };
            match name {
                "tls" => tls = Some(value.parse::<bool>().map_err(|_| refused())?),
                "ca" => self.ca = Some(file()?),
                "cert" => certificate = Some(file()?),
                "key" => key = Some(file()?),
                "timeout" => self.deadline = parse_deadline(value).ok_or_else(refused)?,
                _ => return Err(refused()),
            }
        }
        self.set_identity(certificate, key)?;
        self.tls = tls.unwrap_or(self.tls || self.ca.is_some());
        if !self.tls && (self.ca.is_some() || self.identity.is_some()) {
            return Err(EtcdUrlError::Option {
                option: "tls".into(),
                value: "false".into(),
            });
        }
        Ok(())
    }

    /// Sets the client's certificate and key, which speak TLS; both or neither.
    pub fn set_identity(
        &mut self,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<(), EtcdUrlError> {
        match (certificate, key) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                self.identity = Some((certificate, key));
                self.tls = true;
            }
            _ => return Err(EtcdUrlError::HalfIdentity),
        }
        Ok(())
    }

    /// Sets the user; both a name and a password, or neither.
    pub fn set_user(&mut self, name: Option<String>, password: Option<Password>) -> Result<(), EtcdUrlError> {
        match (name, password) {
            (None, None) => Ok(()),
            (Some(name), Some(password)) => {
                self.user = Some((name, password));
                Ok(())
            }
            _ => Err(EtcdUrlError::HalfUser),
        }
    }
}

fn parse_members(text: &str) -> Result<Vec<String>, EtcdUrlError> {
    let members: Vec<String> = text.split(',').map(parse_member).collect::<Result<_, _>>()?;
    if members.len() > MEMBERS_MAX {
        return Err(EtcdUrlError::Member { member: text.into() });
    }
    Ok(members)
}

/// `host` or `host:port`; an IPv6 address is in brackets.
fn parse_member(text: &str) -> Result<String, EtcdUrlError> {
    let refused = || EtcdUrlError::Member { member: text.into() };
    let host_end = match text.strip_prefix('[') {
        Some(_) => text.find(']').ok_or_else(refused)? + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_end);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(allowed) {
        return Err(refused());
    }
    let port = match port.strip_prefix(':') {
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(refused)?,
        None if port.is_empty() => PORT,
        None => return Err(refused()),
    };
    Ok(format!("{host}:{port}"))
}

fn parse_cluster(text: &str) -> Result<String, EtcdUrlError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.len() > CLUSTER_BYTES_MAX || !text.chars().all(allowed) {
        return Err(EtcdUrlError::Cluster { cluster: text.into() });
    }
    Ok(text.into())
}

fn parse_deadline(text: &str) -> Option<Duration> {
    let deadline = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
    let (least, most) = DEADLINE_RANGE;
    (least..=most).contains(&deadline).then_some(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<EtcdConfig, EtcdUrlError> {
        url.parse()
    }

    #[test]
    fn members_have_a_port_and_a_cluster_has_a_name() {
        let config = parse("etcd://h1:2380,h2,[::1]:7,[fe80::1]").expect("a URL");
        assert_eq!(
            config.members,
            ["h1:2380", "h2:2379", "[::1]:7", "[fe80::1]:2379"]
        );
        assert_eq!((config.cluster.as_str(), config.tls), ("default", false));
        assert_eq!(config.urls()[0], "http://h1:2380");
        let config = parse("etcd://h1/eu-1?timeout=2.5").expect("a URL");
        assert_eq!(config.cluster, "eu-1");
        assert_eq!(config.deadline, Duration::from_millis(2500));
        assert_eq!(config.to_string(), "etcd://h1:2379/eu-1");
    }

    #[test]
    fn certificates_mean_tls() {
        let config = parse("etcd://h1?ca=/etc/ca.pem&cert=c.pem&key=k.pem").expect("a URL");
        assert!(config.tls);
        assert_eq!(config.ca, Some("/etc/ca.pem".into()));
        assert_eq!(config.identity, Some(("c.pem".into(), "k.pem".into())));
        assert_eq!(config.urls(), ["https://h1:2379"]);
        assert!(parse("etcd://h1?tls=true").expect("a URL").tls);
        assert_eq!(parse("etcd://h1?cert=c.pem"), Err(EtcdUrlError::HalfIdentity));
        assert!(parse("etcd://h1?ca=c.pem&tls=false").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (url, named) in [
            ("redis://h1", "redis://h1"),
            ("etcd://", "\"\""),
            ("etcd://h1,,h2", "\"\""),
            ("etcd://h1:0", "h1:0"),
            ("etcd://h1:99999", "h1:99999"),
            ("etcd://[::1", "[::1"),
            ("etcd://user:pass@h1", "user:pass@h1"),
            ("etcd://h1/a/b", "a/b"),
            ("etcd://h1/Ä", "Ä"),
            ("etcd://h1?color=red", "color"),
            ("etcd://h1?timeout=0", "timeout"),
            ("etcd://h1?timeout=nan", "timeout"),
            ("etcd://h1?ca=", "ca"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(error.to_string().contains(named), "{url}: {error}");
            assert!(!error.hint().is_empty());
        }
        assert!(parse(&format!("etcd://{}", vec!["h"; 17].join(","))).is_err());
        assert!(parse(&format!("etcd://h/{}", "x".repeat(64))).is_err());
    }

    #[test]
    fn a_password_is_never_printed() {
        let mut config = parse("etcd://h1").expect("a URL");
        config
            .set_user(Some("root".into()), Some(Password::new("secret")))
            .expect("both");
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(
            config.set_user(Some("root".into()), None),
            Err(EtcdUrlError::HalfUser)
        );
    }
}
