//! Who may call what: every route of the OpenAPI document against every kind of token.

mod harness;

use std::{collections::BTreeSet, str::FromStr as _, time::Duration};

use gilliam_model::Timestamp;
use gilliam_store::{Store, keys, records};
use harness::{Plane, read};
use reqwest::Method;
use serde_json::Value;

/// The routes of the document: method, path with names filled in, tag, whether it asks for a token.
async fn routes(plane: &Plane) -> Vec<(Method, String, String, bool)> {
    let document: Value = plane.get("/v1/openapi.json").await.ok().json();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let method = Method::from_str(&method.to_uppercase()).expect("a method");
            let path = path
                .replace("{app}", "hello")
                .replace("{node}", "a")
                .replace("{digest}", &format!("sha256:{}", "a".repeat(64)));
            let tag = operation["tags"][0].as_str().expect("a tag").to_string();
            routes.push((method, path, tag, operation.get("security").is_some()));
        }
    }
    routes
}

#[tokio::test]
async fn every_route_refuses_every_token_that_is_not_for_it() {
    let (plane, _data) = harness::in_memory().await;
    plane.create("hello").await;
    let other_secret = format!("{}{}", &plane.admin[..17], &plane.node[17..]);
    let mut bodies = BTreeSet::new();
    let mut checked = 0;
    for (method, path, tag, is_guarded) in routes(&plane).await {
        if !is_guarded {
            // A node that is not of the cluster yet shows a token of another kind, which the handler looks at.
            assert!(
                ["/v1/health", "/v1/join"].contains(&path.as_str()),
                "{path} needs no token"
            );
            continue;
        }
        let of_other_role = if tag == "nodes" { &plane.admin } else { &plane.node };
        let long = "x".repeat(20_000);
        for token in ["", "x", "gil_", of_other_role.as_str(), &other_secret, &long] {
            let answer = read(plane.send(method.clone(), &path, token, Some("{}")).await).await;
            assert_eq!(answer.status, 401, "{method} {path} with {token:.40}");
            bodies.insert(answer.text);
            checked += 1;
        }
        let own = if tag == "nodes" { &plane.node } else { &plane.admin };
        let answer = read(plane.send(method.clone(), &path, own, Some("[]")).await).await;
        assert_ne!(answer.status, 401, "{method} {path} with its own token");
        if method == Method::DELETE && path == "/v1/apps/hello" {
            plane.create("hello").await;
        }
    }
    assert_eq!(bodies.len(), 1, "every refusal reads the same: {bodies:?}");
    assert!(checked >= 6 * 17, "{checked}");
}

#[tokio::test]
async fn the_document_lists_every_route_and_describes_the_scheme() {
    let (plane, _data) = harness::in_memory().await;
    let document: Value = plane.get("/v1/openapi.json").await.ok().json();
    let mut listed: Vec<String> = Vec::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            listed.push(format!("{} {path}", method.to_uppercase()));
            let id = operation["operationId"].as_str().expect("an id").to_string();
            assert!(ids.insert(id.clone()), "{id} is used twice");
            assert!(operation["summary"].is_string(), "{id} has a summary");
        }
    }
    listed.sort();
    let table = "\
DELETE /v1/apps/{app}
DELETE /v1/apps/{app}/queues/{queue}/jobs
DELETE /v1/apps/{app}/runs/{run}
DELETE /v1/apps/{app}/services/{service}
DELETE /v1/nodes/{node}
GET /v1/apps
GET /v1/apps/{app}
GET /v1/apps/{app}/components/{process}
GET /v1/apps/{app}/config
GET /v1/apps/{app}/crons
GET /v1/apps/{app}/image
GET /v1/apps/{app}/images
GET /v1/apps/{app}/instances
GET /v1/apps/{app}/limits
GET /v1/apps/{app}/logs
GET /v1/apps/{app}/queues
GET /v1/apps/{app}/queues/{queue}
GET /v1/apps/{app}/queues/{queue}/jobs
GET /v1/apps/{app}/queues/{queue}/jobs/{id}
GET /v1/apps/{app}/releases
GET /v1/apps/{app}/runs
GET /v1/apps/{app}/runs/{run}
GET /v1/apps/{app}/runs/{run}/output
GET /v1/apps/{app}/scale
GET /v1/apps/{app}/services
GET /v1/blobs/{digest}
GET /v1/health
GET /v1/images/{digest}
GET /v1/images/{digest}/blobs/{blob}
GET /v1/nodes
GET /v1/nodes/{node}
GET /v1/nodes/{node}/runs/{app}/{run}/input
GET /v1/openapi.json
GET /v1/status
GET /v1/uses
PATCH /v1/apps/{app}/callers
PATCH /v1/apps/{app}/config
PATCH /v1/apps/{app}/limits
PATCH /v1/apps/{app}/scale
POST /v1/apps
POST /v1/apps/{app}/build
POST /v1/apps/{app}/crons/{cron}/pause
POST /v1/apps/{app}/crons/{cron}/resume
POST /v1/apps/{app}/crons/{cron}/run
POST /v1/apps/{app}/deploy
POST /v1/apps/{app}/images
POST /v1/apps/{app}/queues/{queue}/jobs
POST /v1/apps/{app}/queues/{queue}/pause
POST /v1/apps/{app}/queues/{queue}/resume
POST /v1/apps/{app}/queues/{queue}/retry
POST /v1/apps/{app}/releases
POST /v1/apps/{app}/restart
POST /v1/apps/{app}/rollback
POST /v1/apps/{app}/runs
POST /v1/apps/{app}/runs/{run}/stdin
POST /v1/apps/{app}/services/{service}/request
POST /v1/apps/{app}/services/{service}/share
POST /v1/apps/{app}/services/{service}/unshare
POST /v1/join
POST /v1/join-tokens
POST /v1/nodes/{node}/answers/{number}
POST /v1/nodes/{node}/drain
POST /v1/nodes/{node}/jobs
POST /v1/nodes/{node}/logs
POST /v1/nodes/{node}/puts
POST /v1/nodes/{node}/questions
POST /v1/nodes/{node}/queues
POST /v1/nodes/{node}/renew
POST /v1/nodes/{node}/runs/{app}/{run}/output
POST /v1/nodes/{node}/sync
POST /v1/nodes/{node}/undrain
POST /v1/plan/rebalance
POST /v1/plan/what-if";
    assert_eq!(listed.join("\n"), table);
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(
            document["components"]["schemas"].get(name).is_some(),
            "{name} is not described"
        );
    }
}

#[tokio::test]
async fn the_health_check_needs_no_token() {
    let (plane, _data) = harness::in_memory().await;
    let answer = read(plane.send(Method::GET, "/v1/health", "", None).await)
        .await
        .ok();
    assert_eq!(answer.text, "ok");
}

#[tokio::test]
async fn the_handle_checks_tokens_and_they_survive_a_restart() {
    let (plane, data) = harness::fresh().await;
    let token = plane
        .handle
        .verify_token(&plane.admin)
        .await
        .expect("read")
        .expect("good");
    assert_eq!(token.name, "admin");
    assert!(plane.handle.verify_token("gil_x").await.expect("read").is_none());
    let admin = plane.admin.clone();
    plane.stop().await;
    let store = Store::open(data.path()).expect("store");
    let lost_after = Duration::from_secs(10);
    let plane = harness::start(harness::Start {
        data: data.path(),
        store,
        lost_after,
    })
    .await;
    read(plane.send(Method::GET, "/v1/apps", &admin, None).await)
        .await
        .ok();
}

#[tokio::test]
async fn a_token_that_has_ended_or_was_revoked_opens_nothing() {
    let data = tempfile::tempdir().expect("folder");
    let store = Store::memory();
    let lost_after = Duration::from_secs(10);
    let plane = harness::start(harness::Start {
        data: data.path(),
        store: store.clone(),
        lost_after,
    })
    .await;
    let list = async || read(plane.send(Method::GET, "/v1/apps", &plane.admin, None).await).await;
    list().await.ok();
    let id = plane
        .handle
        .verify_token(&plane.admin)
        .await
        .expect("read")
        .expect("good")
        .id;
    let mut token = records::load_token(&store, &id)
        .await
        .expect("read")
        .expect("there")
        .value;
    token.expires_at = Timestamp::now();
    store
        .commit(&[], &[records::put_token(&token)])
        .await
        .expect("written");
    list().await.refused(401, "A401", "has ended");
    token.expires_at = Timestamp::MAX;
    store
        .commit(&[], &[records::put_token(&token)])
        .await
        .expect("written");
    list().await.ok();
    store
        .commit(&[], &[records::delete(keys::token(&id))])
        .await
        .expect("written");
    list().await.refused(401, "A401", "");
}
