//! Tokens: who may call the API.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What a token's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything a user can.
    Admin,
    /// What a node needs: sync, logs, blobs; nothing else.
    Node,
}

/// A token as stored: never the secret, only its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The public part, by which it is found.
    pub id: String,
    /// Who holds it: the author of what it changes.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// sha256 of the secret part (256 random bits), in hex.
    pub secret_sha256: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}
