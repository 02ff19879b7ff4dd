//! What a control plane and its child that takes a push tell each other.

use serde::{Deserialize, Serialize};

use crate::api::ApiError;

/// The last line that the child writes to its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ReceiveOutcome {
    /// The objects are whole, and the archive of the commit is written.
    Archived {
        /// The commit's short id and first line.
        message: Option<String>,
        /// What the author may not expect.
        hints: Vec<String>,
    },
    /// What was pushed is not taken.
    Refused {
        /// Why.
        error: ApiError,
    },
}
