//! `gilliam.toml`: the limits and grants of an app's processes.
//!
//! In flow text and the Procfile's entries, out flow [`Limits`] and outbound hosts for each process. The file
//! is optional, and so is everything in it. What is not known is refused: a limit with a typing error would
//! be no limit.

use std::{collections::BTreeMap, ops::Range};

use gilliam_model::{limits::Limits, name::ProcessName, outbound::OutboundHost};
use serde::Deserialize;
use toml::Spanned;

use crate::{
    procfile::Entry,
    quantity::{Bytes, Count, CpuShare, Fuel, Millis, Quantity, show},
};

/// The file's name, at the top of a project.
pub const MANIFEST: &str = "gilliam.toml";
/// Bytes of the file: a kilobyte for each of 64 processes.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Outbound hosts of one process: each is compared with every request it makes.
const OUTBOUND_HOSTS_MAX: usize = 256;

/// What one process may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its limits, in range.
    pub limits: Limits,
    /// Hosts it may call.
    pub allowed_outbound_hosts: Vec<OutboundHost>,
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
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    memory: Option<Spanned<Quantity<Bytes>>>,
    fuel_per_request: Option<Spanned<Quantity<Fuel>>>,
    cpu: Option<Spanned<Quantity<CpuShare>>>,
    request_timeout: Option<Spanned<Quantity<Millis>>>,
    concurrency: Option<Spanned<Quantity<Count>>>,
    backlog: Option<Spanned<Quantity<Count>>>,
    boot_timeout: Option<Spanned<Quantity<Millis>>>,
    exit_timeout: Option<Spanned<Quantity<Millis>>>,
    log_rate: Option<Spanned<Quantity<Count>>>,
    outbound: Option<Spanned<Quantity<Count>>>,
    allowed_outbound_hosts: Option<Vec<Spanned<String>>>,
}

/// Reads `gilliam.toml` for the processes of a Procfile; no bytes stand for no file.
pub fn parse(bytes: &[u8], entries: &[Entry]) -> Result<BTreeMap<ProcessName, Settings>, ManifestError> {
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
    let shared_hosts = hosts(text, &document.allowed_outbound_hosts)?;
    let mut settings = BTreeMap::new();
    for entry in entries {
        let section = document.process.get(entry.name.as_str());
        let limits =
            section.map_or_else(|| Ok(Limits::default()), |section| section_limits(text, section))?;
        let own_hosts = section.and_then(|section| section.allowed_outbound_hosts.as_deref());
        let allowed_outbound_hosts =
            own_hosts.map_or_else(|| Ok(shared_hosts.clone()), |own| hosts(text, own))?;
        settings.insert(
            entry.name.clone(),
            Settings {
                limits,
                allowed_outbound_hosts,
            },
        );
    }
    Ok(settings)
}

/// A value that was written, for the message when it is out of range.
struct Written {
    field: &'static str,
    key: &'static str,
    span: Range<usize>,
    value: u64,
    show: fn(u64) -> String,
}

fn section_limits(text: &str, section: &Section) -> Result<Limits, ManifestError> {
    let mut limits = Limits::default();
    let mut written = Vec::new();
    macro_rules! take {
        ($($key:ident: $unit:ty => $field:ident,)*) => {$(
            if let Some(spanned) = &section.$key {
                let value = spanned.get_ref().value;
                let (field, key, span) = (stringify!($field), stringify!($key), spanned.span());
                written.push(Written { field, key, span, value, show: show::<$unit> });
                // What does not fit is far out of range, as is the largest number that does.
                limits.$field = value.try_into().unwrap_or(u32::MAX.into());
            }
        )*};
    }
    take! {
        memory: Bytes => memory_bytes_max,
        fuel_per_request: Fuel => fuel_per_request_max,
        cpu: CpuShare => cpu_millis,
        request_timeout: Millis => request_ms_max,
        concurrency: Count => concurrency_max,
        backlog: Count => backlog_max,
        boot_timeout: Millis => boot_ms_max,
        exit_timeout: Millis => exit_ms_max,
        log_rate: Count => log_lines_per_s_max,
        outbound: Count => outbound_max,
    }
    limits.validate().map_err(|error| {
        let place = written.iter().find(|written| written.field == error.name);
        let place = place.expect("the defaults are in range, so the value was written");
        let show = place.show;
        let (value, min, max) = (show(place.value), show(error.min), show(error.max));
        content(
            text,
            place.span.start,
            format!("{} = {value} is outside {min} to {max}", place.key),
            None,
        )
    })?;
    Ok(limits)
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
        let settings = parse(b"", &entries()).expect("empty");
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
            log_rate = 10
            outbound = 3
            allowed_outbound_hosts = ["http://*.example.com:8080", "http://*.example.com:8080"]
        "#;
        let settings = parse(text.as_bytes(), &entries()).expect(text);
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
            ..Limits::default()
        };
        let host = |text: &str| text.parse::<OutboundHost>().expect(text);
        let hosts = vec![host("http://*.example.com:8080")];
        assert_eq!(
            settings["web"],
            Settings {
                limits,
                allowed_outbound_hosts: hosts
            }
        );
        assert_eq!(settings["worker"].limits, Limits::default());
        assert_eq!(
            settings["worker"].allowed_outbound_hosts,
            [host("https://api.example.com")]
        );
    }

    #[test]
    fn a_whole_core_may_be_written_as_an_integer() {
        let settings = parse(b"[process.web]\ncpu = 1", &entries()).expect("cpu");
        assert_eq!(settings["web"].limits.cpu_millis, 1_000);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        refused(
            "[process.web]\nmemory = \"lots\"",
            "gilliam.toml line 2, column 10: invalid value: string \"lots\", expected a size such as \
             \"64MiB\"",
        );
        refused(
            "[process.web]\nmemory = 64",
            "gilliam.toml line 2, column 10: invalid value: integer `64`, expected a size such as \"64MiB\"",
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
            "gilliam.toml line 2, column 15: invalid value: integer `-1`, expected a whole number",
        );
        refused(
            "[process.wbe]\nmemory = \"64MiB\"",
            "gilliam.toml line 1, column 10: [process.wbe] is not in the Procfile",
        );
    }

    #[test]
    fn unknown_keys_and_bad_hosts_are_refused() {
        let error = parse(b"[process.web]\nmemry = \"64MiB\"", &entries()).expect_err("memry");
        let start = "gilliam.toml line 2, column 1: unknown field `memry`, expected one of `memory`, ";
        assert!(error.to_string().starts_with(start), "{error}");
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
