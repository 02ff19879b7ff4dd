//! Releases: image + config, immutable.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    config::Config,
    digest::Digest,
    name::AppName,
    overrides::Overrides,
    text::{excerpt, wire_text},
};

/// Longest message of a release.
pub const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// The number of a release in its app: v1, v2 … without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = "v2"))]
pub struct ReleaseId(NonZeroU32);

/// Text that is not a release number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a release; releases are named v1, v2 and so on")]
pub struct ReleaseIdError {
    /// The text as given, cut to a printable length.
    pub value: String,
}

impl ReleaseId {
    /// The first release of an app.
    pub const FIRST: ReleaseId = ReleaseId(NonZeroU32::MIN);

    /// The release with this number.
    pub fn new(number: NonZeroU32) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// The release after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("v{}", self.0))
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReleaseId {
    type Err = ReleaseIdError;
    fn from_str(value: &str) -> Result<Self, ReleaseIdError> {
        let error = || ReleaseIdError {
            value: excerpt(value),
        };
        let digits = value.strip_prefix('v').ok_or_else(error)?;
        if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        digits.parse().map(Self).map_err(|_| error())
    }
}

wire_text!(ReleaseId);

/// What became of the `release` process of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum HookStatus {
    /// It has not ended: nothing moves to the release yet.
    Running {
        /// The number of its run.
        run: u32,
    },
    /// It ended well.
    Passed {
        /// The number of its run.
        run: u32,
    },
    /// It did not: nothing ever moves to the release.
    Failed {
        /// The number of its run.
        run: u32,
        /// Why.
        reason: String,
    },
}

impl HookStatus {
    /// Whether the release may run.
    pub fn has_passed(&self) -> bool {
        matches!(self, HookStatus::Passed { .. })
    }

    /// The number of its run.
    pub fn run(&self) -> u32 {
        match self {
            HookStatus::Running { run } | HookStatus::Passed { run } | HookStatus::Failed { run, .. } => *run,
        }
    }
}

/// Image + config of an app, with who made it, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Release {
    /// Its app.
    pub app: AppName,
    /// Its number.
    pub id: ReleaseId,
    /// The digest of its image's manifest.
    pub image: Digest,
    /// Its configuration.
    pub config: Config,
    /// The limits it sets over those of its image.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub limits: Overrides,
    /// What changed, in the author's or the platform's words.
    pub message: String,
    /// The name of the token that made it.
    pub author: String,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// What became of its `release` process, the one thing that is added later; none when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookStatus>,
}

impl Release {
    /// Whether it may run: it has no `release` process, or that ended well.
    pub fn may_run(&self) -> bool {
        self.hook.as_ref().is_none_or(HookStatus::has_passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_numbers_round_trip() {
        assert_eq!("v12".parse::<ReleaseId>().expect("v12").to_string(), "v12");
        for bad in [
            "",
            "v",
            "v0",
            "v01",
            "12",
            "v-1",
            "v+1",
            "v1.0",
            "v99999999999",
            "V1",
        ] {
            assert!(bad.parse::<ReleaseId>().is_err(), "{bad}");
        }
    }
}
