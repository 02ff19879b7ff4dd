//! How an image is named on the command line: by its digest, by the beginning of it, by a release of the app, or by
//! its reference in a registry.

use gilliam_client::Client;
use gilliam_model::{digest::Digest, images::ImageSummary, name::AppName, release::ReleaseId};

use crate::failure::{CommandError, CommandResult};

/// Fewest digits that name an image: git's habit.
const SHORT_DIGITS_MIN: usize = 7;
const DIGITS: usize = 64;

/// A name that was given for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageName {
    /// `sha256:…`, whole.
    Digest(Digest),
    /// The beginning of the digest of one of the app's images, as `images` shows it.
    Short(String),
    /// `v3`: the image of the app's release.
    Release(ReleaseId),
    /// `registry.example.com/team/hello:v3`.
    Reference(String),
}

impl ImageName {
    /// Reads a name; whether there is such an image is another question.
    pub(crate) fn parse(text: &str) -> CommandResult<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |hex: &str| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_hex(hex) && hex.len() == DIGITS {
            let digest: Result<Digest, _> = format!("sha256:{hex}").parse();
            return digest
                .map(ImageName::Digest)
                .map_err(|error| CommandError::usage(error.to_string()));
        }
        if is_hex(hex) && (SHORT_DIGITS_MIN..DIGITS).contains(&hex.len()) {
            return Ok(ImageName::Short(hex.to_string()));
        }
        if let Ok(release) = text.parse() {
            return Ok(ImageName::Release(release));
        }
        match text.contains('/') && !text.contains("://") {
            true => Ok(ImageName::Reference(text.to_string())),
            false => Err(CommandError::usage(format!("{text:?} names no image")).hinted(
                "name a digest (sha256:…), its first digits, a release (v3), or an image in a registry: \
                     registry.example.com/team/hello:v3",
            )),
        }
    }
}

/// The image of the app that a release has, or whose digest begins with `digits`.
pub(crate) async fn among(
    client: &Client,
    app: &AppName,
    is_meant: impl Fn(&ImageSummary) -> bool,
    name: &str,
) -> CommandResult<Digest> {
    let images = client.images(app).await?;
    let found: Vec<&ImageSummary> = images.iter().filter(|image| is_meant(image)).collect();
    match found[..] {
        [image] => Ok(image.digest),
        [] => Err(CommandError::failed(format!("{app} has no image {name}"))
            .hinted("gilliam images lists those that it has")),
        _ => {
            let digests: Vec<String> = found.iter().map(|image| image.digest.to_string()).collect();
            Err(
                CommandError::failed(format!("{name} is the beginning of several images of {app}"))
                    .hinted(format!("give more digits: {}", digests.join(", "))),
            )
        }
    }
}

/// Whether a summary is of the image that a release has.
pub(crate) fn of_release(release: ReleaseId) -> impl Fn(&ImageSummary) -> bool {
    move |image| image.releases.contains(&release)
}

/// Whether a summary is of an image whose digest begins so.
pub(crate) fn beginning(digits: &str) -> impl Fn(&ImageSummary) -> bool {
    move |image| image.digest.hex().starts_with(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_the_image_is() {
        let hex = "a1".repeat(32);
        let digest = ImageName::Digest(format!("sha256:{hex}").parse().expect("digest"));
        let reference = |text: &str| ImageName::Reference(text.to_string());
        for (text, want) in [
            (format!("sha256:{hex}").as_str(), digest.clone()),
            (hex.as_str(), digest),
            ("a1b2c3d", ImageName::Short("a1b2c3d".to_string())),
            ("sha256:a1b2c3d4", ImageName::Short("a1b2c3d4".to_string())),
            ("v3", ImageName::Release("v3".parse().expect("release"))),
            ("localhost:5000/hello", reference("localhost:5000/hello")),
            ("ghcr.io/team/hello:v3", reference("ghcr.io/team/hello:v3")),
        ] {
            assert_eq!(ImageName::parse(text).expect(text), want);
        }
    }

    #[test]
    fn what_names_no_image_is_a_wrong_argument() {
        for text in ["hello", "a1b2c3", "v0", "https://ghcr.io/team/hello", ""] {
            let error = ImageName::parse(text).expect_err(text);
            assert!(error.message.contains("names no image"), "{}", error.message);
        }
    }
}
