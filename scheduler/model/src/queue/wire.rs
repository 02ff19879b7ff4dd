//! What is said about jobs over the API: by users, and by the nodes whose workers do them.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::{JobId, JobInfo, LeaseId, Outcome, QueueId};

/// Bytes that JSON carries as base64 (RFC 4648 section 4).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Payload(pub Vec<u8>);

impl TryFrom<String> for Payload {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64.decode(text).map(Payload)
    }
}

impl From<Payload> for String {
    fn from(payload: Payload) -> String {
        BASE64.encode(payload.0)
    }
}

/// What became of a job that was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutJob {
    /// The job that is in the queue.
    pub id: JobId,
    /// False when there was one of its key already (Q10).
    pub new: bool,
}

/// A job with its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobDetails {
    /// What is known of it.
    pub info: JobInfo,
    /// What the sender sent.
    pub payload: Payload,
}

/// How many jobs an operation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobsChanged {
    /// So many.
    pub jobs: u64,
}

/// What a node says of the jobs that it has, and which it wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExchangeJobs {
    /// The node's process: jobs of an earlier one are nobody's.
    pub life: String,
    /// Whether this is the first that it says.
    pub begins: bool,
    /// Words about jobs.
    pub said: Vec<SayJob>,
    /// Jobs to give it.
    pub wants: Vec<WantJobs>,
}

/// A word about a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SayJob {
    /// Its queue.
    pub queue: QueueId,
    /// Itself.
    pub id: JobId,
    /// The lease under which the node has it.
    pub lease: LeaseId,
    /// The word.
    pub outcome: Outcome,
}

/// Jobs of a queue that a node has room for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WantJobs {
    /// The queue.
    pub queue: QueueId,
    /// How many.
    pub jobs: u32,
}

/// The answer to [`ExchangeJobs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExchangedJobs {
    /// What became of each word, in its turn.
    pub said: Vec<Heard>,
    /// Jobs that the node has from now on.
    pub given: Vec<GivenJob>,
}

/// What became of a word about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Heard {
    /// It is so.
    Kept,
    /// The job went among the dead letters (Q12).
    Dead,
    /// The lease has passed on (Q11).
    Lost,
}

/// A job that a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GivenJob {
    /// Its queue.
    pub queue: QueueId,
    /// Itself.
    pub id: JobId,
    /// The lease.
    pub lease: LeaseId,
    /// 1 at the first attempt.
    pub attempt: u32,
    /// What the sender sent.
    pub payload: Payload,
}

/// Queues that a node waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AwaitJobs {
    /// The queues.
    pub queues: Vec<QueueId>,
    /// Longest wait, in milliseconds.
    pub wait_ms: u64,
}

/// The answer to [`AwaitJobs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueuesReady {
    /// Those from which a job could be taken; none when the wait was over.
    pub queues: Vec<QueueId>,
}
