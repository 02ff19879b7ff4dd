//! What the manifest of an artifact says that it is: an image of gilliam, one WebAssembly component, or neither.

use gilliam_builder::{
    component::COMPONENT_BYTES_MAX,
    import::CONFIG_BYTES_MAX,
    layout::{Descriptor, MEDIA_TYPE_MANIFEST},
};
use gilliam_model::{
    api::IMAGE_ARCHIVE_BYTES_MAX,
    image::{Image, MEDIA_TYPE_COMPONENT, MEDIA_TYPE_IMAGE, PROCESSES_MAX},
    text::excerpt,
};
use serde::Deserialize;

use super::RegistryError;

/// What a registry is asked for; a list is asked for to say what it is.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";
/// Configs of container images.
const CONTAINERS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
/// Layers that are a component: CNCF "Wasm OCI Artifact Layout", and what tools wrote before it.
const COMPONENTS: [&str; 2] = [MEDIA_TYPE_COMPONENT, "application/vnd.wasm.content.layer.v1+wasm"];

/// What an artifact is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Artifact {
    /// An image of gilliam: its config, and its components.
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    /// A component alone, of any other tool.
    Component(Descriptor),
}

/// OCI image-spec 1.1, an image manifest or an index.
#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    manifests: Option<Vec<serde_json::Value>>,
}

impl Artifact {
    /// Reads a manifest; `name` is that of the artifact.
    pub(super) fn of(manifest: &[u8], name: &str) -> Result<Self, RegistryError> {
        let malformed = |reason: String| RegistryError::Malformed {
            name: name.to_string(),
            reason,
        };
        let foreign = |what: String| RegistryError::Foreign {
            name: name.to_string(),
            what,
        };
        let manifest: Manifest =
            serde_json::from_slice(manifest).map_err(|error| malformed(excerpt(&error.to_string())))?;
        if let Some(listed) = manifest.manifests {
            return Err(foreign(format!("a list of {} artifacts", listed.len())));
        }
        let config = manifest
            .config
            .ok_or_else(|| malformed("it has no config".to_string()))?;
        let layers = manifest.layers;
        if config.media_type == MEDIA_TYPE_IMAGE {
            return match layers
                .iter()
                .find(|layer| layer.media_type != MEDIA_TYPE_COMPONENT)
            {
                Some(layer) => Err(foreign(format!(
                    "an artifact with a layer of {}",
                    excerpt(&layer.media_type)
                ))),
                None => bounded(config, layers),
            };
        }
        match &layers[..] {
            _ if CONTAINERS.contains(&config.media_type.as_str()) && !is_component(&layers) => {
                Err(foreign("a container image".to_string()))
            }
            [layer] if is_component(&layers) => match layer.size > COMPONENT_BYTES_MAX {
                true => Err(too_large("the component", COMPONENT_BYTES_MAX)),
                false => Ok(Artifact::Component(layer.clone())),
            },
            _ => Err(foreign(format!(
                "an artifact of {} with {} layers",
                excerpt(&config.media_type),
                layers.len()
            ))),
        }
    }
}

/// The media type of a manifest that says nothing of its own.
pub(super) const MANIFEST: &str = MEDIA_TYPE_MANIFEST;

fn is_component(layers: &[Descriptor]) -> bool {
    matches!(layers, [layer] if COMPONENTS.contains(&layer.media_type.as_str()))
}

fn bounded(config: Descriptor, layers: Vec<Descriptor>) -> Result<Artifact, RegistryError> {
    if layers.len() > PROCESSES_MAX {
        return Err(RegistryError::Malformed {
            name: "the image".to_string(),
            reason: format!(
                "it has {} components; at most {PROCESSES_MAX} are taken",
                layers.len()
            ),
        });
    }
    if config.size > CONFIG_BYTES_MAX {
        return Err(too_large("its config", CONFIG_BYTES_MAX));
    }
    if layers.iter().any(|layer| layer.size > COMPONENT_BYTES_MAX) {
        return Err(too_large("one of its components", COMPONENT_BYTES_MAX));
    }
    let total = layers.iter().map(|layer| layer.size).sum::<u64>();
    if total > IMAGE_ARCHIVE_BYTES_MAX {
        return Err(too_large("the image", IMAGE_ARCHIVE_BYTES_MAX));
    }
    Ok(Artifact::Image { config, layers })
}

fn too_large(what: &str, max: u64) -> RegistryError {
    RegistryError::TooLarge {
        what: what.to_string(),
        max,
    }
}

/// The one field that every format of an image's config has.
#[derive(Deserialize)]
struct Versioned {
    schema_version: u64,
}

/// Reads the config of an image of gilliam.
pub(super) fn image(config: &[u8]) -> Result<Image, RegistryError> {
    let malformed = |error: serde_json::Error| RegistryError::Malformed {
        name: "the image's config".to_string(),
        reason: excerpt(&error.to_string()),
    };
    let Versioned { schema_version } = serde_json::from_slice(config).map_err(malformed)?;
    match schema_version > u64::from(Image::SCHEMA_VERSION) {
        true => Err(RegistryError::Newer {
            version: schema_version,
        }),
        false => serde_json::from_slice(config).map_err(malformed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

    fn descriptor(kind: &str, size: u64) -> Value {
        json!({ "mediaType": kind, "digest": format!("sha256:{}", "a".repeat(64)), "size": size })
    }

    fn read(config: &str, layers: &[(&str, u64)]) -> Result<Artifact, RegistryError> {
        let layers: Vec<Value> = layers
            .iter()
            .map(|(kind, size)| descriptor(kind, *size))
            .collect();
        let manifest =
            json!({ "schemaVersion": 2, "config": descriptor(config, 2), "layers": layers, "x": 1 });
        Artifact::of(manifest.to_string().as_bytes(), "h/x:1")
    }

    #[test]
    fn a_manifest_says_what_it_is() {
        let layers = [("application/wasm", 5), ("application/wasm", 7)];
        let Ok(Artifact::Image { layers, .. }) = read(MEDIA_TYPE_IMAGE, &layers) else {
            panic!("an image")
        };
        assert_eq!(layers.len(), 2);
        for config in [
            WASM_CONFIG,
            "application/vnd.oci.empty.v1+json",
            "application/vnd.wasm.config.v1+json",
        ] {
            let read = read(config, &[("application/wasm", 5)]);
            assert!(matches!(read, Ok(Artifact::Component(_))), "{config}");
        }
    }

    #[test]
    fn anything_else_is_named_for_what_it_is() {
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        let list = json!({ "schemaVersion": 2, "manifests": [{}, {}] }).to_string();
        for (read, want) in [
            (
                read(CONTAINERS[0], &[(tar, 5)]),
                "h/x:1 is a container image, not an image of gilliam",
            ),
            (
                read(MEDIA_TYPE_IMAGE, &[(tar, 5)]),
                "an artifact with a layer of application/vnd.oci",
            ),
            (
                read(
                    "application/vnd.fermyon.spin.application.v1+config",
                    &[("application/wasm", 1); 2],
                ),
                "an artifact of application/vnd.fermyon.spin.application.v1+config with 2 layers",
            ),
            (
                read(WASM_CONFIG, &[("application/wasm", 65 << 20)]),
                "the component has more than 64 MiB",
            ),
            (
                read(MEDIA_TYPE_IMAGE, &[("application/wasm", 60 << 20); 9]),
                "the image has more than 512 MiB",
            ),
            (
                read(MEDIA_TYPE_IMAGE, &[("application/wasm", u64::MAX)]),
                "one of its components has more",
            ),
            (
                read(MEDIA_TYPE_IMAGE, &[("application/wasm", 1); 65]),
                "at most 64 are taken",
            ),
            (
                Artifact::of(list.as_bytes(), "h/x:1"),
                "h/x:1 is a list of 2 artifacts",
            ),
            (Artifact::of(b"<html>", "h/x:1"), "h/x:1 cannot be read"),
            (Artifact::of(b"{}", "h/x:1"), "it has no config"),
        ] {
            let error = read.expect_err(want).to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_config_of_a_newer_format_is_told_apart() {
        let newer = image(br#"{"schema_version":7,"more":true}"#).expect_err("newer");
        assert!(matches!(newer, RegistryError::Newer { version: 7 }));
        assert!(image(br#"{"schema_version":1,"processes":{}}"#).is_ok());
        assert!(matches!(image(b"{}"), Err(RegistryError::Malformed { .. })));
    }
}
