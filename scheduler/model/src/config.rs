//! Configuration: what an app's processes get as environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::ConfigKey;

/// Most bytes of keys and values together: every instance holds a copy.
pub const CONFIG_BYTES_MAX: usize = 64 << 10;

/// An app's configuration; part of a release, so immutable with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(value_type = std::collections::BTreeMap<String, String>)
)]
pub struct Config(pub BTreeMap<ConfigKey, String>);

/// A change of configuration that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The result would not fit.
    #[error("config would have {bytes} bytes of keys and values; at most {CONFIG_BYTES_MAX} are allowed")]
    TooLarge {
        /// Bytes it would have.
        bytes: usize,
    },
    /// A value holds a NUL byte, which no environment can carry.
    #[error("the value of {key} holds a NUL byte, which an environment cannot carry")]
    Nul {
        /// Its key.
        key: ConfigKey,
    },
    /// A key to unset is not there.
    #[error("{key} is not set")]
    NotSet {
        /// The key.
        key: ConfigKey,
    },
}

/// What to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigChange {
    /// Keys to set.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, String>))]
    pub set: BTreeMap<ConfigKey, String>,
    /// Keys to remove; each must be set.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub unset: Vec<ConfigKey>,
}

impl Config {
    /// The configuration after `change`, or why it is refused.
    pub fn changed(&self, change: &ConfigChange) -> Result<Config, ConfigError> {
        let mut values = self.0.clone();
        for key in &change.unset {
            values
                .remove(key)
                .ok_or_else(|| ConfigError::NotSet { key: key.clone() })?;
        }
        for (key, value) in &change.set {
            if value.contains('\0') {
                return Err(ConfigError::Nul { key: key.clone() });
            }
            values.insert(key.clone(), value.clone());
        }
        let bytes = values.iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
        if bytes > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { bytes });
        }
        Ok(Config(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(set: &[(&str, &str)], unset: &[&str]) -> ConfigChange {
        ConfigChange {
            set: set
                .iter()
                .map(|(k, v)| (k.parse().expect("key"), v.to_string()))
                .collect(),
            unset: unset.iter().map(|k| k.parse().expect("key")).collect(),
        }
    }

    #[test]
    fn a_change_sets_and_unsets() {
        let config = Config::default()
            .changed(&change(&[("A", "1"), ("B", "2")], &[]))
            .expect("set");
        let config = config.changed(&change(&[("A", "3")], &["B"])).expect("unset");
        assert_eq!(serde_json::to_string(&config).expect("json"), r#"{"A":"3"}"#);
    }

    #[test]
    fn a_refused_change_says_why() {
        let config = Config::default();
        let error = config.changed(&change(&[], &["GONE"])).expect_err("not set");
        assert_eq!(error.to_string(), "GONE is not set");
        assert!(config.changed(&change(&[("A", "x\0")], &[])).is_err());
        assert!(
            config
                .changed(&change(&[("A", &"x".repeat(CONFIG_BYTES_MAX))], &[]))
                .is_err()
        );
    }
}
