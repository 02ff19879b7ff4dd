//! `gilliam.toml`: the limits, grants and placement rules of an app's processes, and its services.
//!
//! In flow text and the Procfile's entries, out flow [`Limits`], outbound hosts and placement for each
//! process, and the services of all of them. The file is optional, and so is everything in it. What is not known is
//! refused: a limit with a typing error would be no limit.

mod jobs;
mod placement;
mod services;
mod value;

use std::collections::BTreeMap;

use gilliam_model::{
    limits::{LimitName, Limits},
    name::{ProcessName, ServiceName},
    outbound::OutboundHost,
    queue::JobTerms,
    rules::PlacementRules,
    service::Service,
    text::excerpt,
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
    let shared = Settings {
        allowed_outbound_hosts: hosts(text, &document.allowed_outbound_hosts)?,
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
        services: services::read(text, &document.services)?,
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
mod tests {
    use gilliam_model::{limits::REUSE_ALWAYS, quantity::Unit};

    use super::*;

    fn entries() -> Vec<Entry> {
        crate::procfile::parse(b"web: web.wasm\nworker: worker.wasm").expect("Procfile")
    }

    #[track_caller]
    fn refused(text: &str, message: &str) {
        let error = parse(text.as_bytes(), &entries()).expect_err(text);
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn no_file_means_defaults_for_every_process() {
        let settings = parse(b"", &entries()).expect("empty").processes;
        assert_eq!(settings.len(), 2);
        assert!(settings.values().all(|settings| *settings == Settings::default()));
    }

    #[test]
    fn every_key_reaches_its_limit() {
        let text = r#"
            allowed_outbound_hosts = ["https://api.example.com"]
            [process.web]
            memory = "64MiB"
            fuel_per_request = "2G"
            cpu = 0.25
            request_timeout = "10s"
            concurrency = 16
            backlog = 8
            boot_timeout = "5s"
            exit_timeout = "2s"
            log_lines = 10
            outbound = 3
            reuse = "always"
            idle = "2m"
            handles = 500
            header_bytes = "32KiB"
            random_bytes = "1KiB"
            hostcall_bytes = "2MiB"
            guard_pages = true
            link = ["auth.wasm", "./lib//log.wat"]
            allowed_outbound_hosts = ["http://*.example.com:8080", "http://*.example.com:8080"]
        "#;
        let settings = parse(text.as_bytes(), &entries()).expect(text).processes;
        let limits = Limits {
            memory_bytes_max: 64 << 20,
            fuel_per_request_max: 2_000_000_000,
            cpu_millis: 250,
            request_ms_max: 10_000,
            concurrency_max: 16,
            backlog_max: 8,
            boot_ms_max: 5_000,
            exit_ms_max: 2_000,
            log_lines_per_s_max: 10,
            outbound_max: 3,
            reuse_max: REUSE_ALWAYS,
            idle_ms_max: 120_000,
            handles_max: 500,
            header_bytes_max: 32 << 10,
            random_bytes_max: 1 << 10,
            hostcall_bytes_max: 2 << 20,
        };
        let host = |text: &str| text.parse::<OutboundHost>().expect(text);
        let hosts = vec![host("http://*.example.com:8080")];
        assert_eq!(
            settings["web"],
            Settings {
                limits,
                allowed_outbound_hosts: hosts,
                guard_pages: true,
                link: vec!["auth.wasm".to_string(), "lib/log.wat".to_string()],
                placement: PlacementRules::default(),
                jobs: JobTerms::default(),
            }
        );
        assert_eq!(settings["worker"].limits, Limits::default());
        assert_eq!(
            settings["worker"].allowed_outbound_hosts,
            [host("https://api.example.com")]
        );
    }

    #[test]
    fn every_limit_out_of_its_range_is_refused_with_the_range() {
        for name in LimitName::ALL {
            let (key, (min, max)) = (name.key(), name.range());
            let range = format!("is outside {} to {}", name.show(min), name.show(max));
            let beyond = [min.checked_sub(1), max.checked_add(1)];
            for value in beyond.into_iter().flatten() {
                let decimal = format!("{}.{:03}", value / 1_000, value % 1_000);
                let shown = match name.unit() {
                    Unit::Bytes => format!("\"{decimal}KB\""),
                    Unit::Millis => format!("\"{value}ms\""),
                    Unit::CpuShare => decimal,
                    Unit::Fuel | Unit::Count | Unit::Uses => value.to_string(),
                };
                let text = format!("[process.web]\n{key} = {shown}");
                let error = parse(text.as_bytes(), &entries()).expect_err(&text);
                let message = format!("{key} = {} {range}", name.show(value));
                assert!(error.to_string().ends_with(&message), "{error}");
                let hint = error.hint().expect("a hint");
                assert!(hint.starts_with("choose a value in that range"), "{hint}");
            }
        }
        refused(
            "[process.web]\nmemory = \"5GiB\"",
            "gilliam.toml line 2, column 10: memory = 5GiB is outside 64KiB to 4GiB",
        );
        refused(
            "[process.web]\nreuse = 0",
            "gilliam.toml line 2, column 9: reuse = 0 is outside 1 to always",
        );
        refused(
            "[process.web]\nlink = [\"../auth.wasm\"]",
            "gilliam.toml line 2, column 9: \"../auth.wasm\" is not a .wasm or .wat file of the project",
        );
        refused(
            "[process.web]\nlink = [\"a.wasm\", \"./a.wasm\"]",
            "gilliam.toml line 2, column 19: \"a.wasm\" is linked already",
        );
        refused(
            "[process.web]\nguard_pages = \"yes\"",
            "gilliam.toml line 2, column 15: guard_pages = \"yes\" is not true or false",
        );
    }

    #[test]
    fn a_whole_core_may_be_written_as_an_integer() {
        let settings = parse(b"[process.web]\ncpu = 1", &entries())
            .expect("cpu")
            .processes;
        assert_eq!(settings["web"].limits.cpu_millis, 1_000);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        refused(
            "[process.web]\nmemory = \"lots\"",
            "gilliam.toml line 2, column 10: memory = \"lots\" is not a size such as 64MiB",
        );
        refused(
            "[process.web]\nmemory = 64",
            "gilliam.toml line 2, column 10: memory = 64 is not a size such as 64MiB",
        );
        refused(
            "[process.web]\nmemory = \"1KiB\"",
            "gilliam.toml line 2, column 10: memory = 1KiB is outside 64KiB to 4GiB",
        );
        refused(
            "[process.web]\ncpu = 1.5",
            "gilliam.toml line 2, column 7: cpu = 1.5 is outside 0.01 to 1",
        );
        refused(
            "[process.web]\nconcurrency = 99999999999",
            "gilliam.toml line 2, column 15: concurrency = 99999999999 is outside 1 to 10000",
        );
        refused(
            "[process.web]\nconcurrency = -1",
            "gilliam.toml line 2, column 15: concurrency = -1 is not a whole number",
        );
        refused(
            "[process.wbe]\nmemory = \"64MiB\"",
            "gilliam.toml line 1, column 10: [process.wbe] is not in the Procfile",
        );
    }

    #[test]
    fn unknown_keys_and_bad_hosts_are_refused() {
        let error = parse(b"[process.web]\nmemry = \"64MiB\"", &entries()).expect_err("memry");
        let message = "gilliam.toml line 2, column 1: unknown key \"memry\"";
        assert_eq!(error.to_string(), message);
        let hint = error.hint().expect("a hint");
        assert!(hint.starts_with("the keys are memory, cpu, "), "{hint}");
        assert!(parse(b"[app]\n", &entries()).is_err());
        assert!(parse(b"process = 1\n", &entries()).is_err());
        let error = parse(b"allowed_outbound_hosts = [\"$api\"]", &entries()).expect_err("$api");
        let message = "gilliam.toml line 1, column 27: outbound host \"$api\" refers to a variable; \
                       write the host itself";
        assert_eq!(error.to_string(), message);
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.starts_with("write SCHEME://HOST:PORT"))
        );
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_place() {
        let error = parse(b"a = 1\n[process.web\n", &entries()).expect_err("unclosed");
        assert!(
            error.to_string().starts_with("gilliam.toml line 2, column 13: "),
            "{error}"
        );
        refused_bytes(
            b"a = 1\nb = \xff",
            "gilliam.toml line 2, column 5: not UTF-8 text",
        );
    }

    #[track_caller]
    fn refused_bytes(bytes: &[u8], message: &str) {
        assert_eq!(parse(bytes, &entries()).expect_err("bytes").to_string(), message);
    }

    #[test]
    fn a_missing_section_names_those_that_exist() {
        let error = parse(b"[process.wbe]\n", &entries()).expect_err("wbe");
        assert_eq!(error.hint().as_deref(), Some("the Procfile has web, worker"));
    }
}
