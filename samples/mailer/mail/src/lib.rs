//! What the web process puts into the queue and the worker takes out of it.

use serde::{Deserialize, Serialize};

/// The queue between them.
pub const QUEUE: &str = "emails";

/// A mail that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    pub to: String,
    pub text: String,
}

/// A text for many readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newsletter {
    pub readers: Vec<String>,
    pub text: String,
}
