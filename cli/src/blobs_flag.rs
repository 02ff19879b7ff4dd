//! Where a control plane keeps images: flags that `up` and `server` have alike.
//!
//! In: flags, variables. Out: a place that was found to be the cluster's, and writable.

use std::path::Path;

use gilliam_scheduler::{Blobs, BlobsPlace};
use gilliam_store::Store;

use crate::{
    failure::{CommandError, CommandResult},
    home::Environment,
};

/// Where images are kept.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Images")]
pub(crate) struct BlobsFlags {
    /// Keeps images in a folder, or in `s3://BUCKET[/PREFIX][?region=NAME&endpoint=URL&ca=FILE]`.
    ///
    /// Without it: in the folder `images` of the data folder. All servers on one store share one place. GILLIAM_BLOBS
    /// is taken when the flag is not given; credentials, region and endpoint of a bucket may be in the variables
    /// that AWS programs read (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL …).
    #[arg(long = "blobs", value_name = "PLACE")]
    place: Option<String>,
    /// Takes this place although the images of the cluster were in another, which is lost or was copied here.
    #[arg(long)]
    adopt_blobs: bool,
}

impl BlobsFlags {
    /// The place that is named; none when images are in the data folder.
    pub(crate) fn place(&self, environment: &Environment) -> CommandResult<Option<BlobsPlace>> {
        let named = self.place.as_ref().or(environment.blobs.as_ref());
        let parsed = named.map(|text| BlobsPlace::parse(text, &environment.aws));
        parsed
            .transpose()
            .map_err(|error| CommandError::usage(error.to_string()).hinted(error.hint()))
    }

    /// Opens the place, for the control plane on `store` whose data folder is `data`.
    pub(crate) async fn open(
        &self,
        place: Option<BlobsPlace>,
        store: &Store,
        data: &Path,
    ) -> CommandResult<Blobs> {
        let place = place.unwrap_or_else(|| BlobsPlace::Folder(data.join("images")));
        Ok(Blobs::of(store, &place, data, self.adopt_blobs).await?)
    }
}
