//! Acknowledged = durable: the platform is killed again and again in the middle of a stream of changes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    client::{runtime, wait_ok},
    platform::{Platform, wait},
};

/// What the platform acknowledged.
#[derive(Default)]
struct Acknowledged {
    apps: Vec<String>,
    /// Highest acknowledged value of COUNTER, and the release that carries it.
    counter: u64,
    release: u64,
    web: u64,
}

struct Api {
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Api {
    fn of(platform: &Platform) -> Self {
        let text = std::fs::read_to_string(platform.home().join("credentials.json")).expect("credentials");
        let credentials: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let token = credentials["local"]
            .as_str()
            .expect("token of the cluster local")
            .to_string();
        let client = crate::platform::client_builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .expect("client");
        Self {
            base: platform.api(),
            token,
            client,
        }
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: serde_json::Value,
    ) -> Option<serde_json::Value> {
        let request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        let response = request.json(&body).send().await.ok()?;
        let status = response.status();
        let value = response.json().await.ok()?;
        // What is refused while the platform dies is not acknowledged; a 4xx would be a mistake of this test.
        assert!(
            !status.is_client_error() || status.as_u16() == 409,
            "{path}: {status} {value}"
        );
        status.is_success().then_some(value)
    }
}

/// Sends changes until the platform is gone.
async fn change(
    api: &Api,
    acknowledged: &Mutex<Acknowledged>,
    acks: &AtomicU64,
    cycle: u64,
    stop: &AtomicBool,
) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let next = acknowledged.lock().expect("lock").counter + 1;
        let body = serde_json::json!({"change": {"set": {"COUNTER": next.to_string()}}, "migrate": true});
        if let Some(release) = api
            .send(reqwest::Method::PATCH, "/v1/apps/guestbook/config", body)
            .await
        {
            let mut acknowledged = acknowledged.lock().expect("lock");
            acknowledged.counter = next;
            acknowledged.release = number(&release["id"]);
        } else {
            return;
        }
        acks.fetch_add(1, Ordering::Relaxed);
        let name = format!("app-{cycle}-{n}");
        if api
            .send(
                reqwest::Method::POST,
                "/v1/apps",
                serde_json::json!({"name": name}),
            )
            .await
            .is_none()
        {
            return;
        }
        acknowledged.lock().expect("lock").apps.push(name);
        acks.fetch_add(1, Ordering::Relaxed);
        let web = 1 + (n + cycle) % 3;
        let body = serde_json::json!({"counts": {"web": web}});
        if api
            .send(reqwest::Method::PATCH, "/v1/apps/guestbook/scale", body)
            .await
            .is_some()
        {
            acknowledged.lock().expect("lock").web = web;
            acks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn number(id: &serde_json::Value) -> u64 {
    id.as_str()
        .and_then(|v| v.strip_prefix('v'))
        .and_then(|n| n.parse().ok())
        .expect("a release number")
}

/// A small deterministic generator: the moments of the kills.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn check(platform: &Platform, acknowledged: &Acknowledged) {
    let apps = platform.json(&["apps"]);
    let names: Vec<&str> = apps
        .as_array()
        .expect("apps")
        .iter()
        .filter_map(|a| a["name"].as_str())
        .collect();
    for app in &acknowledged.apps {
        assert!(
            names.contains(&app.as_str()),
            "app {app} was acknowledged and is gone"
        );
    }
    let releases = platform.json(&["releases", "--app", "guestbook"]);
    let releases = releases.as_array().expect("releases");
    let numbers: BTreeMap<u64, ()> = releases.iter().map(|r| (number(&r["id"]), ())).collect();
    let newest = *numbers.keys().next_back().expect("a release");
    assert_eq!(numbers.len() as u64, newest, "release numbers have no gap");
    // The change that was in flight when the kill struck may be there or not: nothing in between.
    assert!(
        newest == acknowledged.release || newest == acknowledged.release + 1,
        "newest is v{newest}"
    );
    let config = platform.json(&["config", "--app", "guestbook"]);
    let counter: u64 = config["config"]["COUNTER"]
        .as_str()
        .and_then(|c| c.parse().ok())
        .expect("COUNTER");
    assert_eq!(
        counter - acknowledged.counter,
        newest - acknowledged.release,
        "a release carries its config"
    );
}

#[test]
fn fifty_kills_in_a_stream_of_changes_lose_nothing_acknowledged() {
    const KILLS: u64 = 50;
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=1"]);
    let acknowledged = Arc::new(Mutex::new(Acknowledged {
        release: 1,
        web: 1,
        ..Acknowledged::default()
    }));
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for cycle in 0..KILLS {
        let api = Api::of(&platform);
        // The first change sets COUNTER; what an unacknowledged one left is where the next begins.
        sync_with_platform(&platform, &acknowledged);
        let acks = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let changer = {
            let (acknowledged, acks, stop) = (acknowledged.clone(), acks.clone(), stop.clone());
            std::thread::spawn(move || runtime().block_on(change(&api, &acknowledged, &acks, cycle, &stop)))
        };
        let target = xorshift(&mut seed) % 12;
        wait("changes to be acknowledged", || {
            (acks.load(Ordering::Relaxed) >= target).then_some(())
        });
        let moment = Duration::from_micros(xorshift(&mut seed) % 8_000);
        std::thread::park_timeout(moment);
        if cycle % 2 == 0 {
            platform.kill_node();
        }
        platform.kill_up();
        stop.store(true, Ordering::Relaxed);
        changer.join().expect("changer");
        platform.up();
        if acknowledged.lock().expect("lock").counter > 0 {
            check(&platform, &acknowledged.lock().expect("lock"));
        }
    }
    wait_ok(&platform, "guestbook", "/");
    platform.wait_ps("guestbook", "every wanted instance to run again", |rows| {
        !rows.is_empty() && rows.iter().all(|r| r["state"] == "running")
    });
}

fn sync_with_platform(platform: &Platform, acknowledged: &Mutex<Acknowledged>) {
    let config = platform.json(&["config", "--app", "guestbook"]);
    let mut acknowledged = acknowledged.lock().expect("lock");
    if let Some(counter) = config["config"]["COUNTER"].as_str().and_then(|c| c.parse().ok()) {
        acknowledged.counter = counter;
    }
    acknowledged.release = number(&config["release"]);
}
