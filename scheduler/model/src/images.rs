//! What is told and asked of images: those of an app, one by its digest, and a release of one that is there.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, digest::Digest, image::Image, name::ProcessName, release::ReleaseId};

/// An image that an app has without a release of it: it was built, or pulled, and not released yet. A record of the
/// store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptImage {
    /// The image.
    pub digest: Digest,
    /// Who made it.
    pub author: String,
    /// When.
    pub made_at: Timestamp,
    /// Where it comes from, in words.
    pub message: String,
}

/// An image of an app, as `images` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageSummary {
    /// Its digest.
    pub digest: Digest,
    /// The releases that use it, oldest first; none when it was only built or pulled.
    pub releases: Vec<ReleaseId>,
    /// Its process types.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub processes: Vec<ProcessName>,
    /// Bytes of its components, each counted once.
    pub bytes: u64,
    /// Who made it first.
    pub author: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub made_at: Timestamp,
    /// What was said of it then.
    pub message: String,
}

/// An image that the cluster has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredImage {
    /// Its digest.
    pub digest: Digest,
    /// What is in it, as it was sealed.
    pub image: Image,
}

/// `POST /v1/apps/{app}/releases`: releases an image that the cluster has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MakeRelease {
    /// The image: of this app or of any other one.
    pub image: Digest,
    /// What changed.
    #[serde(default)]
    pub message: Option<String>,
    /// Whether what the previous release ran moves to the new one.
    #[serde(default = "yes")]
    pub migrate: bool,
}

fn yes() -> bool {
    true
}
