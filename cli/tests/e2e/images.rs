//! Images: listed, shown, and released again without a build.

use crate::platform::Platform;

#[test]
fn an_image_of_one_app_is_released_in_another_with_the_same_digest() {
    let platform = Platform::start();
    let project = platform.deploy("staging", "guestbook", &[]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    gilliam(&["config", "GREETING=hello"]).ok();
    let images = platform.json(&["images", "--app", "staging"]);
    let digest = images[0]["digest"].as_str().expect("digest").to_string();
    assert_eq!(images[0]["releases"], serde_json::json!(["v1", "v2"]));
    assert_eq!(images[0]["message"], "first");
    let listed = gilliam(&["images"]).ok();
    assert!(listed.starts_with(&digest["sha256:".len()..][..12]), "{listed}");
    assert!(
        listed.contains("v1-v2") && listed.contains("web worker"),
        "{listed}"
    );

    let shown = gilliam(&["image", "show", "v1"]).ok();
    for part in [
        &format!("image      {digest}") as &str,
        "web        http-p2, ",
        "worker     command-p2, ",
        "component  sha256:",
        "limits     memory=128MiB",
        "hosts      none",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    assert_eq!(gilliam(&["image", "show", &digest[7..19]]).ok(), shown);

    platform.run(&["create", "production", "--no-file"]).ok();
    let released = platform.run(&["deploy", "-a", "production", "--image", &digest, "-m", "promoted"]);
    assert!(
        released
            .stderr
            .contains(&format!("Releasing {digest} to production"))
    );
    assert_eq!(released.ok(), "v1 released\n");
    let releases = platform.json(&["releases", "-a", "production"]);
    assert_eq!(releases[0]["image"], digest.as_str());
    assert_eq!(releases[0]["message"], "promoted");
    platform.run(&["scale", "-a", "production", "web=1"]).ok();

    let unknown = format!("sha256:{}", "0".repeat(64));
    for (args, error) in [
        (&["deploy", "--image", &unknown][..], "no image sha256:0000"),
        (&["deploy", "--image", "v9"], "staging has no image v9"),
        (&["deploy", "--image", "0000000"], "staging has no image 0000000"),
        (&["image", "show", &unknown], "no image sha256:0000"),
    ] {
        let said = gilliam(args).refused();
        assert!(
            said.contains(error) && said.contains("hint: "),
            "{args:?}: {said}"
        );
    }
    let wrong = gilliam(&["deploy", "--image", "latest"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
}
