//! Hosts that builds may reach, as people and packs write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The port of HTTPS (RFC 9110, 4.2.2).
const HTTPS: u16 = 443;
/// Longest name of a host (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Hosts on one list.
const HOSTS_MAX: usize = 64;

/// `HOST[:PORT]`; without a port that of HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Host {
    /// In lower case.
    name: String,
    port: u16,
}

/// Text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Not a name and a port.
    #[error("{0:?} is not HOST or HOST:PORT")]
    Form(String),
    /// `none` and others at once.
    #[error("none stands alone")]
    None,
    /// Too many.
    #[error("at most {HOSTS_MAX} hosts are listed")]
    TooMany,
}

impl Host {
    /// What a connection is made to.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.name, self.port)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)),
            None => (text, Some(HTTPS)),
        };
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(known);
        match port.filter(|_| is_name) {
            Some(port) => Ok(Self {
                name: name.to_ascii_lowercase(),
                port,
            }),
            None => Err(HostError::Form(text.chars().take(NAME_BYTES_MAX).collect())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// Who builds of this server may reach: `tools`, `none`, or hosts; several are joined by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registries {
    /// Those that the packs' `tools` name.
    tools: bool,
    hosts: Vec<Host>,
}

impl Default for Registries {
    fn default() -> Self {
        Self {
            tools: true,
            hosts: Vec::new(),
        }
    }
}

/// Nobody.
pub static NOBODY: Registries = Registries {
    tools: false,
    hosts: Vec::new(),
};

impl Registries {
    /// Those that builds by a pack may reach whose tools name these.
    pub fn of_tools(&self, named: &[String]) -> Vec<Host> {
        let tools = named
            .iter()
            .filter(|_| self.tools)
            .filter_map(|text| text.parse().ok());
        let mut hosts: Vec<Host> = tools.chain(self.hosts.iter().cloned()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

impl FromStr for Registries {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "none" {
            return Ok(NOBODY.clone());
        }
        let mut all = NOBODY.clone();
        for word in text.split(',') {
            match word {
                "tools" => all.tools = true,
                "none" => return Err(HostError::None),
                host => all.hosts.push(host.parse()?),
            }
        }
        match all.hosts.len() {
            0..=HOSTS_MAX => Ok(all),
            _ => Err(HostError::TooMany),
        }
    }
}

impl fmt::Display for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tools = self.tools.then(|| "tools".to_string());
        let words: Vec<String> = tools
            .into_iter()
            .chain(self.hosts.iter().map(Host::to_string))
            .collect();
        match words.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&words.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_written() {
        for (text, want) in [
            ("tools", Ok("tools")),
            ("none", Ok("none")),
            ("Example.com", Ok("example.com:443")),
            ("tools,example.com:8443", Ok("tools,example.com:8443")),
            ("", Err("\"\" is not HOST or HOST:PORT")),
            ("none,tools", Err("none stands alone")),
            ("example.com:0", Err("\"example.com:0\" is not HOST or HOST:PORT")),
            (
                "https://example.com",
                Err("\"https://example.com\" is not HOST or HOST:PORT"),
            ),
            ("a b", Err("\"a b\" is not HOST or HOST:PORT")),
        ] {
            let read = text.parse::<Registries>();
            let shown = read.map(|all| all.to_string()).map_err(|error| error.to_string());
            assert_eq!(
                shown,
                want.map(str::to_string).map_err(str::to_string),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_build_reaches_what_its_own_tools_name_and_what_the_operator_adds() {
        let named = [
            "one.example".to_string(),
            "two.example:8443".to_string(),
            "what?".to_string(),
        ];
        for (registries, want) in [
            ("tools", &["one.example:443", "two.example:8443"][..]),
            ("tools,one.example", &["one.example:443", "two.example:8443"]),
            ("three.example", &["three.example:443"]),
            ("none", &[]),
        ] {
            let registries: Registries = registries.parse().expect("a list");
            let hosts: Vec<String> = registries.of_tools(&named).iter().map(Host::to_string).collect();
            assert_eq!(hosts, want);
        }
    }
}
