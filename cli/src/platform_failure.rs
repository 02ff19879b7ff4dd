//! How `up` and `node` end when the platform does not start: the message names the thing, the hint is the way out.

use std::error::Error;

use gilliam_runtime::{NodeError, identity::IdentityError, join::JoinError};
use gilliam_scheduler::{BlobsError, ClusterOfQueuesError, PolicyError, QueuesError, StartError, TokenError};
use gilliam_store::StoreError;

use crate::{failure::CommandError, node_process::NodeProcessError};

/// The message of an error and of everything that led to it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some messages hold their source's already.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<StartError> for CommandError {
    fn from(error: StartError) -> Self {
        let failed = Self::failed(chain(&error));
        match error.hint() {
            Some(hint) => failed.hinted(hint),
            None => failed,
        }
    }
}

impl From<BlobsError> for CommandError {
    fn from(error: BlobsError) -> Self {
        let failed = Self::failed(chain(&error));
        match error.hint() {
            Some(hint) => failed.hinted(hint),
            None => failed,
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::failed(chain(&error)).hinted(error.hint())
    }
}

impl From<QueuesError> for CommandError {
    fn from(error: QueuesError) -> Self {
        Self::failed(chain(&error)).hinted("mend the file, or move it away: the jobs in it are then lost")
    }
}

impl From<ClusterOfQueuesError> for CommandError {
    fn from(error: ClusterOfQueuesError) -> Self {
        Self::failed(chain(&error))
            .hinted("the store must take changes when queues are named for the first time")
    }
}

impl From<TokenError> for CommandError {
    fn from(error: TokenError) -> Self {
        Self::failed(chain(&error))
    }
}

impl From<PolicyError> for CommandError {
    fn from(error: PolicyError) -> Self {
        Self::failed(chain(&error))
    }
}

impl From<NodeError> for CommandError {
    fn from(error: NodeError) -> Self {
        let failed = Self::failed(chain(&error));
        match error.hint() {
            Some(hint) => failed.hinted(hint),
            None => failed,
        }
    }
}

impl From<JoinError> for CommandError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Control(error) => match error.api() {
                // The server's own hint says how to get another token.
                Some(refused) => Self::refused(refused),
                None => Self::from(error),
            },
            JoinError::Name(error) => Self::failed(error.to_string()).hinted("--name NAME chooses another"),
            JoinError::NoServer => Self::usage("no server is named").hinted("--server https://HOST:7788"),
            error => Self::failed(chain(&error)),
        }
    }
}

impl From<IdentityError> for CommandError {
    fn from(error: IdentityError) -> Self {
        Self::failed(chain(&error))
            .hinted("restore the file, or remove it and join the node anew under another name")
    }
}

impl From<NodeProcessError> for CommandError {
    fn from(error: NodeProcessError) -> Self {
        let failed = Self::failed(chain(&error));
        match error {
            NodeProcessError::Ended { .. } => {
                failed.hinted("the lines above are the end of DATA/node/node.log")
            }
            NodeProcessError::Stuck { pid } => {
                failed.hinted(format!("kill -9 {pid}, then start gilliam up again"))
            }
            NodeProcessError::Unknown { .. } => failed
                .hinted("end the process gilliam node that has this folder in its arguments, and try again"),
            NodeProcessError::Silent | NodeProcessError::Start(_) => failed,
        }
    }
}
