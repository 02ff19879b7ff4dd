//! Where PostgreSQL is and how to speak to it: parsed from
//! `postgres://USER:PASSWORD@HOST[:PORT]/DATABASE[?sslmode=MODE&sslrootcert=FILE&…]`.
//!
//! Invariant: no message and no debug print shows the user's password.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use tokio_postgres::config::{Host, SslMode};

/// How PostgreSQL's URLs begin.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// PostgreSQL's own port.
const PORT: u16 = 5432;
/// Time for one connection to be made, unless the URL says it: a server in the same data centre takes
/// milliseconds.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Silence after which a connection is probed, and how long a word may go unheard: a server whose machine
/// died is noticed before leases (60 s) end.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How the certificate of the server is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verify {
    /// Not at all (`prefer`, `require`): that nobody listens, not who answers.
    No,
    /// It must be the host's, signed by one of the web's authorities (`verify-full`).
    Web,
    /// It must be the host's, signed by one of these (PEM).
    File(PathBuf),
}

/// Where PostgreSQL is, and how to speak to it.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(super) server: tokio_postgres::Config,
    pub(super) verify: Verify,
    /// The cluster whose queues these are, where it matters.
    pub(super) cluster: Option<String>,
}

/// A URL of PostgreSQL that makes no sense; without what was given, which holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostgresUrlError {
    /// It names something else.
    #[error("the URL of the queues does not begin with postgres://")]
    Scheme,
    /// `sslmode` says what there is not.
    #[error("the URL of the queues has sslmode={0:?}")]
    Mode(String),
    /// It is no URL, or an option makes no sense.
    #[error("the URL of the queues cannot be read: {0}")]
    Url(String),
    /// It lacks a part.
    #[error("the URL of the queues names no {0}")]
    Lacks(&'static str),
}

impl PostgresUrlError {
    /// The way out, for people.
    pub fn hint(&self) -> &'static str {
        match self {
            PostgresUrlError::Mode(_) => "it is one of disable, prefer, require and verify-full",
            _ => {
                "for example postgres://gilliam:PASSWORD@db.internal/gilliam?sslmode=verify-full; letters such as \
                 @ in a password are written as %40"
            }
        }
    }
}

impl FromStr for PostgresConfig {
    type Err = PostgresUrlError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(PostgresUrlError::Scheme);
        }
        let (place, options) = url.split_once('?').unwrap_or((url, ""));
        let (mut verify, mut mode, mut others) = (Verify::No, None, Vec::new());
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("sslmode", value) => mode = Some(value),
                ("sslrootcert", "") => return Err(PostgresUrlError::Lacks("file in sslrootcert")),
                ("sslrootcert", file) => verify = Verify::File(file.into()),
                _ => others.push(option),
            }
        }
        let url = format!("{place}?{}", others.join("&"));
        let mut server = tokio_postgres::Config::from_str(&url).map_err(|error| {
            let reason =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            PostgresUrlError::Url(reason)
        })?;
        let mut mode = match (mode, &verify) {
            (Some("disable"), _) => SslMode::Disable,
            (Some("prefer") | None, Verify::No) => SslMode::Prefer,
            (Some("require") | None, _) => SslMode::Require,
            (Some("verify-full"), Verify::File(_)) => SslMode::Require,
            (Some("verify-full"), _) => {
                verify = Verify::Web;
                SslMode::Require
            }
            (Some(other), _) => return Err(PostgresUrlError::Mode(other.to_string())),
        };
        if server
            .get_hosts()
            .iter()
            .all(|host| matches!(host, Host::Unix(_)))
        {
            // Nobody listens between us.
            mode = SslMode::Disable;
        }
        if server.get_hosts().is_empty() {
            return Err(PostgresUrlError::Lacks("host"));
        }
        if server.get_dbname().is_none() {
            return Err(PostgresUrlError::Lacks("database"));
        }
        server.ssl_mode(mode);
        server.application_name("gilliam queues");
        server.keepalives_idle(KEEPALIVE);
        server.tcp_user_timeout(KEEPALIVE);
        if server.get_connect_timeout().is_none() {
            server.connect_timeout(CONNECT_MAX);
        }
        Ok(Self {
            server,
            verify,
            cluster: None,
        })
    }
}

impl PostgresConfig {
    /// The same for the queues of one cluster: those of another are not touched.
    #[must_use]
    pub fn of_cluster(self, id: String) -> Self {
        Self {
            cluster: Some(id),
            ..self
        }
    }
}

/// `postgres://db.internal:5432/gilliam`: without user, password and options, for messages.
impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        for (index, host) in self.server.get_hosts().iter().enumerate() {
            let ports = self.server.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(PORT);
            let comma = if index == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
        }
        write!(f, "/{}", self.server.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresConfig({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<PostgresConfig, PostgresUrlError> {
        url.parse()
    }

    #[test]
    fn what_is_printed_shows_neither_user_nor_password() {
        let config =
            parse("postgres://ada:s3cret@db.internal,[::1]:6432/jobs?sslmode=disable").expect("a URL");
        let printed = format!("{config} {config:?}");
        assert!(
            !printed.contains("s3cret") && !printed.contains("ada"),
            "{printed}"
        );
        assert!(printed.starts_with("postgres://db.internal:5432,"), "{printed}");
        for url in [
            "mysql://ada:s3cret@h/jobs",
            "postgres://ada:s3cret@h:port/jobs",
            "postgres://ada:s3cret@h/jobs?nonsense=1",
            "postgres://ada:s3cret@h",
        ] {
            let error = parse(url).expect_err(url);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn the_mode_says_whether_and_whom_to_trust() {
        let of = |options: &str| {
            let config = parse(&format!("postgres://u:p@h/db{options}")).expect(options);
            (config.server.get_ssl_mode(), config.verify)
        };
        assert_eq!(of(""), (SslMode::Prefer, Verify::No));
        assert_eq!(of("?sslmode=disable"), (SslMode::Disable, Verify::No));
        assert_eq!(of("?sslmode=require"), (SslMode::Require, Verify::No));
        assert_eq!(of("?sslmode=verify-full"), (SslMode::Require, Verify::Web));
        let file = || Verify::File("ca.pem".into());
        assert_eq!(of("?sslrootcert=ca.pem"), (SslMode::Require, file()));
        assert_eq!(
            of("?sslmode=verify-full&sslrootcert=ca.pem"),
            (SslMode::Require, file())
        );
        for mode in ["allow", "verify-ca", ""] {
            let error = parse(&format!("postgres://u:p@h/db?sslmode={mode}")).expect_err(mode);
            assert_eq!(error, PostgresUrlError::Mode(mode.to_string()));
        }
        let error =
            parse("postgres://u:p@h/db?sslmode=prefer&sslrootcert=ca.pem").expect_err("it would not be used");
        assert_eq!(error, PostgresUrlError::Mode("prefer".to_string()));
    }
}
