//! Images: listed with the releases that use them, read blob by blob, and released again by their digest.

mod harness;

use gilliam_model::{
    api::{DeployEvent, ReleaseInfo},
    digest::Digest,
    images::{ImageSummary, StoredImage},
};
use harness::{Plane, read};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn an_image_is_released_again_by_its_digest_in_any_app() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.create("other").await;
    let first = plane.deploy("hello", "image web").await;
    plane.deploy("hello", "image web worker").await;
    let again = json!({ "image": first.image });
    let answer = plane.post("/v1/apps/hello/releases", again.clone()).await.ok();
    let third: ReleaseInfo = answer.json();
    assert_eq!((third.id.to_string().as_str(), third.image), ("v3", first.image));
    assert_eq!(third.message, format!("image {}", first.image.short()));
    let message = json!({ "image": first.image, "message": "promoted", "migrate": false });
    let elsewhere: ReleaseInfo = plane.post("/v1/apps/other/releases", message).await.ok().json();
    assert_eq!(
        (elsewhere.id.to_string().as_str(), elsewhere.message.as_str()),
        ("v1", "promoted")
    );
    assert_eq!(elsewhere.image, first.image);

    let images: Vec<ImageSummary> = plane.get("/v1/apps/hello/images").await.ok().json();
    let releases =
        |image: &ImageSummary| -> Vec<String> { image.releases.iter().map(ToString::to_string).collect() };
    assert_eq!(images.len(), 2);
    assert_eq!(releases(&images[0]), ["v2"]);
    assert_eq!(releases(&images[1]), ["v1", "v3"]);
    assert_eq!(
        (images[1].digest, images[1].author.as_str()),
        (first.image, "admin")
    );
    assert_eq!(
        images[0].bytes, 11,
        "a component that two processes share counts once"
    );

    let path = format!("/v1/images/{}", first.image);
    let stored: StoredImage = plane.get(&path).await.ok().json();
    assert_eq!((stored.digest, stored.image.processes.len()), (first.image, 1));
    let manifest = plane.get(&format!("{path}/blobs/{}", first.image)).await.ok();
    assert!(manifest.text.contains("schema_version"), "{}", manifest.text);
}

/// Sends an archive to `path` and gives the lines of output, and the digest of the image that came of it.
async fn made(plane: &Plane, path: &str, archive: &str) -> (Vec<String>, Digest) {
    let answer = read(plane.send(Method::POST, path, &plane.admin, Some(archive)).await)
        .await
        .ok();
    let mut lines = Vec::new();
    for line in answer.text.lines() {
        match serde_json::from_str(line).expect("an event") {
            DeployEvent::Output { line } => lines.push(line),
            DeployEvent::Built { digest, .. } => return (lines, digest),
            other => panic!("{other:?}"),
        }
    }
    panic!("no image: {lines:?}")
}

#[tokio::test]
async fn an_image_is_kept_without_a_release_until_it_is_released_by_its_digest() {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    let (lines, built) = made(&plane, "/v1/apps/hello/build", "image web").await;
    assert_eq!(lines, ["-----> Building: image web"]);
    let (lines, _) = made(&plane, "/v1/apps/hello/build?clean=true", "image web").await;
    assert_eq!(lines, ["-----> Building: image web (clean)"]);
    let (lines, pulled) = made(
        &plane,
        "/v1/apps/hello/images?message=image+host/x",
        "image web worker",
    )
    .await;
    assert_eq!(lines, ["-----> Building: image web worker (an image)"]);
    let images: Vec<ImageSummary> = plane.get("/v1/apps/hello/images").await.ok().json();
    let said: Vec<(Digest, &str, usize)> = images
        .iter()
        .map(|image| (image.digest, image.message.as_str(), image.releases.len()))
        .collect();
    assert_eq!(said, [(pulled, "image host/x", 0), (built, "built", 0)]);
    let releases: Vec<ReleaseInfo> = plane.get("/v1/apps/hello/releases").await.ok().json();
    assert!(releases.is_empty());
    let release: ReleaseInfo = plane
        .post("/v1/apps/hello/releases", json!({ "image": built }))
        .await
        .ok()
        .json();
    assert_eq!(release.image, built);
    let images: Vec<ImageSummary> = plane.get("/v1/apps/hello/images").await.ok().json();
    assert_eq!(images[1].releases, [release.id]);
    assert_eq!(
        std::fs::read_dir(data.path().join("tmp")).expect("tmp").count(),
        0
    );

    // What goes with the app does not come back with another one of its name.
    plane.delete("/v1/apps/hello").await;
    plane.create("hello").await;
    let images: Vec<ImageSummary> = plane.get("/v1/apps/hello/images").await.ok().json();
    assert!(images.is_empty(), "{images:?}");
}

#[tokio::test]
async fn an_app_remembers_the_last_images_that_it_did_not_release() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    for n in 0..34 {
        made(&plane, "/v1/apps/hello/build", &format!("image web p{n}")).await;
    }
    let images: Vec<ImageSummary> = plane.get("/v1/apps/hello/images").await.ok().json();
    assert_eq!(images.len(), 32);
    assert_eq!(images[0].processes[0].as_str(), "p33");
    assert_eq!(images[31].processes[0].as_str(), "p2");
}

#[tokio::test]
async fn a_build_that_fails_keeps_no_image() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    let answer = plane
        .send(Method::POST, "/v1/apps/hello/build", &plane.admin, Some("refuse"))
        .await;
    let text = read(answer).await.ok().text;
    assert!(
        text.contains(r#""type":"failed""#) && text.contains("B12"),
        "{text}"
    );
    let images: Vec<ImageSummary> = plane.get("/v1/apps/hello/images").await.ok().json();
    assert!(images.is_empty());
    for path in ["/v1/apps/ghost/build", "/v1/apps/ghost/images"] {
        let answer = plane
            .send(Method::POST, path, &plane.admin, Some("image web"))
            .await;
        read(answer).await.refused(404, "A404", "no app");
    }
    let message = "x".repeat(5_000);
    let path = format!("/v1/apps/hello/build?message={message}");
    let answer = plane
        .send(Method::POST, &path, &plane.admin, Some("image web"))
        .await;
    read(answer)
        .await
        .refused(422, "A422", "the message has 5000 bytes");
}

#[tokio::test]
async fn what_is_no_image_is_not_released_and_not_read() {
    let (plane, data) = harness::fresh().await;
    plane.create("hello").await;
    let release = plane.deploy("hello", "image web").await;
    let unknown = format!("sha256:{}", "b".repeat(64));
    for (body, status, code, message) in [
        (json!({ "image": unknown }), 404, "A404", "no image sha256:bbbb"),
        (json!({ "image": "latest" }), 422, "A422", "is not a digest"),
        (json!({}), 422, "A422", "missing field `image`"),
        (
            json!({ "image": release.image, "message": "x".repeat(10_000) }),
            422,
            "A422",
            "the message has 10000 bytes",
        ),
    ] {
        plane
            .post("/v1/apps/hello/releases", body)
            .await
            .refused(status, code, message);
    }
    plane
        .post("/v1/apps/ghost/releases", json!({ "image": release.image }))
        .await
        .refused(404, "A404", "no app");
    plane
        .get("/v1/apps/ghost/images")
        .await
        .refused(404, "A404", "no app");
    for name in [unknown.as_str(), "..%2Fsecret", "latest"] {
        plane
            .get(&format!("/v1/images/{name}"))
            .await
            .refused(404, "A404", "no image");
    }
    let blob = format!("/v1/images/{}/blobs/..%2F..%2Fstore.redb", release.image);
    plane.get(&blob).await.refused(404, "A404", "has no blob");

    // A record alone is not enough: what is gone from the place cannot run.
    let blobs = data.path().join("images/blobs/sha256");
    std::fs::remove_file(blobs.join(release.image.hex())).expect("the manifest");
    plane
        .post("/v1/apps/hello/releases", json!({ "image": release.image }))
        .await
        .refused(404, "A404", "no blob");
    let releases: Vec<ReleaseInfo> = plane.get("/v1/apps/hello/releases").await.ok().json();
    assert_eq!(releases.len(), 1, "a refused release is not made");
}
