//! Images: listed, shown, released again without a build, and carried between clusters by a real registry.

use crate::{
    platform::{Platform, client_builder},
    registry::Registry,
};

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

/// What the registry's own API answers, as any client of it would see.
fn get(url: &str, accept: &str) -> (u16, Vec<u8>, Option<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let client = client_builder().build().expect("client");
        let answer = client
            .get(url)
            .header("accept", accept)
            .send()
            .await
            .expect("an answer");
        let digest = answer.headers().get("docker-content-digest");
        let digest = digest.map(|value| value.to_str().expect("text").to_string());
        (
            answer.status().as_u16(),
            answer.bytes().await.expect("a body").to_vec(),
            digest,
        )
    })
}

fn puts(url: &str, kind: &str, bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let bytes = bytes.to_vec();
    runtime.block_on(async {
        let client = client_builder().build().expect("client");
        let request = client.put(url).header("content-type", kind).body(bytes);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
    });
}

/// Uploads a blob as other tools do.
fn upload(registry: &Registry, name: &str, bytes: &[u8]) -> String {
    let digest = gilliam_builder::layout::digest_of(bytes).to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let location = runtime.block_on(async {
        let client = client_builder().build().expect("client");
        let begin = client.post(format!("http://{}/v2/{name}/blobs/uploads/", registry.host));
        let answer = begin.header("content-length", 0).send().await.expect("an answer");
        answer.headers()["location"].to_str().expect("text").to_string()
    });
    let separator = if location.contains('?') { '&' } else { '?' };
    puts(
        &format!("{location}{separator}digest={digest}"),
        "application/octet-stream",
        bytes,
    );
    digest
}

fn manifest_of(config: (&str, &[u8], &str), layer: (&str, &[u8], &str)) -> Vec<u8> {
    let descriptor = |(kind, bytes, digest): (&str, &[u8], &str)| {
        let size = bytes.len();
        serde_json::json!({ "mediaType": kind, "digest": digest, "size": size })
    };
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(config), "layers": [descriptor(layer)] });
    serde_json::to_vec(&manifest).expect("JSON")
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn an_image_goes_through_a_registry_to_another_cluster_with_one_digest() {
    let registry = Registry::start();
    let (home, away) = (Platform::start(), Platform::start());
    let project = home.deploy("guestbook", "guestbook", &[]);
    let digest = home.json(&["images", "-a", "guestbook"])[0]["digest"]
        .as_str()
        .expect("digest")
        .to_string();
    let reference = format!("{}/team/guestbook:v1", registry.host);

    let pushed = home.run_in(&project, &["image", "push", "v1", &reference]);
    assert!(
        pushed.stderr.matches("Pushing ").count() >= 3,
        "{}",
        pushed.stderr
    );
    assert_eq!(pushed.ok(), format!("{reference} is {digest}\n"));
    let again = home.run_in(&project, &["image", "push", &digest, &reference]);
    assert_eq!(
        again.stderr.matches("there already").count(),
        3,
        "{}",
        again.stderr
    );

    // Any client of registries reads it.
    let url = format!("http://{}/v2/team/guestbook/manifests/v1", registry.host);
    let (status, manifest, served) = get(&url, MANIFEST);
    assert_eq!((status, served.as_deref()), (200, Some(digest.as_str())));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.gilliam.image.config.v1+json"
    );
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(2));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");

    let shown = away.run(&["image", "show", &reference]).ok();
    assert!(shown.starts_with(&format!("image      {digest}\n")), "{shown}");
    assert_eq!(shown, home.run_in(&project, &["image", "show", "v1"]).ok());
    away.run(&["create", "copy"]).ok();
    let released = away.run(&["deploy", "--image", &reference, "--scale", "web=1"]);
    assert!(
        released.stderr.contains(&format!("Stored image {digest}")),
        "{}",
        released.stderr
    );
    assert_eq!(released.ok(), "v1 released\n");
    let releases = away.json(&["releases"]);
    assert_eq!(releases[0]["image"], digest.as_str());
    assert_eq!(releases[0]["message"], format!("image {reference}"));
    let (status, body, _) = get_app(&away, "copy");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));

    // By its digest; and it is there already.
    let by_digest = format!("{}/team/guestbook@{digest}", registry.host);
    let second = away.run(&["deploy", "--image", &by_digest, "--no-wait"]);
    assert!(!second.stderr.contains("Pulling"), "{}", second.stderr);
    assert_eq!(second.ok(), "v2 released\n");
    assert_eq!(
        away.run(&["image", "pull", &reference]).ok(),
        format!("{digest}\n")
    );
    let layout = away.root().join("layout");
    let pulled = away.run(&["image", "pull", &reference, "-o", layout.to_str().expect("UTF-8")]);
    assert_eq!(pulled.ok(), format!("{digest}\n"));
    assert!(
        layout
            .join("blobs/sha256")
            .join(&digest["sha256:".len()..])
            .is_file()
    );
}

fn get_app(platform: &Platform, app: &str) -> (u16, Vec<u8>, Option<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let client = client_builder().build().expect("client");
        let request = client
            .get(platform.http())
            .header("host", format!("{app}.localhost"));
        let answer = request.send().await.expect("an answer");
        (
            answer.status().as_u16(),
            answer.bytes().await.expect("a body").to_vec(),
            None,
        )
    })
}

#[test]
fn a_registry_that_wants_a_password_gets_the_users_own() {
    let registry = Registry::with_password();
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &[]);
    let reference = format!("{}/guestbook:v1", registry.host);
    let push = ["image", "push", "v1", &reference];
    let said = platform.run_in(&project, &push).refused();
    assert!(
        said.contains("does not let anybody do this with guestbook"),
        "{said}"
    );
    assert!(
        said.contains(&format!("hint: docker login {}", registry.host)),
        "{said}"
    );
    assert_eq!(registry.blobs(), 0);

    let login = ["--username", "aladdin", "--password-stdin"];
    let wrong = platform
        .run_with_input(&project, &[&push[..], &login].concat(), "wrong\n")
        .refused();
    assert!(wrong.contains("does not let aladdin do this"), "{wrong}");
    let input = "open sesame\n";
    platform
        .run_with_input(&project, &[&push[..], &login].concat(), input)
        .ok();
    let none = platform.run_with_input(&project, &[&push[..], &login].concat(), "\n");
    assert_eq!(none.status.code(), Some(2), "{}", none.stderr);
    let alone = platform.run_in(
        &project,
        &["image", "push", "v1", &reference, "--username", "aladdin"],
    );
    assert_eq!(alone.status.code(), Some(2), "{}", alone.stderr);

    // What `docker login` writes.
    let config =
        serde_json::json!({ "auths": { &registry.host: { "auth": "YWxhZGRpbjpvcGVuIHNlc2FtZQ==" } } });
    std::fs::create_dir_all(platform.root().join(".docker")).expect("folder");
    std::fs::write(platform.root().join(".docker/config.json"), config.to_string()).expect("config");
    let shown = platform.run(&["image", "show", &reference]).ok();
    assert!(shown.contains("web        http-p2"), "{shown}");
    std::fs::write(platform.root().join(".docker/config.json"), "{").expect("config");
    let broken = platform.run(&["image", "show", &reference]).refused();
    assert!(
        broken.contains("docker's config has no usable credentials"),
        "{broken}"
    );
}

#[test]
fn what_a_registry_lacks_or_lies_about_is_told_and_nothing_of_it_stays() {
    let registry = Registry::start();
    let platform = Platform::start();
    let project = platform.deploy("guestbook", "guestbook", &[]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    let host = registry.host.as_str();
    let good = format!("{host}/guestbook:v1");
    gilliam(&["image", "push", "v1", &good]).ok();
    platform.run(&["create", "other", "--no-file"]).ok();
    let blobs = || {
        std::fs::read_dir(platform.data().join("images/blobs/sha256"))
            .expect("blobs")
            .count()
    };
    let before = blobs();

    // A container's image, as any registry is full of.
    let (config, layer) = (
        upload(&registry, "nginx", b"{}"),
        upload(&registry, "nginx", b"a tar"),
    );
    let container = manifest_of(
        ("application/vnd.oci.image.config.v1+json", b"{}", &config),
        ("application/vnd.oci.image.layer.v1.tar", b"a tar", &layer),
    );
    puts(
        &format!("http://{host}/v2/nginx/manifests/latest"),
        MANIFEST,
        &container,
    );
    let unknown = format!("{host}/guestbook@sha256:{}", "0".repeat(64));
    for (reference, error) in [
        (format!("{host}/guestbook:v9"), "has no "),
        (format!("{host}/nobody/nothing:v1"), "has no "),
        (unknown, "has no "),
        (
            format!("{host}/nginx"),
            "is a container image, not an image of gilliam",
        ),
        (
            "127.0.0.1:9/guestbook:v1".to_string(),
            "cannot reach the registry 127.0.0.1:9",
        ),
        (
            "no-such-host.invalid/guestbook:v1".to_string(),
            "cannot reach the registry no-such-host.invalid",
        ),
    ] {
        let said = platform
            .run(&["deploy", "-a", "other", "--image", &reference])
            .refused();
        assert!(
            said.contains(error) && said.contains("hint: "),
            "{reference}: {said}"
        );
    }
    let shouted = platform.run(&["deploy", "-a", "other", "--image", &format!("{host}/UPPER:v1")]);
    assert_eq!(shouted.status.code(), Some(2), "{}", shouted.stderr);

    // A disk that lies: the cluster has the image, so that it is pulled into a folder.
    let shown = platform.json(&["image", "show", &good]);
    let component = shown["image"]["processes"]["web"]["component"]
        .as_str()
        .expect("digest")
        .to_string();
    registry.spoil(&component);
    let layout = platform.root().join("layout");
    let pull = ["image", "pull", &good, "-o", layout.to_str().expect("UTF-8")];
    let said = platform.run(&pull).refused();
    assert!(
        said.contains(&format!("the blob {component} is sha256:")),
        "{said}"
    );
    assert_eq!(
        std::fs::read_dir(layout.join("blobs/sha256"))
            .expect("blobs")
            .count(),
        0
    );
    let said = platform.run(&["image", "pull", "-a", "other", &good]).refused();
    assert!(said.contains("hint: push the image to it again"), "{said}");

    assert_eq!(blobs(), before, "nothing of all that came into the cluster");
    assert_eq!(platform.json(&["images", "-a", "other"]), serde_json::json!([]));
    assert_eq!(platform.json(&["releases", "-a", "other"]), serde_json::json!([]));
}

#[test]
fn an_image_that_lies_about_itself_is_refused_by_the_cluster() {
    let registry = Registry::start();
    let platform = Platform::start();
    platform.run(&["create", "hello"]).ok();
    let compiled = b"\x7fELF compiled elsewhere";
    let layer = upload(&registry, "evil", compiled);
    let config = serde_json::json!({ "schema_version": 1, "processes": { "web": {
        "component": layer, "component_bytes": compiled.len(), "shape": "http-p2",
        "command": "web.wasm", "args": ["web.wasm"] } } });
    let config = serde_json::to_vec(&config).expect("JSON");
    let name = upload(&registry, "evil", &config);
    let manifest = manifest_of(
        ("application/vnd.gilliam.image.config.v1+json", &config, &name),
        ("application/wasm", compiled, &layer),
    );
    puts(
        &format!("http://{}/v2/evil/manifests/v1", registry.host),
        MANIFEST,
        &manifest,
    );
    let reference = format!("{}/evil:v1", registry.host);
    let said = platform.run(&["deploy", "--image", &reference]).refused();
    assert!(
        said.contains("web is compiled code, which is never taken"),
        "{said}"
    );
    assert_eq!(platform.json(&["images"]), serde_json::json!([]));
    let kept = std::fs::read_dir(platform.data().join("images/blobs/sha256"));
    assert_eq!(kept.map_or(0, Iterator::count), 0, "nothing of it is stored");
}

#[test]
fn a_component_that_another_tool_pushed_is_released_as_what_it_does() {
    let registry = Registry::start();
    let platform = Platform::start();
    let sample = platform.sample("guestbook");
    platform.run(&["create", "hello"]).ok();
    for (tag, file, process) in [("web", "web.wasm", "web"), ("worker", "worker.wasm", "worker")] {
        let bytes = std::fs::read(sample.join(file)).expect("the sample");
        let (config, layer) = (
            upload(&registry, "foreign", b"{}"),
            upload(&registry, "foreign", &bytes),
        );
        let manifest = manifest_of(
            ("application/vnd.wasm.config.v0+json", b"{}", &config),
            ("application/wasm", &bytes, &layer),
        );
        puts(
            &format!("http://{}/v2/foreign/manifests/{tag}", registry.host),
            MANIFEST,
            &manifest,
        );
        let reference = format!("{}/foreign:{tag}", registry.host);
        platform.run(&["deploy", "--image", &reference]).ok();
        let releases = platform.json(&["releases"]);
        let processes = releases[0]["processes"].as_object().expect("processes");
        assert_eq!(processes.keys().collect::<Vec<_>>(), [process]);
        assert_eq!(releases[0]["message"], format!("image {reference}"));
        let shown = platform.run(&["image", "pull", &reference]).refused();
        assert!(
            shown.contains("a component alone") && shown.contains("deploy --image"),
            "{shown}"
        );
    }
}
