//! Images: those of an app, one by its digest, and those that an app keeps without a release of them.
//!
//! Invariant: an image has a record once all of its blobs are durable; whoever may read one app may release the
//! images of every app.

use std::{cmp::Reverse, collections::BTreeMap};

use gilliam_model::{
    digest::Digest,
    image::{Image, PROCESSES_MAX},
    images::{ImageSummary, KeptImage},
    name::AppName,
    release::Release,
};
use gilliam_store::{keys, records};

use crate::{
    blobs::BlobsError,
    change::{Decision, change},
    refusal::Refusal,
    shared::Shared,
};

/// Images of an app without a release that are remembered: a build is either released soon or not at all.
const KEPT_MAX: usize = 32;

/// Reads an image by its digest, as it was sealed.
pub(crate) async fn load(shared: &Shared, digest: &Digest) -> Result<Image, Refusal> {
    let found = records::load_image(&shared.store, digest).await?;
    found
        .map(|stored| stored.value)
        .ok_or_else(|| Refusal::no_image(&digest.to_string()))
}

/// Makes sure that what is released can be fetched and run: a release is for ever.
pub(crate) async fn check_sealed(shared: &Shared, digest: &Digest, image: &Image) -> Result<(), Refusal> {
    let broken = |reason: String| {
        Err(Refusal::internal(&format!(
            "the build sealed {digest}, but {reason}"
        )))
    };
    if image.schema_version > Image::SCHEMA_VERSION {
        return broken(format!("its format is {}", image.schema_version));
    }
    if image.processes.is_empty() || image.processes.len() > PROCESSES_MAX {
        return broken(format!("it has {} process types", image.processes.len()));
    }
    if let Some(blob) = missing(shared, digest, image).await? {
        return broken(format!("blob {blob} is not there"));
    }
    match image
        .processes
        .values()
        .find_map(|process| process.limits.validate().err())
    {
        Some(error) => broken(error.to_string()),
        None => Ok(()),
    }
}

/// Makes sure that an image of earlier can be fetched still.
pub(crate) async fn check_there(shared: &Shared, digest: &Digest, image: &Image) -> Result<(), Refusal> {
    match missing(shared, digest, image).await? {
        Some(blob) => Err(BlobsError::Missing { digest: blob }.into_refusal()),
        None => Ok(()),
    }
}

/// A blob of the image that is not in its place.
async fn missing(shared: &Shared, digest: &Digest, image: &Image) -> Result<Option<Digest>, Refusal> {
    let components = image.processes.values().map(|process| &process.component);
    for blob in components.chain([digest]) {
        if !shared.blobs.has(blob).await.map_err(BlobsError::into_refusal)? {
            return Ok(Some(*blob));
        }
    }
    Ok(None)
}

/// Keeps an image for an app that has no release of it; of very many, those that were made last.
pub(crate) async fn keep(
    shared: &Shared,
    app: &AppName,
    kept: &KeptImage,
    image: &Image,
) -> Result<(), Refusal> {
    change(shared, app, || async {
        let stored = shared.app(app).await?;
        let (_, all) = records::list::<KeptImage>(&shared.store, &keys::kept_of(app)).await?;
        let mut others: Vec<_> = all
            .into_iter()
            .filter(|other| other.value.digest != kept.digest)
            .collect();
        others.sort_by_key(|other| Reverse(other.value.made_at));
        let mut writes = vec![
            records::put_image(&kept.digest, image),
            records::put(keys::kept(app, &kept.digest), kept),
        ];
        let dropped = others.into_iter().skip(KEPT_MAX - 1);
        writes.extend(dropped.map(|other| records::delete(other.key)));
        Ok(Decision {
            checks: vec![stored.unchanged()],
            writes,
            remark: Some(format!("image {} made by {}", kept.digest.short(), kept.author)),
            answer: (),
        })
    })
    .await
}

/// The images of an app, those that were made last first.
pub(crate) async fn of_app(shared: &Shared, app: &AppName) -> Result<Vec<ImageSummary>, Refusal> {
    // As of one revision: of an app that is destroyed meanwhile there would be none.
    let prefixes = [keys::app(app), keys::releases_of(app), keys::kept_of(app)];
    let (_, lists) = shared
        .store
        .ranges(&prefixes.each_ref().map(String::as_str))
        .await?;
    let [apps, releases, kept] = <[_; 3]>::try_from(lists).unwrap_or_default();
    if !apps.iter().any(|entry| entry.key == prefixes[0]) {
        return Err(Refusal::no_app(app.as_str()));
    }
    let mut origins: BTreeMap<Digest, KeptImage> = BTreeMap::new();
    for image in records::decode_all::<KeptImage>(kept)? {
        origins.insert(image.value.digest, image.value);
    }
    let mut users: BTreeMap<Digest, Vec<Release>> = BTreeMap::new();
    for release in records::decode_all::<Release>(releases)? {
        users.entry(release.value.image).or_default().push(release.value);
    }
    let mut digests: Vec<Digest> = origins.keys().chain(users.keys()).copied().collect();
    digests.sort_unstable();
    digests.dedup();
    let mut images = Vec::with_capacity(digests.len());
    for digest in digests {
        let image = load(shared, &digest).await?;
        let of = users.remove(&digest).unwrap_or_default();
        images.extend(summary(digest, &image, &of, origins.remove(&digest)));
    }
    images.sort_by_key(|image| Reverse(image.made_at));
    Ok(images)
}

/// What there is to say of an image; its releases are oldest first.
fn summary(
    digest: Digest,
    image: &Image,
    releases: &[Release],
    kept: Option<KeptImage>,
) -> Option<ImageSummary> {
    let first = releases.first().map(|release| KeptImage {
        digest,
        author: release.author.clone(),
        made_at: release.created_at,
        message: release.message.clone(),
    });
    let origin = kept
        .into_iter()
        .chain(first)
        .min_by_key(|origin| origin.made_at)?;
    Some(ImageSummary {
        digest,
        releases: releases.iter().map(|release| release.id).collect(),
        processes: image.processes.keys().cloned().collect(),
        bytes: image.component_bytes(),
        author: origin.author,
        made_at: origin.made_at,
        message: origin.message,
    })
}
