//! Names: of apps, processes, nodes and configuration keys, parsed once at the edge.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::text::excerpt;

/// Longest app name: one DNS label (RFC 1035 section 2.3.4), since `APP.localhost` is where it answers.
pub const APP_NAME_BYTES_MAX: usize = 63;
/// Longest process name; with the slot number it stays short in `ps`.
pub const PROCESS_NAME_BYTES_MAX: usize = 30;
/// Longest node name: a host name (RFC 1035 section 2.3.4).
pub const NODE_NAME_BYTES_MAX: usize = 253;
/// Longest name of a service: short in lists, and a label of a host name.
pub const SERVICE_NAME_BYTES_MAX: usize = 30;
/// Longest configuration key.
pub const CONFIG_KEY_BYTES_MAX: usize = 128;

/// A name that cannot be used, with the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {value:?} {reason}")]
pub struct NameError {
    /// What was to be named: `app`, `process`, `queue`, `cron`, `service`, `node`, `config`.
    pub kind: &'static str,
    /// The name as given, cut to a printable length.
    pub value: String,
    /// The rule it breaks.
    pub reason: &'static str,
}

impl NameError {
    fn new(kind: &'static str, value: &str, reason: &'static str) -> Self {
        Self {
            kind,
            value: excerpt(value),
            reason,
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                $check(value)?;
                Ok(Self(value.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The name of an app: lower-case letters, digits and inner dashes, a letter first, at most 63 characters.
    ///
    /// Errors: [`NameError`]. Source: RFC 1035 section 2.3.1 (a label), since it becomes a host name.
    AppName, check_app
}
name! {
    /// The name of a process type (`web`, `worker`): a lower-case letter, then letters, digits, `-` or `_`; at most 30.
    ProcessName, check_process
}
name! {
    /// The name of a node, by default its machine's host name.
    NodeName, check_node
}
name! {
    /// The name of a queue of an app (`emails`): the rules of a process name.
    QueueName, check_queue
}
name! {
    /// The name of a service of an app (`cache`): a lower-case letter, then letters, digits and inner dashes; at
    /// most 30, since it answers at `NAME.internal`.
    ServiceName, check_service
}
name! {
    /// The name of a cron of an app (`cleanup`): the rules of a process name.
    CronName, check_cron
}
name! {
    /// A configuration key: a letter or `_`, then letters, digits and `_` (POSIX environment names); at most 128.
    ///
    /// `PORT` and every key that begins with `GILLIAM_` are the platform's own and refused.
    ConfigKey, check_config_key
}

fn check_app(value: &str) -> Result<(), NameError> {
    if value.is_empty() {
        let reason = "is empty; use lower-case letters, digits and dashes, such as guestbook";
        return Err(NameError::new("app", value, reason));
    }
    check_label("app", value, APP_NAME_BYTES_MAX, "is longer than 63 characters")
}

fn check_process(value: &str) -> Result<(), NameError> {
    if value.is_empty() {
        let reason = "is empty; name it, for example web or worker";
        return Err(NameError::new("process", value, reason));
    }
    check_word("process", value)
}

fn check_queue(value: &str) -> Result<(), NameError> {
    if value.is_empty() {
        let reason = "is empty; name it, for example emails";
        return Err(NameError::new("queue", value, reason));
    }
    check_word("queue", value)
}

fn check_cron(value: &str) -> Result<(), NameError> {
    if value.is_empty() {
        let reason = "is empty; name it, for example cleanup";
        return Err(NameError::new("cron", value, reason));
    }
    check_word("cron", value)
}

fn check_word(kind: &'static str, value: &str) -> Result<(), NameError> {
    let err = |reason| Err(NameError::new(kind, value, reason));
    if value.len() > PROCESS_NAME_BYTES_MAX {
        return err("is longer than 30 characters");
    }
    if !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        return err("must begin with a lower-case letter");
    }
    if !value
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
    {
        return err("may hold only lower-case letters, digits, '-' and '_'");
    }
    Ok(())
}

fn check_service(value: &str) -> Result<(), NameError> {
    let err = |reason| Err(NameError::new("service", value, reason));
    if value.is_empty() {
        return err("is empty; name it, for example cache or db");
    }
    check_label(
        "service",
        value,
        SERVICE_NAME_BYTES_MAX,
        "is longer than 30 characters",
    )?;
    if value == "queues" {
        return err("is the platform's own: an app finds its queues at queues.internal");
    }
    Ok(())
}

/// A label of a host name.
fn check_label(
    kind: &'static str,
    value: &str,
    bytes_max: usize,
    too_long: &'static str,
) -> Result<(), NameError> {
    let err = |reason| Err(NameError::new(kind, value, reason));
    if value.len() > bytes_max {
        return err(too_long);
    }
    if !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        return err("must begin with a lower-case letter");
    }
    if !value
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        return err("may hold only lower-case letters, digits and dashes");
    }
    if value.ends_with('-') {
        return err("must not end with a dash");
    }
    Ok(())
}

fn check_node(value: &str) -> Result<(), NameError> {
    let err = |reason| Err(NameError::new("node", value, reason));
    if value.is_empty() || value.len() > NODE_NAME_BYTES_MAX {
        return err("must have 1 to 253 characters");
    }
    if !value.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return err("must begin with a letter or digit");
    }
    if !value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
    {
        return err("may hold only letters, digits, '-', '_' and '.'");
    }
    Ok(())
}

fn check_config_key(value: &str) -> Result<(), NameError> {
    let err = |reason| Err(NameError::new("config", value, reason));
    if value.is_empty() || value.len() > CONFIG_KEY_BYTES_MAX {
        return err("must have 1 to 128 characters");
    }
    if !value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return err("must begin with a letter or '_'");
    }
    if !value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return err("may hold only letters, digits and '_'");
    }
    if value == "PORT" {
        return err("is set by the platform for each instance and cannot be changed");
    }
    if value.starts_with("GILLIAM_") {
        return err("begins with GILLIAM_, which is the platform's own; choose another prefix");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused<T: FromStr<Err = NameError> + fmt::Debug>(value: &str, want: &str) {
        let error = value.parse::<T>().expect_err(value);
        assert!(error.to_string().contains(want), "{error}");
    }

    #[test]
    fn app_names_are_dns_labels() {
        for good in ["a", "guestbook", "my-app-2", &"a".repeat(63)] {
            assert_eq!(good.parse::<AppName>().expect(good).as_str(), good);
        }
        refused::<AppName>("", "is empty");
        refused::<AppName>("..", "begin with a lower-case letter");
        refused::<AppName>("a..b", "only lower-case");
        refused::<AppName>("my app", "only lower-case");
        refused::<AppName>("Guestbook", "begin with a lower-case letter");
        refused::<AppName>("guestBook", "only lower-case");
        refused::<AppName>(&"a".repeat(64), "longer than 63");
        refused::<AppName>("a-", "end with a dash");
        refused::<AppName>("аpp", "begin with"); // a Cyrillic а
    }

    #[test]
    fn platform_config_keys_are_refused() {
        refused::<ConfigKey>("PORT", "set by the platform");
        refused::<ConfigKey>("GILLIAM_APP", "GILLIAM_");
        refused::<ConfigKey>("1A", "begin with");
        refused::<ConfigKey>("A-B", "only letters");
        assert!("POOL_SIZE".parse::<ConfigKey>().is_ok());
    }

    #[test]
    fn an_invalid_name_does_not_deserialize() {
        assert!(serde_json::from_str::<AppName>("\"../x\"").is_err());
    }
}
