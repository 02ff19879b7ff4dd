//! Images: listed with the releases that use them, read blob by blob, and released again by their digest.

mod harness;

use gilliam_model::{
    api::ReleaseInfo,
    images::{ImageSummary, StoredImage},
};
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
