//! Sealing: components, process types and limits become one image with one digest.
//!
//! Invariant: the same components and settings give the same digest: no time, no name of an app, no order of
//! a map.

use gilliam_model::{
    digest::Digest,
    image::{Image, MEDIA_TYPE_COMPONENT, MEDIA_TYPE_IMAGE},
};
use serde::Serialize;

use crate::layout::{Descriptor, Layout, LayoutError, MEDIA_TYPE_MANIFEST, Staged};

/// OCI image-spec 1.1, "Image Manifest", in the order in which it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Stores an image with its components, and lists it; the digest is that of its manifest.
///
/// The manifest comes last: whoever finds it finds all of the image.
pub(crate) fn seal(layout: &Layout, image: &Image, components: Vec<Staged>) -> Result<Digest, LayoutError> {
    let config = serde_json::to_vec(image).expect("an image is plain data");
    let config = layout.stage(&config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST,
        config: descriptor(MEDIA_TYPE_IMAGE, &config),
        layers: components
            .iter()
            .map(|component| descriptor(MEDIA_TYPE_COMPONENT, component))
            .collect(),
    };
    let manifest = serde_json::to_vec(&manifest).expect("a manifest is plain data");
    let manifest = layout.stage(&manifest)?;
    let listed = descriptor(MEDIA_TYPE_MANIFEST, &manifest);
    layout.commit(components.into_iter().chain([config]).collect())?;
    layout.commit(vec![manifest])?;
    layout.list(&listed)?;
    Ok(listed.digest)
}

fn descriptor(media_type: &str, blob: &Staged) -> Descriptor {
    Descriptor {
        media_type: media_type.to_string(),
        digest: blob.digest,
        size: blob.size,
    }
}
