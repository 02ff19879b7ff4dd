//! The app's config, and who this instance is.

use std::{env, fmt, str::FromStr};

/// A value of the app's config (`gilliam config set KEY=VALUE`), if there is one.
pub fn config(key: &str) -> Option<String> {
    env::var(key).ok()
}

/// A value of the config as a type: a number, a switch, an address.
pub fn config_as<T: FromStr>(key: &str) -> Result<Option<T>, ConfigError> {
    config(key).map(|value| read(key, value)).transpose()
}

fn read<T: FromStr>(key: &str, value: String) -> Result<T, ConfigError> {
    value.parse().map_err(|_| ConfigError {
        key: key.to_owned(),
        value,
    })
}

/// The name of this instance: `emails.1`.
pub fn instance() -> Option<String> {
    config("GILLIAM_INSTANCE")
}

/// The release that this is: `v3`.
pub fn release() -> Option<String> {
    config("GILLIAM_RELEASE")
}

/// A value of the config that is not of the type that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    key: String,
    value: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config {}={:?} cannot be read", self.key, self.value)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_the_type_that_is_wanted() {
        assert_eq!(read::<u16>("PORT", "80".to_owned()), Ok(80));
        let error = read::<u16>("PORT", "http".to_owned()).expect_err("no number");
        assert_eq!(error.to_string(), "config PORT=\"http\" cannot be read");
        assert_eq!(config_as::<u16>("THERE_IS_NO_SUCH_KEY"), Ok(None));
    }
}
