//! Whether a component's lanes may be reused: some toolchains' guests fail from their second request on.
//!
//! In flow a component and what its instances get, out flows a yes or the reason for a no. Requests go one
//! after another through one lane that is kept, and each also through a fresh one: what fails only in the
//! kept one fails because it was kept.
//!
//! Invariant: a guest that fails in fresh lanes too is not refused for that: it may need what a probe lacks.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use gilliam_model::{
    code::Code,
    limits::{Limits, REUSE_ALWAYS},
};
use http_body_util::{BodyExt as _, Empty};

use crate::{
    config::{InstanceConfig, LogSink, ProcessConfig},
    failure::{CallError, StartError},
    http::HttpInstance,
    load::Loaded,
    log::LogEntry,
};

/// Requests through the kept lane: what breaks with reuse breaks with the second, some guests' with the one
/// after a collection of garbage.
const REQUESTS: u32 = 4;
/// Longest wait for one answer; a guest that hangs must not hold a release up for long.
const REQUEST_MS_MAX: u64 = 10_000;

/// What a probed component gets besides its limits.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// Arguments; the first is the program name.
    pub args: Vec<String>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Its limits; those of reuse and concurrency are the probe's own.
    pub limits: Limits,
    /// The host that it is asked for.
    pub host: String,
}

/// Why lanes of a component are not to be reused, or not probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It does not start.
    #[error("it does not start: {0}")]
    Start(#[from] StartError),
    /// A later request fails in a lane that served one before.
    #[error("request {request} through one lane {reused}, and a fresh lane {fresh}")]
    Reuse {
        /// Which, from 1.
        request: u32,
        /// What came of it.
        reused: Outcome,
        /// What a fresh lane made of the same request.
        fresh: Outcome,
    },
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, with its status.
    Answered(u16),
    /// None, or half of one, with its code and the first line of why.
    Failed(Code, String),
}

impl Outcome {
    fn is_failure(&self) -> bool {
        match self {
            Outcome::Answered(status) => *status >= 500,
            Outcome::Failed(..) => true,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered(status) => write!(f, "answers {status}"),
            Outcome::Failed(code, message) => write!(f, "fails with {code} {}: {message}", code.title()),
        }
    }
}

/// Finds out whether lanes of a 0.2 component may be reused.
pub async fn probe(loaded: &Loaded, config: &ProbeConfig) -> Result<(), ProbeError> {
    let kept = start(loaded, config, REUSE_ALWAYS).await?;
    let fresh = start(loaded, config, 1).await?;
    for request in 1..=REQUESTS {
        let fresh = ask(&fresh, &config.host).await;
        let reused = ask(&kept, &config.host).await;
        if reused.is_failure() && !fresh.is_failure() {
            return Err(ProbeError::Reuse {
                request,
                reused,
                fresh,
            });
        }
    }
    Ok(())
}

async fn start(loaded: &Loaded, config: &ProbeConfig, reuse_max: u32) -> Result<HttpInstance, StartError> {
    let limits = Limits {
        reuse_max,
        // One lane, so that each request goes through the same.
        concurrency_max: 1,
        request_ms_max: config.limits.request_ms_max.min(REQUEST_MS_MAX),
        cpu_millis: 1_000,
        idle_ms_max: Limits::default().idle_ms_max,
        ..config.limits.clone()
    };
    let process = ProcessConfig {
        app: "probe".into(),
        args: config.args.clone(),
        env: config.env.clone(),
        limits,
        outbound: Vec::new(),
        internal: None,
        services: Default::default(),
        log: Arc::new(Nowhere),
    };
    let instance = InstanceConfig {
        process: Arc::new(process),
        label: "probe.1".to_owned(),
        own_env: Vec::new(),
        listen_port: None,
    };
    HttpInstance::start(loaded, instance).await
}

async fn ask(instance: &HttpInstance, host: &str) -> Outcome {
    let request = http::Request::builder()
        .uri(format!("http://{host}/"))
        .body(Empty::<Bytes>::new());
    let request = match request {
        Ok(request) => request,
        Err(error) => return Outcome::Failed(Code::H26, error.to_string()),
    };
    let response = match instance.call(request).await {
        Ok(response) => response,
        Err(CallError { code, message, .. }) => return Outcome::Failed(code, first_line(&message)),
    };
    let status = response.status().as_u16();
    let wait = std::time::Duration::from_millis(REQUEST_MS_MAX);
    let mut body = response.into_body();
    let read = async {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok::<_, crate::body::BodyError>(())
    };
    match tokio::time::timeout(wait, read).await {
        Ok(Ok(())) => Outcome::Answered(status),
        Ok(Err(error)) => Outcome::Failed(Code::H18, first_line(&error.to_string())),
        Err(_) => Outcome::Failed(Code::H12, "its answer does not end".to_owned()),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What a probed guest prints is nobody's.
#[derive(Debug)]
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &str, _: LogEntry) {}
}
