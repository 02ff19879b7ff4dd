//! What is to be run of one process type: stated once, for all of its instances.

use std::sync::Arc;

use gilliam_engine::{InstanceConfig, LogSink, ProcessConfig};
use gilliam_model::{
    assignment::AssignedProcess,
    code::Code,
    hint::{hint, with_hint},
    image::Process,
    name::NodeName,
    report::ProcessKey,
    route::WEB,
};

use super::{Surroundings, crash::Crash};
use crate::{inside::Inside, logs::AppLog, slots::Place};

/// What to run.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) key: ProcessKey,
    pub(super) process: Process,
    pub(super) log: Arc<AppLog>,
    config: Arc<ProcessConfig>,
}

impl Spec {
    pub(super) fn new(assigned: &AssignedProcess, around: &Surroundings) -> Self {
        let key = key_of(assigned);
        let process = assigned.process.clone();
        let log = around.logs.app(&key.app);
        let sink: Arc<dyn LogSink> = log.clone();
        let services = around.services.bind(&assigned.services);
        let inside = Inside::new(
            key.app.clone(),
            process.uses.clone(),
            services.clone(),
            around.jobs.clone(),
            around.ingress.clone(),
        );
        let config = ProcessConfig {
            app: key.app.as_str().into(),
            args: process.args.clone(),
            env: env(assigned, &around.node),
            limits: process.limits.clone(),
            outbound: process.allowed_outbound_hosts.clone(),
            internal: Some(Arc::new(inside)),
            services,
            log: sink,
        };
        Self {
            key,
            process,
            log,
            config: Arc::new(config),
        }
    }

    /// Whether its instances take HTTP: then each has a seat at the ingress.
    pub(super) fn takes_http(&self) -> bool {
        self.process.shape.is_http() || self.key.process.as_str() == WEB
    }

    /// Whether its instances are called, for requests or for jobs, rather than run by themselves.
    pub(super) fn is_called(&self) -> bool {
        self.takes_http() || self.process.shape.takes_jobs()
    }

    /// The instance at a place as users call it: `worker.7`.
    pub(super) fn label(&self, place: Place) -> String {
        format!("{}.{}", self.key.process, place.slot)
    }

    /// A text about a failure, and what the user changes.
    pub(super) fn hinted(&self, text: &str, code: Option<Code>, message: &str) -> String {
        let (process, limits) = (&self.key.process, &self.process.limits);
        let hint = code.and_then(|code| hint(code, message, process, limits));
        with_hint(text, hint.as_deref())
    }

    /// A crash as the log has it.
    pub(super) fn crash_text(&self, crash: &Crash) -> String {
        self.hinted(&crash.to_string(), crash.code, &crash.message)
    }

    /// What a run gets, which is called `label`.
    pub(super) fn run(&self, label: &str) -> InstanceConfig {
        InstanceConfig {
            process: self.config.clone(),
            label: label.to_owned(),
            own_env: vec![("GILLIAM_INSTANCE".to_owned(), label.to_owned())],
            listen_port: None,
        }
    }

    /// What one instance gets.
    pub(super) fn instance(&self, place: Place, port: Option<u16>) -> InstanceConfig {
        let label = self.label(place);
        let mut own_env = Vec::with_capacity(2);
        if let Some(port) = port {
            own_env.push(("PORT".to_owned(), port.to_string()));
        }
        own_env.push(("GILLIAM_INSTANCE".to_owned(), label.clone()));
        InstanceConfig {
            process: self.config.clone(),
            label,
            own_env,
            listen_port: port.filter(|_| !self.process.shape.is_http()),
        }
    }
}

pub(super) fn key_of(assigned: &AssignedProcess) -> ProcessKey {
    ProcessKey {
        app: assigned.app.clone(),
        release: assigned.release,
        process: assigned.name.clone(),
    }
}

/// What all instances find in their environment: the platform's own variables prevail over the app's configuration,
/// and that over where its services are.
fn env(assigned: &AssignedProcess, node: &NodeName) -> Vec<(String, String)> {
    let own = [
        ("GILLIAM_APP", assigned.app.to_string()),
        ("GILLIAM_RELEASE", assigned.release.to_string()),
        ("GILLIAM_PROCESS", assigned.name.to_string()),
        ("GILLIAM_NODE", node.to_string()),
    ];
    let is_own = |key: &str| own.iter().any(|(other, _)| *other == key);
    let config = assigned.config.0.iter();
    let mut env: Vec<(String, String)> = config
        .map(|(key, value)| (key.to_string(), value.clone()))
        .filter(|(key, _)| !is_own(key))
        .collect();
    for bound in &assigned.services {
        let (key, value) = bound.service.variable(&bound.name);
        if env.iter().all(|(other, _)| *other != key) {
            env.push((key, value));
        }
    }
    env.extend(own.map(|(key, value)| (key.to_owned(), value)));
    env
}
