//! How a node comes into a cluster: the token it is given, and what it and the control plane say to each other.
//!
//! An operator asks for a token ([`MakeJoinToken`]) and gives it to the node, which asks with it for a certificate
//! ([`Join`]). The token carries the digest of the cluster's CA, so that the node knows the control plane before it
//! sends anything; with its certificate the node asks for the next one ([`Renew`]) in time.
//!
//! Invariant: a private key is in none of these: it never leaves the machine that made it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Timestamp, digest::Digest, name::NodeName};

/// What a join token begins with; the API's own tokens begin otherwise, so neither is taken for the other.
const PREFIX: &str = "gilj_";
/// Characters of the public part.
pub const ID_CHARS: usize = 12;
/// Characters of the secret part: 256 bits in base64url without padding.
pub const SECRET_CHARS: usize = 43;
/// Hex digits of the CA's digest.
const CA_CHARS: usize = 64;
/// How long a join token is good for when nobody says: long enough to walk to a machine.
pub const TTL_SECONDS: u64 = 3_600;
/// Longest life of a join token: what is left lying about for longer is a standing invitation.
pub const TTL_SECONDS_MAX: u64 = 7 * 24 * 3_600;
/// Largest certificate that a node asks with: ours has some 600 bytes.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;

/// A join token, taken apart: `gilj_ID_SECRET_CA`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its public part.
    pub id: String,
    /// What proves that its holder was given it.
    pub secret: String,
    /// The digest of the certificate of the cluster's CA.
    pub ca: Digest,
}

/// Text that is no join token; the text itself is not shown, for it may be another secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the join token is not one: it has the form gilj_…, in one piece")]
pub struct JoinTokenError;

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let rest = text.strip_prefix(PREFIX).ok_or(JoinTokenError)?;
        if !rest.is_ascii() || rest.len() != ID_CHARS + SECRET_CHARS + CA_CHARS + 2 {
            return Err(JoinTokenError);
        }
        let (id, rest) = rest.split_at(ID_CHARS);
        let (secret, ca) = rest[1..].split_at(SECRET_CHARS);
        let is_id = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let is_secret = secret
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let ca = ca.strip_prefix('_').ok_or(JoinTokenError)?;
        if !rest.starts_with('_') || !is_id || !is_secret {
            return Err(JoinTokenError);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            ca: format!("sha256:{ca}").parse().map_err(|_| JoinTokenError)?,
        })
    }
}

impl JoinToken {
    /// The token as its holder is given it. There is no `Display`, so that none is printed by chance.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}_{}_{}", self.id, self.secret, self.ca.hex())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

/// A join token as stored: never the secret, only its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The token's public part.
    pub id: String,
    /// sha256 of the secret part, in hex.
    pub secret_sha256: String,
    /// Who asked for it.
    pub author: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The node that joined with it, and when: it lets no other in.
    pub used: Option<(NodeName, Timestamp)>,
}

/// `POST /v1/join-tokens`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MakeJoinToken {
    /// How long it is good for; [`TTL_SECONDS`] when nothing is said, at most [`TTL_SECONDS_MAX`].
    pub ttl_seconds: Option<u64>,
}

/// The answer: the only time that the token is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MadeJoinToken {
    /// The token.
    pub token: String,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// Addresses at which nodes reach the control plane.
    pub servers: Vec<String>,
}

impl fmt::Debug for MadeJoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeJoinToken")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// `POST /v1/join`, with the secret of a join token as its bearer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Join {
    /// [`PROTOCOL`](crate::sync::PROTOCOL) of the node.
    pub protocol: u32,
    /// gilliam's version on it.
    pub version: String,
    /// The name it wants, still to be checked: the answer to a bad one says which rule it breaks.
    pub name: String,
    /// A certificate (PEM) that the node signed itself with the key it made, which proves that it has the key; nothing
    /// else of it is used.
    pub request: String,
}

/// `POST /v1/nodes/{node}/renew`, as that node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renew {
    /// A certificate (PEM) that the node signed itself with the key it is known by.
    pub request: String,
}

/// The answer to [`Join`] and [`Renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Joined {
    /// The node's certificate (PEM).
    pub certificate: String,
    /// The certificate of the cluster's CA (PEM).
    pub ca: String,
    /// How long the node's certificate is good for from now on.
    pub life_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            id: "abcdefghij23".to_owned(),
            secret: "s".repeat(SECRET_CHARS),
            ca: Digest::from_sha256([7; 32]),
        }
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_not_shown_by_chance() {
        let text = token().text();
        assert_eq!(text.parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("sss"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let text = token().text();
        let cut = &text[..text.len() - 1];
        let api = format!("gil_{}_{}", "a".repeat(12), "b".repeat(43));
        let upper = text.replace("0707", "0A07");
        let wide = format!("gilj_é{}", &text[7..]);
        let undivided = text.replacen("3_s", "3ss", 1);
        for bad in [
            "",
            "gilj_",
            cut,
            &format!("{text}0"),
            &api,
            &upper,
            &wide,
            &undivided,
        ] {
            assert_eq!(bad.parse::<JoinToken>(), Err(JoinTokenError), "{bad}");
        }
    }
}
