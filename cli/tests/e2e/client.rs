//! HTTP to an app through the ingress: the connection goes to the loopback address, the host names the app.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::platform::{Platform, wait};

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The catalogue code, when the platform made the answer.
    pub(crate) code: Option<String>,
    pub(crate) body: String,
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime")
}

fn client() -> reqwest::Client {
    crate::platform::client_builder()
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .build()
        .expect("client")
}

async fn send(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let response = request.send().await.map_err(|e| format!("{e:?}"))?;
    let status = response.status().as_u16();
    let code = response
        .headers()
        .get("gilliam-error")
        .and_then(|v| v.to_str().ok())
        .map(str::to_string);
    let body = response.text().await.map_err(|e| format!("{e:?}"))?;
    Ok(Answer { status, code, body })
}

/// `GET path` of an app.
#[track_caller]
pub(crate) fn get(platform: &Platform, app: &str, path: &str) -> Answer {
    try_get(platform, app, path).expect("an answer")
}

/// The same with headers of the client's own.
#[track_caller]
pub(crate) fn get_with(platform: &Platform, app: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client()
        .get(format!("{}{path}", platform.http()))
        .header("host", format!("{app}.localhost"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    runtime().block_on(send(request)).expect("an answer")
}

/// `GET path` of an app, or why there was no answer at all.
pub(crate) fn try_get(platform: &Platform, app: &str, path: &str) -> Result<Answer, String> {
    let request = client()
        .get(format!("{}{path}", platform.http()))
        .header("host", format!("{app}.localhost"));
    runtime().block_on(send(request))
}

/// `POST path` of an app with a body of a type.
#[track_caller]
pub(crate) fn post(platform: &Platform, app: &str, path: &str, kind: &str, body: &str) -> Answer {
    let request = client()
        .post(format!("{}{path}", platform.http()))
        .header("host", format!("{app}.localhost"))
        .header("content-type", kind)
        .body(body.to_string());
    runtime().block_on(send(request)).expect("an answer")
}

/// `PUT path` of an app.
#[track_caller]
pub(crate) fn put(platform: &Platform, app: &str, path: &str, body: &str) -> Answer {
    let request = client()
        .put(format!("{}{path}", platform.http()))
        .header("host", format!("{app}.localhost"))
        .body(body.to_string());
    runtime().block_on(send(request)).expect("an answer")
}

/// `GET` of a URL within a few seconds, or why there was no whole answer.
pub(crate) fn try_get_at(url: &str) -> Result<Answer, String> {
    let request = client().get(url).timeout(Duration::from_secs(5));
    runtime().block_on(send(request))
}

/// Waits until the app answers 200.
#[track_caller]
pub(crate) fn wait_ok(platform: &Platform, app: &str, path: &str) -> Answer {
    wait(&format!("{app} to answer 200 on {path}"), || {
        try_get(platform, app, path).ok().filter(|a| a.status == 200)
    })
}

/// Constant requests to one app from several clients, half of them on kept connections, half on new ones.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failures: Arc<std::sync::Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(platform: &Platform, app: &str, path: &str, clients: usize) -> Self {
        let load = Self {
            stop: Arc::default(),
            sent: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        };
        let url = format!("{}{path}", platform.http());
        let host = format!("{app}.localhost");
        let threads = (0..clients).map(|n| {
            let (stop, sent, failures) = (load.stop.clone(), load.sent.clone(), load.failures.clone());
            let (url, host) = (url.clone(), host.clone());
            std::thread::spawn(move || {
                runtime().block_on(async move {
                    let pooled = usize::from(n % 2 == 0);
                    let client = crate::platform::client_builder()
                        .no_proxy()
                        .pool_max_idle_per_host(pooled)
                        .timeout(Duration::from_secs(30))
                        .build()
                        .expect("client");
                    while !stop.load(Ordering::Relaxed) {
                        let answer = send(client.get(&url).header("host", &host)).await;
                        sent.fetch_add(1, Ordering::Relaxed);
                        match answer {
                            Ok(answer) if answer.status == 200 => {}
                            other => failures.lock().expect("lock").push(format!("{other:?}")),
                        }
                    }
                });
            })
        });
        let threads = threads.collect();
        Self { threads, ..load }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until `n` requests were sent in all.
    pub(crate) fn wait_sent(&self, n: u64) {
        wait(&format!("{n} requests"), || (self.sent() >= n).then_some(()));
    }

    /// Ends the load: requests sent, and each failure.
    pub(crate) fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("client");
        }
        let failures = self.failures.lock().expect("lock").clone();
        (self.sent.load(Ordering::Relaxed), failures)
    }
}
