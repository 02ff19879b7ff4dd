//! What the caller states about instances: once for all of a process type, and what each has of its own.

use std::{fmt, sync::Arc};

use gilliam_model::{limits::Limits, outbound::OutboundHost};
use gilliam_services::Bound;

use crate::{internal::Internal, log::LogEntry};

/// Takes the lines of instances.
pub trait LogSink: fmt::Debug + Send + Sync {
    /// Takes one entry of the instance `label`. Never waits: a guest calls it on its own thread.
    fn write(&self, label: &str, entry: LogEntry);
}

/// What all instances of a process type have in common: stated once, shared by any number of them.
#[derive(Debug)]
pub struct ProcessConfig {
    /// The app it belongs to: its instances share in the node's slots as one, and apps that want more CPU time
    /// than there is get equal parts of it, whatever the number of their instances.
    pub app: Arc<str>,
    /// Arguments; the first is the program name.
    pub args: Vec<String>,
    /// The environment, apart from what each instance has of its own.
    pub env: Vec<(String, String)>,
    /// Limits of one instance, each enforced here.
    pub limits: Limits,
    /// Hosts it may call.
    pub outbound: Vec<OutboundHost>,
    /// What is behind `NAME.internal`; without it no such name is declared.
    pub internal: Option<Arc<dyn Internal>>,
    /// The services that it is bound to.
    pub services: Bound,
    /// Where the lines go.
    pub log: Arc<dyn LogSink>,
}

/// All that one instance gets: nothing else of the host is visible to its guest.
#[derive(Debug, Clone)]
pub struct InstanceConfig {
    /// What it shares with the others.
    pub process: Arc<ProcessConfig>,
    /// The instance in messages: `web.1`.
    pub label: String,
    /// Variables of its own; they stand before those of the process.
    pub own_env: Vec<(String, String)>,
    /// The one TCP port it may listen on, for commands that serve.
    pub listen_port: Option<u16>,
}

impl InstanceConfig {
    /// The whole environment.
    pub(crate) fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = |key: &str| self.own_env.iter().any(|(other, _)| other == key);
        let common = self.process.env.iter().filter(move |(key, _)| !own(key));
        let all = common.chain(&self.own_env);
        all.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
