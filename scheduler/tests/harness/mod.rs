//! A real control plane on port 0, and those who speak to it: users over HTTP, and nodes that follow the node
//! protocol but run nothing: they report what they are assigned in the state a test asks for.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod node;

use std::{ffi::OsString, net::SocketAddr, path::Path, time::Duration};

use gilliam_model::{
    api::{ApiError, DeployEvent, Instances, ReleaseInfo},
    token::Role,
};
use gilliam_scheduler::{Blobs, Config, Handle, bind_on};
use gilliam_serve::{DrainOutcome, DrainTrigger, drain};
use gilliam_store::Store;
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Longest wait for anything in these tests.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A control plane that runs.
pub struct Plane {
    pub base: String,
    pub http: reqwest::Client,
    pub admin: String,
    pub node: String,
    pub handle: Handle,
    trigger: DrainTrigger,
    running: JoinHandle<DrainOutcome>,
}

/// What to start.
pub struct Start<'a> {
    pub data: &'a Path,
    pub store: Store,
    pub lost_after: Duration,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e} in {} {}", self.status, self.text))
    }

    /// Asserts that it is a success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self
    }

    /// Asserts that it is this refusal.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, message: &str) -> ApiError {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let error: ApiError = self.json();
        assert_eq!(error.code.as_str(), code, "{}", self.text);
        assert!(
            error.message.contains(message),
            "{:?} is not in {:?}",
            message,
            error.message
        );
        error
    }
}

/// A client to be: it speaks plain HTTP here, and is not made unless it knows a TLS too.
pub fn client_builder() -> reqwest::ClientBuilder {
    // The first one that is installed stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

/// A control plane on a store in a fresh folder.
pub async fn fresh() -> (Plane, TempDir) {
    let data = tempfile::tempdir().expect("folder");
    let store = Store::open(data.path()).expect("store");
    let plane = start(Start {
        data: data.path(),
        store,
        lost_after: Duration::from_secs(10),
    })
    .await;
    (plane, data)
}

/// A control plane on a store in memory.
pub async fn in_memory() -> (Plane, TempDir) {
    let data = tempfile::tempdir().expect("folder");
    let store = Store::memory();
    let plane = start(Start {
        data: data.path(),
        store,
        lost_after: Duration::from_secs(10),
    })
    .await;
    (plane, data)
}

pub async fn start(start: Start<'_>) -> Plane {
    start_with(start, None).await
}

/// The same, with blobs where they are named.
pub async fn start_with(start: Start<'_>, blobs: Option<Blobs>) -> Plane {
    start_as(start, |config| config.blobs = blobs).await
}

/// The same, with other settings.
pub async fn start_as(start: Start<'_>, change: impl FnOnce(&mut Config)) -> Plane {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/build.sh");
    let command = ["/bin/sh", script].map(OsString::from).to_vec();
    let probe = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/probe.sh");
    let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
    let mut config = Config {
        lost_after: start.lost_after,
        probe_command: ["/bin/sh", probe].map(OsString::from).to_vec(),
        ..Config::new(start.data.to_path_buf(), any_port, command)
    };
    change(&mut config);
    let (plane, address) = bind_on(config, start.store).expect("bind");
    let handle = plane.handle();
    let (trigger, signal) = drain::channel();
    let running = tokio::spawn(plane.run(signal));
    Plane {
        base: format!("http://{address}"),
        http: client_builder().no_proxy().build().expect("client"),
        admin: handle.issue_token("admin", Role::Admin).await.expect("token"),
        node: handle.issue_token("node", Role::Node).await.expect("token"),
        handle,
        trigger,
        running,
    }
}

impl Plane {
    /// Sends a request with a token (none when it is empty) and a body.
    pub async fn send(&self, method: Method, path: &str, token: &str, body: Option<&str>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request.send().await.expect("an answer")
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        read(self.send(method, path, &self.admin, body.as_deref()).await).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    pub async fn create(&self, app: &str) {
        self.post("/v1/apps", json!({ "name": app })).await.ok();
    }

    /// Deploys what the build script is told, and gives every event.
    pub async fn deploy_events(&self, app: &str, archive: &str, query: &str) -> Vec<DeployEvent> {
        let path = format!("/v1/apps/{app}/deploy{query}");
        let answer = read(self.send(Method::POST, &path, &self.admin, Some(archive)).await)
            .await
            .ok();
        answer
            .text
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event"))
            .collect()
    }

    /// Deploys and expects a release.
    pub async fn deploy(&self, app: &str, archive: &str) -> ReleaseInfo {
        let events = self.deploy_events(app, archive, "").await;
        match events.last() {
            Some(DeployEvent::Released { release }) => (**release).clone(),
            other => panic!("not released: {other:?}"),
        }
    }

    pub async fn set(&self, app: &str, key: &str, value: &str) -> ReleaseInfo {
        let body = json!({ "change": { "set": { key: value } }, "migrate": true });
        self.patch(&format!("/v1/apps/{app}/config"), body)
            .await
            .ok()
            .json()
    }

    pub async fn scale(&self, app: &str, counts: Value) {
        self.patch(&format!("/v1/apps/{app}/scale"), json!({ "counts": counts }))
            .await
            .ok();
    }

    pub async fn instances(&self, app: &str) -> Instances {
        self.get(&format!("/v1/apps/{app}/instances")).await.ok().json()
    }

    /// Waits until the instances of `app` are as `want` says.
    pub async fn until(&self, app: &str, what: &str, want: impl Fn(&Instances) -> bool) -> Instances {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let instances = self.instances(app).await;
            if want(&instances) {
                return instances;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not {what}: {instances:#?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn settled(&self, app: &str) -> Instances {
        self.until(app, "settled", |instances| instances.settled).await
    }

    /// The texts of the control plane's own log lines about `app`.
    pub async fn announcements(&self, app: &str) -> Vec<String> {
        let answer = self
            .get(&format!("/v1/apps/{app}/logs?source=control&lines=1000"))
            .await
            .ok();
        let lines = answer
            .text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).expect("a line"));
        lines
            .map(|l| l["text"].as_str().expect("text").to_string())
            .collect()
    }

    /// Stops it and says how that went.
    pub async fn stop(self) -> DrainOutcome {
        self.trigger.drain(DEADLINE);
        drop(self.http);
        self.running.await.expect("no panic")
    }
}

pub async fn read(response: Response) -> Answer {
    let status = response.status();
    Answer {
        status,
        text: response.text().await.expect("a whole body"),
    }
}

/// `web.1 v1 running`, for each instance.
pub fn lines(instances: &Instances) -> Vec<String> {
    instances
        .instances
        .iter()
        .map(|i| format!("{} {} {}", i.name, i.release, i.state))
        .collect()
}
