//! Services: the key-value stores, databases, blobs, volumes and queues that an app declares and finds bound.
//!
//! An image says which services its processes need; the app's record says which there are, with whom they are
//! shared, and on which node their data is; an assignment says what a process is bound to.
//!
//! Invariant: a name is that of one service of an app, and is a label of a host name: it answers at
//! `http://NAME.internal/`.

mod record;
mod share;
mod wire;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{name::ServiceName, quantity::Unit, text::excerpt};

pub use record::{AdoptError, BoundService, ServiceId, ServiceRecord, ServiceRecords, adopt, at_home, bound};
pub use share::{ShareError, destroy, share, unshare};
pub use wire::{
    ASK_BYTES_MAX, ASK_JSON_BYTES_MAX, AskService, AwaitQuestions, QUESTIONS_WAIT_MS_MAX, ServiceAnswer,
    ServiceInfo, ServiceQuestion, ServiceQuestions, ServiceState, ServiceUsage, ServiceVerb, ShareService,
};

/// Most services of one app: each may be a file that is open, and every process is bound to all of them.
pub const SERVICES_MAX: usize = 32;
/// Most apps that one service is shared with: each is named in its record.
pub const SHARED_WITH_MAX: usize = 64;
/// Least and most bytes of a service: a file of it has about a mebibyte when it is empty; no disk here has more.
pub const QUOTA_BYTES: (u64, u64) = (1 << 20, 1 << 40);
/// Shortest and longest time that a key lives when nothing else is said: a second, and a year with its leap day.
pub const TTL_MS: (u64, u64) = (1_000, 366 * 24 * 3_600_000);
/// What hosts of services and of other apps end in.
pub const INTERNAL: &str = "internal";
/// The host at which an app finds its queues; no service has this name.
pub const QUEUES_HOST: &str = "queues";

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ServiceKind {
    /// Jobs for workers.
    Queue,
    /// Keys with values.
    Keyvalue,
    /// A database.
    Sql,
    /// Objects by name, streamed.
    Blob,
    /// A directory.
    Volume,
}

/// A type of service that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a type of service")]
pub struct ServiceKindError {
    /// The text as given, cut to a printable length.
    pub value: String,
}

impl ServiceKindError {
    /// The way out.
    pub fn hint(&self) -> String {
        format!(
            "the types are {}",
            ServiceKind::ALL.map(ServiceKind::as_str).join(", ")
        )
    }
}

impl ServiceKind {
    /// Every kind.
    pub const ALL: [ServiceKind; 5] = [
        ServiceKind::Queue,
        ServiceKind::Keyvalue,
        ServiceKind::Sql,
        ServiceKind::Blob,
        ServiceKind::Volume,
    ];

    /// As written: `keyvalue`.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceKind::Queue => "queue",
            ServiceKind::Keyvalue => "keyvalue",
            ServiceKind::Sql => "sql",
            ServiceKind::Blob => "blob",
            ServiceKind::Volume => "volume",
        }
    }

    /// Whether its data is on a node: its home. Queues are in the control plane.
    pub fn is_on_a_node(self) -> bool {
        !matches!(self, ServiceKind::Queue)
    }

    /// Whether it answers at a host of its own.
    pub fn has_host(self) -> bool {
        matches!(self, ServiceKind::Keyvalue | ServiceKind::Sql | ServiceKind::Blob)
    }

    /// Bytes that it may hold unless it is said: what a small app needs, and many of them leave room on a disk.
    pub fn quota_bytes_default(self) -> Option<u64> {
        match self {
            ServiceKind::Queue => None,
            ServiceKind::Keyvalue => Some(256 << 20),
            ServiceKind::Sql | ServiceKind::Volume => Some(1 << 30),
            ServiceKind::Blob => Some(10 << 30),
        }
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ServiceKind {
    type Err = ServiceKindError;
    fn from_str(value: &str) -> Result<Self, ServiceKindError> {
        let known = ServiceKind::ALL.into_iter().find(|kind| kind.as_str() == value);
        known.ok_or_else(|| ServiceKindError {
            value: excerpt(value),
        })
    }
}

/// A service as an image declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Service {
    /// What it is.
    #[cfg_attr(feature = "openapi", schema(rename = "type"))]
    kind: ServiceKind,
    /// Bytes that it may hold; none for what has a quota of another sort.
    quota_bytes_max: Option<u64>,
    /// How long a key lives, unless it is said with the key; none for ever.
    ttl_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(rename = "type")]
    kind: ServiceKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota_bytes_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

/// An option of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceOption {
    /// `quota`, or `size` of a volume.
    Quota,
    /// `ttl`.
    Ttl,
}

/// An option that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The kind has no such option.
    #[error("a {kind} service has no {option}")]
    NoSuchOption {
        /// The kind.
        kind: ServiceKind,
        /// The option as written.
        option: String,
    },
    /// Out of range.
    #[error("{option} = {value} is outside {min} to {max}")]
    OutOfRange {
        /// The option as written.
        option: &'static str,
        /// The value.
        value: String,
        /// The least.
        min: String,
        /// The most.
        max: String,
    },
}

impl ServiceError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            ServiceError::NoSuchOption { kind, .. } => match Service::options(*kind) {
                [] => format!("leave it out: {kind} has no options"),
                options => {
                    let options: Vec<&str> = options.iter().map(|option| option.key(*kind)).collect();
                    format!("{kind} has {}", options.join(", "))
                }
            },
            ServiceError::OutOfRange { .. } => "choose a value in that range".to_string(),
        }
    }
}

impl ServiceOption {
    /// As written in `gilliam.toml`.
    pub fn key(self, kind: ServiceKind) -> &'static str {
        match (self, kind) {
            (ServiceOption::Quota, ServiceKind::Volume) => "size",
            (ServiceOption::Quota, _) => "quota",
            (ServiceOption::Ttl, _) => "ttl",
        }
    }

    /// What it counts.
    pub fn unit(self) -> Unit {
        match self {
            ServiceOption::Quota => Unit::Bytes,
            ServiceOption::Ttl => Unit::Millis,
        }
    }

    fn range(self) -> (u64, u64) {
        match self {
            ServiceOption::Quota => QUOTA_BYTES,
            ServiceOption::Ttl => TTL_MS,
        }
    }
}

impl Service {
    /// A service with the options that its kind has by default.
    pub fn new(kind: ServiceKind) -> Self {
        Self {
            kind,
            quota_bytes_max: kind.quota_bytes_default(),
            ttl_ms: None,
        }
    }

    /// The options of a kind.
    pub fn options(kind: ServiceKind) -> &'static [ServiceOption] {
        match kind {
            ServiceKind::Queue => &[],
            ServiceKind::Keyvalue => &[ServiceOption::Ttl, ServiceOption::Quota],
            ServiceKind::Sql | ServiceKind::Blob | ServiceKind::Volume => &[ServiceOption::Quota],
        }
    }

    /// The option of a kind that is written so.
    pub fn option(kind: ServiceKind, key: &str) -> Result<ServiceOption, ServiceError> {
        let known = Service::options(kind).iter();
        let found = known.copied().find(|option| option.key(kind) == key);
        found.ok_or_else(|| ServiceError::NoSuchOption {
            kind,
            option: excerpt(key),
        })
    }

    /// Sets an option.
    pub fn set(&mut self, option: ServiceOption, value: u64) -> Result<(), ServiceError> {
        let key = option.key(self.kind);
        Service::option(self.kind, key)?;
        let (unit, (min, max)) = (option.unit(), option.range());
        if !(min..=max).contains(&value) {
            return Err(ServiceError::OutOfRange {
                option: key,
                value: unit.show(value),
                min: unit.show(min),
                max: unit.show(max),
            });
        }
        match option {
            ServiceOption::Quota => self.quota_bytes_max = Some(value),
            ServiceOption::Ttl => self.ttl_ms = Some(value),
        }
        Ok(())
    }

    /// What it is.
    pub fn kind(&self) -> ServiceKind {
        self.kind
    }

    /// Bytes that it may hold; none for what has a quota of another sort.
    pub fn quota_bytes_max(&self) -> Option<u64> {
        self.quota_bytes_max
    }

    /// How long a key lives, unless it is said with the key; none for ever.
    pub fn ttl_ms(&self) -> Option<u64> {
        self.ttl_ms
    }

    /// The variable by which processes find it, and what it holds: `CACHE_URL`, `http://cache.internal`.
    pub fn variable(&self, name: &ServiceName) -> (String, String) {
        let key = name.as_str().to_ascii_uppercase().replace('-', "_");
        match self.kind {
            ServiceKind::Queue => (
                format!("{key}_URL"),
                format!("http://{QUEUES_HOST}.{INTERNAL}/{name}"),
            ),
            ServiceKind::Volume => (format!("{key}_PATH"), format!("/{name}")),
            _ => (format!("{key}_URL"), format!("http://{name}.{INTERNAL}")),
        }
    }
}

impl TryFrom<Plain> for Service {
    type Error = ServiceError;
    fn try_from(plain: Plain) -> Result<Self, ServiceError> {
        let mut service = Service::new(plain.kind);
        let options = [
            (ServiceOption::Quota, plain.quota_bytes_max),
            (ServiceOption::Ttl, plain.ttl_ms),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                service.set(option, value)?;
            }
        }
        Ok(service)
    }
}

impl From<Service> for Plain {
    fn from(service: Service) -> Self {
        Self {
            kind: service.kind,
            quota_bytes_max: service.quota_bytes_max,
            ttl_ms: service.ttl_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ServiceName {
        name.parse().expect(name)
    }

    #[test]
    fn a_service_is_read_as_it_was_written_and_a_bad_one_is_not() {
        let mut cache = Service::new(ServiceKind::Keyvalue);
        cache.set(ServiceOption::Ttl, 60_000).expect("a minute");
        let json = serde_json::to_string(&cache).expect("json");
        assert_eq!(serde_json::from_str::<Service>(&json).expect(&json), cache);
        for (bad, says) in [
            (r#"{"type":"redis"}"#, "unknown variant `redis`"),
            (r#"{"type":"sql","ttl_ms":60000}"#, "a sql service has no ttl"),
            (
                r#"{"type":"blob","quota_bytes_max":1}"#,
                "quota = 1B is outside 1MiB to 1024GiB",
            ),
            (r#"{"type":"queue","quota_bytes_max":9999999}"#, "has no quota"),
        ] {
            let error = serde_json::from_str::<Service>(bad).expect_err(bad);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn a_process_finds_each_service_by_a_variable() {
        for (kind, key, value) in [
            (ServiceKind::Keyvalue, "MY_CACHE_URL", "http://my-cache.internal"),
            (
                ServiceKind::Queue,
                "MY_CACHE_URL",
                "http://queues.internal/my-cache",
            ),
            (ServiceKind::Volume, "MY_CACHE_PATH", "/my-cache"),
        ] {
            let found = Service::new(kind).variable(&name("my-cache"));
            assert_eq!(found, (key.to_string(), value.to_string()));
        }
    }
}
