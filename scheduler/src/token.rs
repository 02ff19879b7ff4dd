//! Tokens: made, parsed, checked.
//!
//! A token is `gil_<id>_<secret>`. The id is public and finds the record; the secret is 256 random bits, of
//! which only the sha256 hash is kept, so a copy of the store signs nobody in.
//!
//! Invariant: no secret is stored, logged or part of an error.

use std::time::Duration;

use gilliam_model::{
    Timestamp,
    token::{Role, Token},
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// How long a token is good for: promise P15.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
const PREFIX: &str = "gil_";
/// Characters of the public part: 60 random bits.
const ID_CHARS: usize = 12;
/// Characters of the secret part: 256 bits in base64url without padding.
const SECRET_CHARS: usize = 43;
const ID_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const SECRET_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A token as a caller presents it: well formed, not yet checked.
#[derive(Clone, Copy)]
pub(crate) struct Presented<'a> {
    /// The public part.
    pub(crate) id: &'a str,
    secret: &'a str,
}

/// Takes `gil_<id>_<secret>` apart; none when it has another form.
pub(crate) fn parse(text: &str) -> Option<Presented<'_>> {
    let rest = text.strip_prefix(PREFIX)?;
    if rest.len() != ID_CHARS + 1 + SECRET_CHARS || !rest.is_ascii() {
        return None;
    }
    let (id, rest) = rest.split_at(ID_CHARS);
    let secret = rest.strip_prefix('_')?;
    let well_formed =
        id.bytes().all(|b| ID_ALPHABET.contains(&b)) && secret.bytes().all(|b| SECRET_ALPHABET.contains(&b));
    well_formed.then_some(Presented { id, secret })
}

/// Draws what a token is made of: a public part, and a secret with its hash.
pub(crate) fn draw() -> Result<(String, String, String), getrandom::Error> {
    let mut random = [0u8; ID_CHARS + 32];
    getrandom::fill(&mut random)?;
    let (id, secret) = random.split_at(ID_CHARS);
    let id = id
        .iter()
        .map(|b| char::from(ID_ALPHABET[usize::from(b % 32)]))
        .collect();
    let secret = base64url(secret);
    let hashed = hash(&secret);
    Ok((id, secret, hashed))
}

/// Makes a token: the text for its holder, and the record to store.
pub(crate) fn make(name: &str, role: Role, now: Timestamp) -> Result<(String, Token), getrandom::Error> {
    let (id, secret, secret_sha256) = draw()?;
    let token = Token {
        id: id.clone(),
        name: name.to_string(),
        role,
        secret_sha256,
        created_at: now,
        expires_at: now.checked_add(TOKEN_LIFE).unwrap_or(Timestamp::MAX),
    };
    Ok((format!("{PREFIX}{id}_{secret}"), token))
}

/// Whether the presented secret is the one of `token`, which has not ended by `now`.
///
/// A missing record costs the same comparison as one that is there.
pub(crate) fn matches(token: Option<&Token>, presented: Presented<'_>, now: Timestamp) -> bool {
    const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let stored = token.map_or(NOBODY, |t| t.secret_sha256.as_str());
    is_secret(presented.secret, stored) & token.is_some_and(|t| now < t.expires_at)
}

/// Whether a secret is the one whose hash is stored; compared in constant time.
pub(crate) fn is_secret(secret: &str, secret_sha256: &str) -> bool {
    hash(secret).as_bytes().ct_eq(secret_sha256.as_bytes()).into()
}

fn hash(secret: &str) -> String {
    gilliam_model::digest::Digest::from_sha256(Sha256::digest(secret.as_bytes()).into()).hex()
}

fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for i in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * i)) & 63;
            text.push(char::from(SECRET_ALPHABET[index as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T09:00:00Z".parse().expect("instant")
    }

    #[test]
    fn a_made_token_parses_and_matches_until_it_ends() {
        let (text, token) = make("admin", Role::Admin, now()).expect("random");
        assert_eq!(text.len(), 4 + ID_CHARS + 1 + SECRET_CHARS);
        let presented = parse(&text).expect("well formed");
        assert_eq!(presented.id, token.id);
        assert!(matches(Some(&token), presented, now()));
        assert!(!matches(Some(&token), presented, token.expires_at), "ended");
        assert!(!matches(None, presented, now()), "no record");
        assert!(
            !serde_json::to_string(&token)
                .expect("json")
                .contains(presented.secret)
        );
    }

    #[test]
    fn another_secret_does_not_match() {
        let (_, token) = make("admin", Role::Admin, now()).expect("random");
        let (other, _) = make("admin", Role::Admin, now()).expect("random");
        assert!(!matches(Some(&token), parse(&other).expect("well formed"), now()));
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let (text, _) = make("admin", Role::Admin, now()).expect("random");
        let cut = &text[..text.len() - 1];
        let long = format!("{text}A");
        let huge = "gil_".repeat(100_000);
        let foreign = text.replacen("gil_", "git_", 1);
        let path = format!("gil_../../../aaa_{}", "A".repeat(43));
        let wide = format!("gil_é{}_{}", "a".repeat(10), "A".repeat(43));
        for bad in ["", "gil_", cut, &long, &huge, &foreign, &path, &wide, "Bearer x"] {
            assert!(parse(bad).is_none(), "{bad:.80}");
        }
    }

    #[test]
    fn base64url_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }
}
