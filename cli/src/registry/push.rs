//! Pushing: from the cluster into a registry, blob by blob.
//!
//! Invariant: the manifest goes last, so that who finds the image there finds all of it.

use gilliam_builder::{
    component::COMPONENT_BYTES_MAX,
    import::{CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX},
    layout::digest_of,
};
use gilliam_client::Client;
use gilliam_model::digest::Digest;
use oci_client::RegistryOperation;
use reqwest::header::HeaderValue;

use super::{Artifact, Registry, RegistryError, artifact};
use crate::{amounts, failure::CommandResult, ui::Ui};

impl Registry {
    /// Copies an image of the cluster into the repository, where the reference's tag names it then.
    pub(crate) async fn push(&self, ui: &Ui, cluster: &Client, image: &Digest) -> CommandResult {
        if let Some(wanted) = self.wanted()?.filter(|wanted| wanted != image) {
            return Err(RegistryError::Damaged {
                what: "the image".to_string(),
                wanted,
                found: *image,
            }
            .into());
        }
        let manifest = fetch(cluster, image, image, MANIFEST_BYTES_MAX).await?;
        let Artifact::Image { config, layers } = Artifact::of(&manifest, &image.to_string())? else {
            return Err(self.not_an_image().into());
        };
        self.admit(RegistryOperation::Push).await?;
        let blobs = layers.iter().map(|layer| (layer, COMPONENT_BYTES_MAX));
        for (blob, bytes_max) in blobs.chain([(&config, CONFIG_BYTES_MAX)]) {
            let label = format!("Pushing {} ({})", blob.digest.short(), amounts::bytes(blob.size));
            let spinner = ui.spinner(&label);
            let name = blob.digest.to_string();
            let is_there = self.oci.blob_exists(&self.reference, &name).await;
            if is_there.map_err(|error| self.failed(error))? {
                spinner.finish("there already");
                continue;
            }
            let bytes = fetch(cluster, image, &blob.digest, bytes_max).await?;
            let sent = self.oci.push_blob(&self.reference, bytes, &name).await;
            sent.map_err(|error| self.failed(error))?;
            spinner.finish("done");
        }
        let media_type = HeaderValue::from_static(artifact::MANIFEST);
        let sent = self
            .oci
            .push_manifest_raw(&self.reference, manifest, media_type)
            .await;
        sent.map_err(|error| self.failed(error))?;
        Ok(())
    }
}

/// A blob of an image of the cluster, as its digest says.
async fn fetch(cluster: &Client, image: &Digest, blob: &Digest, bytes_max: u64) -> CommandResult<Vec<u8>> {
    let mut bytes = Vec::new();
    cluster
        .fetch_image_blob(image, blob, bytes_max, &mut bytes)
        .await?;
    match digest_of(&bytes) {
        found if found == *blob => Ok(bytes),
        found => Err(RegistryError::Damaged {
            what: "what the cluster answers".to_string(),
            wanted: *blob,
            found,
        }
        .into()),
    }
}
