//! `gilliam.toml`: the limits, grants and placement rules of an app's processes, its services, and what it has run on
//! a schedule.
//!
//! In flow text and the Procfile's entries, out flow [`Limits`], outbound hosts and placement for each
//! process, and the services of all of them. The file is optional, and so is everything in it. What is not known is
//! refused: a limit with a typing error would be no limit.

mod crons;
mod jobs;
mod placement;
mod services;
mod uses;
mod value;

use std::collections::BTreeMap;

use gilliam_model::{
    cron::Cron,
    limits::{LimitName, Limits},
    name::{CronName, ProcessName, ServiceName},
    outbound::OutboundHost,
    queue::JobTerms,
    rules::PlacementRules,
    service::Service,
    text::excerpt,
    uses::Uses,
};
use serde::Deserialize;
use toml::Spanned;

use self::value::Value;
use crate::{detect, link::LIBRARIES_MAX, procfile::Entry};

/// The file's name, at the top of a project.
pub const MANIFEST: &str = "gilliam.toml";
/// Bytes of the file: a kilobyte for each of 64 processes.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Outbound hosts of one process: each is compared with every request it makes.
const OUTBOUND_HOSTS_MAX: usize = 256;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// What each process of the Procfile may use.
    pub processes: BTreeMap<ProcessName, Settings>,
    /// The services that they need.
    pub services: BTreeMap<ServiceName, Service>,
    /// What is run on a schedule.
    pub crons: BTreeMap<CronName, Cron>,
}

/// What one process may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its limits, in range.
    pub limits: Limits,
    /// Hosts it may call.
    pub allowed_outbound_hosts: Vec<OutboundHost>,
    /// Whether its memory has guard pages of its own.
    pub guard_pages: bool,
    /// Library components that become part of its component: files of the project.
    pub link: Vec<String>,
    /// Where it may run and where it had better.
    pub placement: PlacementRules,
    /// On what terms it does jobs.
    pub jobs: JobTerms,
    /// What it calls of other apps.
    pub uses: Uses,
}

/// A `gilliam.toml` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too long.
    #[error("gilliam.toml has {bytes} bytes; at most {MANIFEST_BYTES_MAX} are read")]
    TooLong {
        /// Its size.
        bytes: u64,
    },
    /// Something else has its name.
    #[error("gilliam.toml is not a file")]
    NotAFile,
    /// Not TOML, or not what is expected there.
    #[error("gilliam.toml line {line}, column {column}: {message}")]
    Content {
        /// Where, from 1.
        line: usize,
        /// Where, in characters from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The way out.
        hint: Option<String>,
    },
}

impl ManifestError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            ManifestError::Content { hint, .. } => hint.clone(),
            ManifestError::TooLong { .. } | ManifestError::NotAFile => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    allowed_outbound_hosts: Vec<Spanned<String>>,
    process: BTreeMap<Spanned<String>, Section>,
    services: Section,
    cron: Section,
    uses: Section,
}

/// A `[process.NAME]`: its keys are those of [`LimitName`] and a few more.
type Section = BTreeMap<Spanned<String>, Spanned<Value>>;

/// Keys of a section that are no limits.
const OTHER_KEYS: [&str; 7] = [
    HOSTS,
    GUARD_PAGES,
    LINK,
    jobs::QUEUE,
    jobs::QUEUE_CONCURRENCY,
    jobs::RATE,
    placement::PLACEMENT,
];
const HOSTS: &str = "allowed_outbound_hosts";
const GUARD_PAGES: &str = "guard_pages";
const LINK: &str = "link";

/// Reads `gilliam.toml` for the processes of a Procfile; no bytes stand for no file.
pub fn parse(bytes: &[u8], entries: &[Entry]) -> Result<Manifest, ManifestError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLong {
            bytes: bytes.len() as u64,
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        content(&before, before.len(), "not UTF-8 text".to_string(), None)
    })?;
    let document: Document = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        content(text, start, error.message().replace('\n', ", "), None)
    })?;
    for name in document.process.keys() {
        if !entries.iter().any(|entry| entry.name.as_str() == name.get_ref()) {
            let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            let message = format!("[process.{}] is not in the Procfile", name.get_ref());
            let hint = format!("the Procfile has {}", names.join(", "));
            return Err(content(text, name.span().start, message, Some(hint)));
        }
    }
    let services = services::read(text, &document.services)?;
    let shared = Settings {
        allowed_outbound_hosts: hosts(text, &document.allowed_outbound_hosts)?,
        uses: uses::read(text, &document.uses, &services)?,
        ..Settings::default()
    };
    let settings = entries.iter().map(|entry| {
        let section = document.process.get(entry.name.as_str());
        let settings = match section {
            Some(section) => read(text, section, &shared, &entry.name, entries),
            None => Ok(shared.clone()),
        };
        Ok((entry.name.clone(), settings?))
    });
    Ok(Manifest {
        processes: settings.collect::<Result<_, _>>()?,
        services,
        crons: crons::read(text, &document.cron)?,
    })
}

/// The settings of a section over those that every process shares.
fn read(
    text: &str,
    section: &Section,
    shared: &Settings,
    own: &ProcessName,
    entries: &[Entry],
) -> Result<Settings, ManifestError> {
    let mut settings = shared.clone();
    for (key, value) in section {
        let at = value.span().start;
        let (key, key_at, value) = (key.get_ref().as_str(), key.span().start, value.get_ref());
        match key {
            HOSTS => {
                let Value::List(list) = value else {
                    return Err(unfit(text, at, key, value, "a list of hosts"));
                };
                settings.allowed_outbound_hosts = hosts(text, list)?;
            }
            GUARD_PAGES => {
                let Value::Switch(on) = value else {
                    return Err(unfit(text, at, key, value, "true or false"));
                };
                settings.guard_pages = *on;
            }
            LINK => {
                let Value::List(list) = value else {
                    return Err(unfit(text, at, key, value, "a list of components"));
                };
                settings.link = libraries(text, list)?;
            }
            jobs::QUEUE | jobs::QUEUE_CONCURRENCY | jobs::RATE => {
                jobs::read(text, at, key, value, &mut settings.jobs)?;
            }
            placement::PLACEMENT => {
                let Value::Table(table) = value else {
                    return Err(unfit(text, at, key, value, "a table"));
                };
                settings.placement = placement::read(text, table, own, entries)?;
            }
            _ => {
                let name = LimitName::of_key(key).map_err(|_| unknown(text, key_at, key))?;
                let value = value
                    .quantity(name)
                    .ok_or_else(|| unfit(text, at, key, value, name.unit().expected()))?;
                name.check(value)
                    .map_err(|error| content(text, at, error.to_string(), Some(error.hint())))?;
                settings.limits.set(name, value);
            }
        }
    }
    Ok(settings)
}

fn unknown(text: &str, at: usize, key: &str) -> ManifestError {
    let keys = LimitName::ALL.iter().map(|name| name.key()).chain(OTHER_KEYS);
    let keys: Vec<&str> = keys.collect();
    let message = format!("unknown key {:?}", excerpt(key));
    content(
        text,
        at,
        message,
        Some(format!("the keys are {}", keys.join(", "))),
    )
}

fn unfit(text: &str, at: usize, key: &str, value: &Value, expected: &str) -> ManifestError {
    content(text, at, format!("{key} = {value} is not {expected}"), None)
}

fn hosts(text: &str, entries: &[Spanned<String>]) -> Result<Vec<OutboundHost>, ManifestError> {
    if let Some(one_too_many) = entries.get(OUTBOUND_HOSTS_MAX) {
        let message = format!("{OUTBOUND_HOSTS_MAX} outbound hosts are the most that a process can have");
        return Err(content(text, one_too_many.span().start, message, None));
    }
    let mut hosts = Vec::with_capacity(entries.len());
    for entry in entries {
        let host = entry.get_ref().parse::<OutboundHost>().map_err(|error| {
            let hint = error.hint().to_string();
            content(text, entry.span().start, error.to_string(), Some(hint))
        })?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

fn libraries(text: &str, entries: &[Spanned<String>]) -> Result<Vec<String>, ManifestError> {
    if let Some(one_too_many) = entries.get(LIBRARIES_MAX) {
        let message = format!("{LIBRARIES_MAX} components are the most that a process can link");
        return Err(content(text, one_too_many.span().start, message, None));
    }
    let mut libraries = Vec::with_capacity(entries.len());
    for entry in entries {
        let (path, at) = (entry.get_ref(), entry.span().start);
        let is_component = path.ends_with(".wasm") || path.ends_with(".wat");
        let Some(path) = detect::relative(path).filter(|_| is_component) else {
            let message = format!("{:?} is not a .wasm or .wat file of the project", excerpt(path));
            let hint = "name a built component by its path from the Procfile".to_string();
            return Err(content(text, at, message, Some(hint)));
        };
        if libraries.contains(&path) {
            let message = format!("{:?} is linked already", excerpt(&path));
            return Err(content(text, at, message, None));
        }
        libraries.push(path);
    }
    Ok(libraries)
}

/// The error at a byte of the text.
fn content(text: &str, at: usize, message: String, hint: Option<String>) -> ManifestError {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    ManifestError::Content {
        line,
        column,
        message,
        hint,
    }
}

#[cfg(test)]
mod tests;
