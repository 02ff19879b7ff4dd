//! Submodules of what was pushed, fetched by HTTPS: a server asked by strangers to speak to strangers.
//!
//! A host's name is resolved once, each of its addresses is judged, and git is told to use these alone, so that what
//! was judged is what is spoken to; redirects are not followed. One commit is fetched, without its history, into a
//! repository that goes with the push.
//!
//! Invariant: nobody is spoken to whom the operator's list does not name.

use std::{
    fmt, fs, io,
    net::{IpAddr, ToSocketAddrs as _},
    process::Command,
    str::FromStr,
};

use gilliam_engine::is_public;
use reqwest::Url;

use super::{Received, git, run, settled};

/// The port of HTTPS (RFC 9110, 4.2.2).
const HTTPS: u16 = 443;
/// Hosts on the operator's list.
const HOSTS_MAX: usize = 64;
/// Longest URL that is looked at.
const URL_BYTES_MAX: usize = 2 << 10;
/// Bytes of all submodules of a push: as many as a push itself may have.
const BYTES_MAX: u64 = 512 << 20;
/// Addresses of a host that git may try.
const ADDRESSES_MAX: usize = 8;

/// Who is asked for submodules: `public`, `any`, `none`, or hosts; several are joined by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submodules {
    /// Who is on the public internet, at HTTPS's own port.
    public: bool,
    /// Everybody.
    any: bool,
    hosts: Vec<(String, u16)>,
}

impl Submodules {
    pub(crate) const NONE: Submodules = Submodules {
        public: false,
        any: false,
        hosts: Vec::new(),
    };

    fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// The addresses of a host that may be spoken to.
    fn allowed(&self, host: &str, port: u16, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let is_named = self.any || self.hosts.iter().any(|(name, own)| name == host && *own == port);
        let may = |address: &&IpAddr| is_named || (self.public && port == HTTPS && is_public(**address));
        addresses
            .iter()
            .filter(may)
            .take(ADDRESSES_MAX)
            .copied()
            .collect()
    }
}

impl Default for Submodules {
    fn default() -> Self {
        Self {
            public: true,
            ..Self::NONE
        }
    }
}

impl FromStr for Submodules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::NONE;
        if text == "none" {
            return Ok(all);
        }
        for word in text.split(',') {
            match word {
                "public" => all.public = true,
                "any" => all.any = true,
                "none" => return Err("none stands alone".to_string()),
                host => {
                    let url = Url::parse(&format!("https://{host}/"));
                    let named = url
                        .ok()
                        .filter(|url| url.path() == "/" && url.username().is_empty());
                    let named = named
                        .and_then(|url| Some((url.host_str()?.to_string(), url.port().unwrap_or(HTTPS))));
                    all.hosts
                        .push(named.ok_or_else(|| format!("{host:?} is not HOST or HOST:PORT"))?);
                }
            }
        }
        match all.hosts.len() {
            0..=HOSTS_MAX => Ok(all),
            _ => Err(format!("at most {HOSTS_MAX} hosts are listed")),
        }
    }
}

impl fmt::Display for Submodules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |is: bool, word: &str| is.then(|| word.to_string());
        let hosts = self.hosts.iter().map(|(name, port)| format!("{name}:{port}"));
        let words: Vec<String> = [word(self.public, "public"), word(self.any, "any")]
            .into_iter()
            .flatten()
            .chain(hosts)
            .collect();
        match words.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&words.join(",")),
        }
    }
}

/// A submodule that is not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmoduleError {
    #[error(".gitmodules has no URL for it")]
    NoUrl,
    #[error("{0} is not an https URL")]
    Scheme(String),
    #[error("{0} is relative to a repository that this server does not know")]
    Relative(String),
    #[error("{host} cannot be resolved: {source}")]
    Unresolved { host: String, source: io::Error },
    #[error("{host} may not be asked by this server")]
    Forbidden { host: String },
    #[error("the submodules have more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("{0}")]
    Git(String),
    #[error("no place for it: {0}")]
    Place(#[from] io::Error),
}

impl SubmoduleError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            SubmoduleError::NoUrl => "name it there, commit, and push again".to_string(),
            SubmoduleError::Scheme(_) | SubmoduleError::Relative(_) => {
                "write its whole address into .gitmodules, such as https://git.example.com/team/lib.git".to_string()
            }
            SubmoduleError::Forbidden { .. } => {
                "the operator's --submodules says who may; gilliam deploy sends submodules that are fetched here"
                    .to_string()
            }
            _ => "gilliam deploy sends submodules that are fetched here, and .gilliamignore leaves out what the \
                  app does not need"
                .to_string(),
        }
    }
}

impl Received {
    /// Fetches a commit, unless nobody may be asked; where it came from, without credentials' effect on others.
    pub(crate) fn fetch_submodule(
        &self,
        url: Option<&str>,
        parent: Option<&str>,
        id: &str,
    ) -> Result<Option<String>, SubmoduleError> {
        if self.submodules.is_none() {
            return Ok(None);
        }
        let url = whole(url.ok_or(SubmoduleError::NoUrl)?, parent)?;
        let host = url.host_str().unwrap_or_default().to_string();
        let port = url.port().unwrap_or(HTTPS);
        let addresses = resolved(&host, port)?;
        let allowed = self.submodules.allowed(&host, port, &addresses);
        if allowed.is_empty() {
            return Err(SubmoduleError::Forbidden {
                host: format!("{host}:{port}"),
            });
        }
        if !self.modules.is_dir() {
            let mut init = settled(Command::new("git"));
            self.ran(
                init.args(["init", "--quiet", "--bare", "--template="])
                    .arg(&self.modules),
                &host,
            )?;
        }
        let mut fetch = git(&self.modules);
        fetch.env("GIT_ALLOW_PROTOCOL", "https");
        for setting in [
            "protocol.https.allow=always",
            "http.followRedirects=false",
            "http.lowSpeedLimit=1000",
            "http.lowSpeedTime=30",
            "fetch.fsckObjects=true",
            "credential.helper=",
        ] {
            fetch.args(["-c", setting]);
        }
        if let Some(pinned) = pinned(&host, port, &allowed) {
            fetch.args(["-c", &pinned]);
        }
        if let Some(authorities) = std::env::var_os("SSL_CERT_FILE") {
            fetch.env("GIT_SSL_CAINFO", authorities);
        }
        fetch.args([
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-write-fetch-head",
        ]);
        fetch.args(["--no-recurse-submodules", "--no-auto-maintenance"]);
        self.ran(fetch.args([url.as_str(), id]), &host)?;
        if bytes_below(&self.modules)? > BYTES_MAX {
            return Err(SubmoduleError::TooLarge);
        }
        Ok(Some(url.to_string()))
    }

    /// Runs git; its words name no credentials.
    fn ran(&self, command: &mut Command, host: &str) -> Result<(), SubmoduleError> {
        let done = run(command, &format!("what {host} has"));
        done.map(drop).map_err(|error| SubmoduleError::Git(error.message))
    }
}

/// The address of a submodule, from what `.gitmodules` says and where its parent came from.
fn whole(text: &str, parent: Option<&str>) -> Result<Url, SubmoduleError> {
    let shown = || text.chars().take(URL_BYTES_MAX).collect::<String>();
    if text.starts_with("./") || text.starts_with("../") {
        let parent = parent.and_then(|parent| Url::parse(&format!("{}/", parent.trim_end_matches('/'))).ok());
        let joined = parent.and_then(|parent| parent.join(text).ok());
        return joined.ok_or_else(|| SubmoduleError::Relative(shown()));
    }
    let url = Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX);
    let is_https = |url: &Url| url.scheme() == "https" && url.has_host();
    url.filter(is_https)
        .ok_or_else(|| SubmoduleError::Scheme(shown()))
}

/// The setting that has git speak to these addresses of a host alone; none where the host is an address itself.
fn pinned(host: &str, port: u16, addresses: &[IpAddr]) -> Option<String> {
    if address(host).is_some() {
        return None;
    }
    let shown = addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    let shown: Vec<String> = shown.collect();
    Some(format!("http.curloptResolve={host}:{port}:{}", shown.join(",")))
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

fn resolved(host: &str, port: u16) -> Result<Vec<IpAddr>, SubmoduleError> {
    if let Some(address) = address(host) {
        return Ok(vec![address]);
    }
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|source| SubmoduleError::Unresolved {
            host: host.to_string(),
            source,
        })?;
    Ok(found.map(|address| address.ip()).collect())
}

fn bytes_below(folder: &std::path::Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += match entry.file_type()?.is_dir() {
            true => bytes_below(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_written() {
        for (text, want) in [
            ("public", Ok("public")),
            ("none", Ok("none")),
            ("any", Ok("any")),
            ("public,Git.example.com:8443", Ok("public,git.example.com:8443")),
            ("git.example.com", Ok("git.example.com:443")),
            ("", Err("\"\" is not HOST or HOST:PORT")),
            ("none,public", Err("none stands alone")),
            ("a/b", Err("\"a/b\" is not HOST or HOST:PORT")),
        ] {
            let read = text.parse::<Submodules>().map(|all| all.to_string());
            assert_eq!(read, want.map(str::to_string).map_err(str::to_string), "{text:?}");
        }
        assert_eq!(Submodules::default().to_string(), "public");
    }

    #[test]
    fn private_addresses_and_other_ports_are_for_the_operator_to_name() {
        let addresses: Vec<IpAddr> = ["93.184.216.34", "10.0.0.1", "127.0.0.1"]
            .map(|a| a.parse().expect("address"))
            .into();
        for (list, host, port, want) in [
            ("public", "git.example.com", 443, 1),
            ("public", "git.example.com", 22, 0),
            ("none", "git.example.com", 443, 0),
            ("git.example.com", "git.example.com", 443, 3),
            ("git.example.com", "git.example.com", 8443, 0),
            ("other.example.com", "git.example.com", 443, 0),
            ("any", "git.example.com", 8443, 3),
        ] {
            let list: Submodules = list.parse().expect("a list");
            assert_eq!(
                list.allowed(host, port, &addresses).len(),
                want,
                "{list} {host}:{port}"
            );
        }
    }

    #[test]
    fn an_address_is_https_and_a_relative_one_needs_its_parent() {
        let at = |text: &str, parent: Option<&str>| {
            whole(text, parent)
                .map(|url| url.to_string())
                .map_err(|e| e.to_string())
        };
        let parent = Some("https://git.example.com/team/app.git");
        assert_eq!(at("https://h/x.git", None).as_deref(), Ok("https://h/x.git"));
        assert_eq!(
            at("../lib.git", parent).as_deref(),
            Ok("https://git.example.com/team/lib.git")
        );
        assert!(at("../lib.git", None).expect_err("relative").contains("relative"));
        for text in [
            "git@github.com:o/r.git",
            "ssh://h/x",
            "http://h/x",
            "file:///etc",
            "ext::sh",
            "/etc",
            "-u",
            "",
        ] {
            assert!(at(text, parent).expect_err(text).contains("https"), "{text}");
        }
    }
}
