//! What the caller states about one instance.

use gilliam_model::{limits::Limits, outbound::OutboundHost};
use tokio::sync::mpsc;

use crate::log::LogEntry;

/// All that one instance gets: nothing else of the host is visible to its guest.
#[derive(Debug, Clone)]
pub struct InstanceConfig {
    /// The instance in messages: `web.1`.
    pub label: String,
    /// Arguments; the first is the program name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Its limits, each enforced here.
    pub limits: Limits,
    /// Hosts it may call.
    pub outbound: Vec<OutboundHost>,
    /// The one TCP port it may listen on, for commands that serve.
    pub listen_port: Option<u16>,
    /// Where its lines go. Lines that find the channel full are counted and dropped: a guest never waits
    /// for its log.
    pub log: mpsc::Sender<LogEntry>,
}
