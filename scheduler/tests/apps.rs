//! Apps, config, scale, releases: what users ask, and every bad way to ask it.

mod harness;

use gilliam_model::api::{ApiError, AppInfo, ConfigInfo, ReleaseInfo, ScaleInfo, Status};
use harness::read;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn an_app_is_created_once_listed_and_destroyed() {
    let (plane, _data) = harness::fresh().await;
    let answer = plane.post("/v1/apps", json!({ "name": "guestbook" })).await.ok();
    assert_eq!(answer.status, 201);
    let app: AppInfo = answer.json();
    assert_eq!(
        (app.name.as_str(), app.latest, app.running),
        ("guestbook", None, 0)
    );
    let again = plane.post("/v1/apps", json!({ "name": "guestbook" })).await;
    again.refused(409, "A409", "app guestbook exists already");
    let apps: Vec<AppInfo> = plane.get("/v1/apps").await.ok().json();
    assert_eq!(apps, [app]);
    assert_eq!(plane.delete("/v1/apps/guestbook").await.status, 204);
    plane
        .delete("/v1/apps/guestbook")
        .await
        .refused(404, "A404", r#"no app "guestbook""#);
    assert!(plane.get("/v1/apps").await.ok().json::<Vec<AppInfo>>().is_empty());
}

#[tokio::test]
async fn bad_names_are_refused_with_the_rule_they_break() {
    let (plane, _data) = harness::in_memory().await;
    let long = "a".repeat(64);
    for (name, rule) in [
        ("", "is empty"),
        ("..", "must begin with a lower-case letter"),
        ("../x", "must begin with a lower-case letter"),
        ("my app", "only lower-case letters, digits and dashes"),
        ("Guestbook", "must begin with a lower-case letter"),
        ("a-", "must not end with a dash"),
        ("a\u{0}b", "only lower-case letters, digits and dashes"),
        (&long, "longer than 63 characters"),
    ] {
        plane
            .post("/v1/apps", json!({ "name": name }))
            .await
            .refused(422, "A422", rule);
    }
    assert!(plane.get("/v1/apps").await.ok().json::<Vec<AppInfo>>().is_empty());
}

#[tokio::test]
async fn an_app_that_is_not_there_is_404_everywhere() {
    let (plane, _data) = harness::in_memory().await;
    for name in ["ghost", "..%2F..%2Fetc", "Ghost", "a%00b"] {
        for (method, rest, body) in [
            (Method::GET, "", None),
            (Method::DELETE, "", None),
            (Method::POST, "/deploy", Some("image web")),
            (Method::GET, "/releases", None),
            (Method::POST, "/rollback", Some("{}")),
            (Method::GET, "/config", None),
            (
                Method::PATCH,
                "/config",
                Some(r#"{"change":{"set":{"A":"1"}},"migrate":true}"#),
            ),
            (Method::GET, "/limits", None),
            (
                Method::PATCH,
                "/limits",
                Some(r#"{"change":{"process":"web","set":{"cpu_millis":250}},"migrate":true}"#),
            ),
            (Method::GET, "/scale", None),
            (Method::PATCH, "/scale", Some(r#"{"counts":{"web":1}}"#)),
            (Method::GET, "/instances", None),
            (Method::POST, "/restart", Some("{}")),
            (Method::GET, "/logs", None),
        ] {
            let path = format!("/v1/apps/{name}{rest}");
            let answer = read(plane.send(method, &path, &plane.admin, body).await).await;
            let error = answer.refused(404, "A404", "no app \"");
            assert_eq!(error.hint.as_deref(), Some("gilliam apps lists them"), "{path}");
        }
    }
}

#[tokio::test]
async fn what_axum_would_refuse_is_refused_in_our_words() {
    let (plane, _data) = harness::in_memory().await;
    plane.create("hello").await;
    let send = async |method, path: &str, body: Option<&str>| {
        read(plane.send(method, path, &plane.admin, body).await).await
    };
    send(Method::GET, "/v1/nothing", None)
        .await
        .refused(404, "A404", "no such path: /v1/nothing");
    send(Method::GET, "/", None)
        .await
        .refused(404, "A404", "no such path: /");
    send(Method::PUT, "/v1/apps", None)
        .await
        .refused(405, "A400", "PUT is not a method of /v1/apps");
    send(Method::POST, "/v1/apps", Some("{"))
        .await
        .refused(400, "A400", "not JSON");
    send(Method::POST, "/v1/apps", Some("[]"))
        .await
        .refused(422, "A422", "");
    send(Method::POST, "/v1/apps", Some(r#"{"name":"x","owner":"me"}"#))
        .await
        .refused(422, "A422", "owner");
    send(Method::POST, "/v1/apps", Some(r#"{"name":"x","name":"y"}"#))
        .await
        .refused(422, "A422", "duplicate");
    let deep = "[".repeat(100_000);
    send(Method::POST, "/v1/apps", Some(&deep))
        .await
        .refused(422, "A422", "sequence");
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(2 << 20));
    send(Method::POST, "/v1/apps", Some(&large))
        .await
        .refused(413, "A413", "larger than 1048576 bytes");
    for (query, want) in [
        ("lines=x", "lines"),
        ("lines=-1", "lines"),
        ("follow=maybe", "follow"),
        ("tail=1", "tail"),
    ] {
        let path = format!("/v1/apps/hello/logs?{query}");
        send(Method::GET, &path, None).await.refused(400, "A400", want);
    }
    for (query, want) in [
        ("lines=1501", "1501"),
        ("source=a%20b", "a b"),
        ("source=", "\"\""),
    ] {
        let path = format!("/v1/apps/hello/logs?{query}");
        send(Method::GET, &path, None).await.refused(422, "A422", want);
    }
}

#[tokio::test]
async fn what_cannot_be_read_as_http_is_refused_in_our_words() {
    let (plane, _data) = harness::in_memory().await;
    let address = plane.base.strip_prefix("http://").expect("a base URL");
    let many = (0..200).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    for (head, status, message) in [
        ("GET /v1/apps HTTP/1.2\r\n\r\n".to_owned(), 400, "malformed"),
        (
            "GET /v1/apps HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
            400,
            "malformed",
        ),
        (format!("GET /v1/apps HTTP/1.1\r\n{many}\r\n"), 431, "too large"),
    ] {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(head.as_bytes()).await.expect("send");
        let mut text = String::new();
        let read = timeout(harness::DEADLINE, stream.read_to_string(&mut text)).await;
        read.expect("closed in time").expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains("\r\ngilliam-error: A400\r\n"), "{head}");
        let error: ApiError = serde_json::from_str(body).expect("an error");
        assert_eq!(error.code.as_str(), "A400");
        assert!(error.message.contains(message), "{}", error.message);
    }
}

#[tokio::test]
async fn before_the_first_release_there_is_nothing_to_change() {
    let (plane, _data) = harness::in_memory().await;
    plane.create("hello").await;
    let config: ConfigInfo = plane.get("/v1/apps/hello/config").await.ok().json();
    assert_eq!((config.release, config.config.0.len()), (None, 0));
    let patch = json!({ "change": { "set": { "A": "1" } }, "migrate": true });
    let error =
        plane
            .patch("/v1/apps/hello/config", patch)
            .await
            .refused(409, "A409", "hello has no release yet");
    assert_eq!(error.hint.as_deref(), Some("gilliam deploy first"));
    plane
        .patch("/v1/apps/hello/scale", json!({ "counts": { "web": 1 } }))
        .await
        .refused(409, "A409", "hello has no release yet");
    plane
        .post("/v1/apps/hello/rollback", json!({}))
        .await
        .refused(409, "A409", "hello has no release yet");
    assert!(
        plane
            .get("/v1/apps/hello/releases")
            .await
            .ok()
            .json::<Vec<ReleaseInfo>>()
            .is_empty()
    );
}

#[tokio::test]
async fn config_makes_releases_and_bad_config_makes_none() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web").await;
    let change = async |change: Value| {
        plane
            .patch(
                "/v1/apps/hello/config",
                json!({ "change": change, "migrate": true }),
            )
            .await
    };
    let answer = change(json!({ "set": { "POOL_SIZE": "64", "SECRET": "hunter2" } }))
        .await
        .ok();
    assert!(!answer.text.contains("hunter2"), "values stay out of messages");
    let release: ReleaseInfo = answer.json();
    assert_eq!(
        (release.id.to_string().as_str(), release.message.as_str()),
        ("v2", "set POOL_SIZE, SECRET")
    );
    assert_eq!((release.author.as_str(), release.migrating), ("admin", false));
    change(json!({}))
        .await
        .refused(422, "A422", "sets and unsets nothing");
    change(json!({ "unset": ["GONE"] }))
        .await
        .refused(422, "A422", "GONE is not set");
    change(json!({ "set": { "PORT": "1" } }))
        .await
        .refused(422, "A422", "PORT");
    change(json!({ "set": { "GILLIAM_X": "1" } }))
        .await
        .refused(422, "A422", "GILLIAM_");
    change(json!({ "set": { "1A": "1" } }))
        .await
        .refused(422, "A422", "\"1A\"");
    change(json!({ "set": { "A": "x\u{0}" } }))
        .await
        .refused(422, "A422", "NUL");
    change(json!({ "set": { "A": 1 } }))
        .await
        .refused(422, "A422", "invalid type");
    change(json!({ "set": { "A": "x".repeat(70_000) } }))
        .await
        .refused(422, "A422", "65536");
    let config: ConfigInfo = plane.get("/v1/apps/hello/config").await.ok().json();
    assert_eq!(config.release.expect("v2").to_string(), "v2");
    assert_eq!(
        serde_json::to_value(&config.config).expect("json"),
        json!({ "POOL_SIZE": "64", "SECRET": "hunter2" })
    );
    let release: ReleaseInfo = change(json!({ "unset": ["SECRET"] })).await.ok().json();
    assert_eq!(release.message, "unset SECRET");
    assert_eq!(
        plane.announcements("hello").await,
        [
            "created",
            "v1 released by admin",
            "v2 released by admin",
            "v3 released by admin"
        ]
    );
}

#[tokio::test]
async fn a_rollback_is_a_new_release_with_the_old_image_and_config() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    let first = plane.deploy("hello", "image web").await;
    plane
        .post("/v1/apps/hello/rollback", json!({}))
        .await
        .refused(409, "A409", "no release before v1");
    plane.set("hello", "A", "1").await;
    let third = plane.deploy("hello", "image web worker").await;
    assert_ne!(first.image, third.image);
    let back: ReleaseInfo = plane.post("/v1/apps/hello/rollback", json!({})).await.ok().json();
    assert_eq!(
        (back.id.to_string().as_str(), back.message.as_str()),
        ("v4", "rollback to v2")
    );
    assert_eq!(back.image, first.image);
    let back: ReleaseInfo = plane
        .post("/v1/apps/hello/rollback", json!({ "to": "v1" }))
        .await
        .ok()
        .json();
    assert_eq!(back.message, "rollback to v1");
    let config: ConfigInfo = plane.get("/v1/apps/hello/config").await.ok().json();
    assert!(config.config.0.is_empty(), "the config of v1");
    for (to, status, code, want) in [
        ("v9", 404, "A404", "hello has no release v9"),
        ("v5", 409, "A409", "v5 is the newest release of hello already"),
        ("5", 422, "A422", "\"5\" is not a release"),
        ("", 422, "A422", "\"\" is not a release"),
        ("v0", 422, "A422", "\"v0\" is not a release"),
    ] {
        plane
            .post("/v1/apps/hello/rollback", json!({ "to": to }))
            .await
            .refused(status, code, want);
    }
    let releases: Vec<ReleaseInfo> = plane.get("/v1/apps/hello/releases").await.ok().json();
    let ids: Vec<String> = releases.iter().map(|r| r.id.to_string()).collect();
    assert_eq!(ids, ["v5", "v4", "v3", "v2", "v1"]);
    assert_eq!(releases[2].processes.len(), 2);
}

#[tokio::test]
async fn scale_takes_what_the_release_has_and_refuses_the_rest() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web worker").await;
    let patch = async |body: Value| plane.patch("/v1/apps/hello/scale", body).await;
    let scale: ScaleInfo = patch(json!({ "counts": { "web": 2, "worker": 1 } }))
        .await
        .ok()
        .json();
    assert_eq!(scale.previous.expect("previous").total(), 0);
    assert_eq!(scale.release.expect("v1").to_string(), "v1");
    let scale: ScaleInfo = patch(json!({ "counts": { "web": 0 } })).await.ok().json();
    assert_eq!(scale.previous.expect("previous").to_string(), "web=2 worker=1");
    assert_eq!(scale.scale.values().next().expect("v1").to_string(), "worker=1");
    let error = patch(json!({ "counts": { "cron": 1 } }))
        .await
        .refused(422, "A422", "cron");
    let told = format!("{} {}", error.message, error.hint.unwrap_or_default());
    assert!(told.contains("web") && told.contains("worker"), "{told}");
    patch(json!({ "counts": {} })).await.refused(422, "A422", "");
    patch(json!({ "counts": { "web": 1_000_001 } }))
        .await
        .refused(422, "A422", "1000001");
    patch(json!({ "counts": { "web": -1 } }))
        .await
        .refused(422, "A422", "-1");
    patch(json!({ "counts": { "web": "two" } }))
        .await
        .refused(422, "A422", "two");
    patch(json!({ "counts": { "We b": 1 } }))
        .await
        .refused(422, "A422", "We b");
    patch(json!({ "counts": { "web": 1 }, "release": "v7" }))
        .await
        .refused(404, "A404", "v7");
    patch(json!({ "counts": { "web": 1 }, "release": "7" }))
        .await
        .refused(422, "A422", "\"7\"");
    let scale: ScaleInfo = plane.get("/v1/apps/hello/scale").await.ok().json();
    assert_eq!(
        scale.scale.values().next().expect("v1").to_string(),
        "worker=1",
        "nothing of that happened"
    );
    let status: Status = plane.get("/v1/status").await.ok().json();
    assert_eq!(
        (status.apps, status.instances_wanted, status.instances_running),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn an_app_created_again_has_nothing_of_the_one_before() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web").await;
    for i in 0..130 {
        plane.set("hello", "I", &i.to_string()).await;
    }
    assert_eq!(plane.delete("/v1/apps/hello").await.status, 204);
    plane.create("hello").await;
    assert!(
        plane
            .get("/v1/apps/hello/releases")
            .await
            .ok()
            .json::<Vec<ReleaseInfo>>()
            .is_empty()
    );
    assert_eq!(plane.deploy("hello", "image web").await.id.to_string(), "v1");
    assert_eq!(
        plane.announcements("hello").await,
        ["created", "v1 released by admin"]
    );
}

#[tokio::test]
async fn release_numbers_are_unique_and_gap_free_under_concurrent_changes() {
    let (plane, _data) = harness::fresh().await;
    plane.create("hello").await;
    plane.deploy("hello", "image web").await;
    let keys: Vec<String> = (0..20).map(|i| format!("KEY_{i}")).collect();
    let changes = keys.iter().map(|key| plane.set("hello", key, "1"));
    let mut ids: Vec<u32> = futures::future::join_all(changes)
        .await
        .iter()
        .map(|r| r.id.number())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (2..=21).collect::<Vec<u32>>());
    let config: ConfigInfo = plane.get("/v1/apps/hello/config").await.ok().json();
    assert_eq!(
        config.config.0.len(),
        20,
        "each change was made on top of the one before"
    );
}

#[tokio::test]
async fn two_control_planes_on_one_store_make_no_gap_either() {
    let data = tempfile::tempdir().expect("folder");
    let store = gilliam_store::Store::memory();
    let lost_after = std::time::Duration::from_secs(10);
    let start = |store| harness::Start {
        data: data.path(),
        store,
        lost_after,
    };
    let one = harness::start(start(store.clone())).await;
    let two = harness::start(start(store)).await;
    one.create("hello").await;
    one.deploy("hello", "image web").await;
    let keys: Vec<String> = (0..20).map(|i| format!("KEY_{i}")).collect();
    let changes = keys.iter().enumerate().map(|(i, key)| {
        let plane = if i % 2 == 0 { &one } else { &two };
        async move { plane.set("hello", key, "1").await }
    });
    let mut ids: Vec<u32> = futures::future::join_all(changes)
        .await
        .iter()
        .map(|r| r.id.number())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (2..=21).collect::<Vec<u32>>());
}
