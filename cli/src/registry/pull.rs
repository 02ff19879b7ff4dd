//! Pulling: from a registry into an image layout on this machine, and from there into an archive.

use std::{fs, io::Seek as _, path::Path};

use gilliam_builder::{
    component::COMPONENT_BYTES_MAX,
    import::{CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX},
    layout::{Descriptor, Layout, LayoutError, digest_of},
};
use gilliam_model::{digest::Digest, image::Image};
use oci_client::RegistryOperation;
use reqwest::header::HeaderValue;

use super::{Artifact, Asked, Registry, RegistryError, artifact};
use crate::{amounts, failure::CommandError, ui::Ui};

/// A manifest that was read, and may be followed.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// Its digest: the image's.
    pub(crate) digest: Digest,
    /// What it is.
    pub(crate) artifact: Artifact,
    manifest: Vec<u8>,
    by: Option<HeaderValue>,
}

impl Registry {
    /// Reads the manifest.
    pub(crate) async fn manifest(&self) -> Result<Pulled, RegistryError> {
        let wanted = self.wanted()?;
        let by = self.admit(RegistryOperation::Pull).await?;
        let answer = self.ask(Asked::Manifest, by.as_ref()).await?;
        let manifest = self.read(answer, "the manifest", MANIFEST_BYTES_MAX).await?;
        let digest = digest_of(&manifest);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            return Err(RegistryError::Damaged {
                what: "what the registry answers".to_string(),
                wanted,
                found: digest,
            });
        }
        let artifact = Artifact::of(&manifest, &self.name())?;
        Ok(Pulled {
            digest,
            artifact,
            manifest,
            by,
        })
    }

    /// Reads the config of an image: what is in it.
    pub(crate) async fn image(&self, pulled: &Pulled) -> Result<Image, RegistryError> {
        let Artifact::Image { config, .. } = &pulled.artifact else {
            return Err(self.not_an_image());
        };
        artifact::image(&self.blob(pulled, config, CONFIG_BYTES_MAX).await?)
    }

    /// The error of an artifact that is a component alone.
    pub(crate) fn not_an_image(&self) -> RegistryError {
        RegistryError::Foreign {
            name: self.name(),
            what: "a component alone".to_string(),
        }
    }

    /// Copies an image into the layout at `folder`: all of it, or nothing.
    pub(crate) async fn pull(&self, ui: &Ui, pulled: &Pulled, folder: &Path) -> Result<Image, RegistryError> {
        let Artifact::Image { config, layers } = &pulled.artifact else {
            return Err(self.not_an_image());
        };
        let layout = Layout::open(folder)?;
        let config = self.blob(pulled, config, CONFIG_BYTES_MAX).await?;
        let image = artifact::image(&config)?;
        let mut staged = vec![layout.stage(&config)?];
        for layer in layers {
            let label = format!(
                "Pulling {} ({})",
                layer.digest.short(),
                amounts::bytes(layer.size)
            );
            let spinner = ui.spinner(&label);
            staged.push(layout.stage(&self.blob(pulled, layer, COMPONENT_BYTES_MAX).await?)?);
            spinner.finish("done");
        }
        layout.commit(staged)?;
        layout.commit(vec![layout.stage(&pulled.manifest)?])?;
        layout.list(&Descriptor {
            media_type: artifact::MANIFEST.to_string(),
            digest: pulled.digest,
            size: pulled.manifest.len() as u64,
        })?;
        Ok(image)
    }

    /// Reads a blob, which has the digest and the size that its descriptor says.
    pub(crate) async fn blob(
        &self,
        pulled: &Pulled,
        blob: &Descriptor,
        bytes_max: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let what = format!("the blob {}", blob.digest);
        let answer = self.ask(Asked::Blob(&blob.digest), pulled.by.as_ref()).await?;
        let bytes = self.read(answer, &what, bytes_max.min(blob.size)).await?;
        match digest_of(&bytes) {
            found if found == blob.digest => Ok(bytes),
            found => Err(RegistryError::Damaged {
                what,
                wanted: blob.digest,
                found,
            }),
        }
    }
}

/// The layout at `folder`, which holds one image, as a tar archive: open at its beginning, gone when closed.
pub(crate) fn archive(folder: &Path) -> Result<(fs::File, u64), CommandError> {
    let write = || {
        let mut tar = tar::Builder::new(tempfile::tempfile()?);
        tar.mode(tar::HeaderMode::Deterministic);
        tar.append_path_with_name(folder.join("oci-layout"), "oci-layout")?;
        tar.append_path_with_name(folder.join("index.json"), "index.json")?;
        tar.append_dir_all("blobs", folder.join("blobs"))?;
        let mut file = tar.into_inner()?;
        let bytes = file.stream_position()?;
        file.rewind()?;
        Ok((file, bytes))
    };
    write().map_err(|error| CommandError::file("cannot write the archive of the image", &error))
}

impl From<LayoutError> for CommandError {
    fn from(error: LayoutError) -> Self {
        RegistryError::from(error).into()
    }
}
