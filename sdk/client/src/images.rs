//! The calls about images by their digest.

use gilliam_model::{
    api::ReleaseInfo,
    digest::Digest,
    images::{ImageSummary, MakeRelease, StoredImage},
    name::AppName,
};
use reqwest::Method;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Client, ClientError, DeployStream, apps::PROBED_TIMEOUT};

impl Client {
    /// The images of an app, those that were made last first.
    pub async fn images(&self, app: &AppName) -> Result<Vec<ImageSummary>, ClientError> {
        self.get(&format!("/v1/apps/{app}/images")).await
    }

    /// An image that the cluster has.
    pub async fn stored_image(&self, digest: &Digest) -> Result<StoredImage, ClientError> {
        self.get(&format!("/v1/images/{digest}")).await
    }

    /// Releases an image that the cluster has.
    pub async fn release_image(
        &self,
        app: &AppName,
        release: &MakeRelease,
    ) -> Result<ReleaseInfo, ClientError> {
        let call = self.request(Method::POST, &format!("/v1/apps/{app}/releases"));
        self.json(call.json(release).timeout(PROBED_TIMEOUT)).await
    }

    /// Sends an archive of `archive_bytes` bytes to be built into an image of the app, and streams the build.
    pub async fn build(
        &self,
        app: &AppName,
        message: Option<&str>,
        clean: bool,
        archive: impl AsyncRead + Send + Unpin + 'static,
        archive_bytes: u64,
    ) -> Result<DeployStream, ClientError> {
        let mut query: Vec<(&str, String)> = Vec::new();
        query.extend(message.map(|text| ("message", text.to_string())));
        query.extend(clean.then(|| ("clean", true.to_string())));
        self.upload(&format!("/v1/apps/{app}/build"), &query, archive, archive_bytes)
            .await
    }

    /// Sends an image that was sealed elsewhere, as the tar archive of an OCI image layout, to be checked and kept.
    pub async fn import_image(
        &self,
        app: &AppName,
        message: Option<&str>,
        archive: impl AsyncRead + Send + Unpin + 'static,
        archive_bytes: u64,
    ) -> Result<DeployStream, ClientError> {
        let query: Vec<(&str, String)> = message
            .map(|text| ("message", text.to_string()))
            .into_iter()
            .collect();
        self.upload(&format!("/v1/apps/{app}/images"), &query, archive, archive_bytes)
            .await
    }

    /// Copies a blob of an image into `writer` and returns its length; one longer than `bytes_max` is an error.
    ///
    /// The content is not checked here: it is verified by digest where it is used.
    pub async fn fetch_image_blob(
        &self,
        image: &Digest,
        blob: &Digest,
        bytes_max: u64,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, ClientError> {
        let call = self.request(Method::GET, &format!("/v1/images/{image}/blobs/{blob}"));
        self.copy(call, &format!("blob {blob}"), bytes_max, writer).await
    }
}
