//! Where things are in etcd: keys and revisions of ours as those of etcd's, and back.
//!
//! ```text
//! /gilliam/CLUSTER          whose data it is: the identity of the cluster, the format, the base of revisions
//! /gilliam/CLUSTER.head     written by every commit, last: its revision is that of the last commit
//! /gilliam/CLUSTER/apps/…   the key /apps/…
//! ```
//!
//! Invariant: a revision of ours is etcd's and the base together, so that revisions go on growing when the
//! data moves to another etcd: nodes refuse an assignment that is older than theirs.

use std::str;

use crate::Revision;

/// What the key of the head ends with. No cluster's name has a full stop, so the head is between the identity
/// and the keys, and no other cluster's.
const HEAD: &str = ".head";
/// What every key of ours begins with, so that one etcd may serve others too.
const ROOT: &str = "/gilliam/";

/// The keys and revisions of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: String,
    base: u64,
}

impl Layout {
    /// Those of `cluster`, whose revisions begin after `base`.
    pub(super) fn new(cluster: &str, base: u64) -> Self {
        Self {
            root: format!("{ROOT}{cluster}"),
            base,
        }
    }

    pub(super) fn with_base(self, base: u64) -> Self {
        Self { base, ..self }
    }

    /// The key of the identity.
    pub(super) fn identity(&self) -> String {
        self.root.clone()
    }

    /// The key of the head.
    pub(super) fn head(&self) -> String {
        format!("{}{HEAD}", self.root)
    }

    /// The first key that is watched, and the first that comes after them: the head and all keys.
    pub(super) fn watched(&self) -> (Vec<u8>, Vec<u8>) {
        let (_, end) = self.range("");
        (self.head().into_bytes(), end)
    }

    /// etcd's key of `key`.
    pub(super) fn etcd_key(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// The first of etcd's keys with `prefix`, and the first that comes after them.
    pub(super) fn range(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        // Each key is a path, and the identity is none of them.
        let prefix = if prefix.is_empty() { "/" } else { prefix };
        let first = self.etcd_key(prefix).into_bytes();
        let mut end = first.clone();
        let last = end.last_mut().expect("the root is not empty");
        // The last byte of a text in UTF-8 is never 0xff.
        *last += 1;
        (first, end)
    }

    /// The key of etcd's key `key`, if it is one of ours.
    pub(super) fn key<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        let key = str::from_utf8(key.strip_prefix(self.root.as_bytes())?).ok()?;
        key.starts_with('/').then_some(key)
    }

    /// The revision of etcd's revision `revision`.
    pub(super) fn revision(&self, revision: i64) -> Revision {
        Revision(self.base.saturating_add(u64::try_from(revision).unwrap_or(0)))
    }

    /// etcd's revision of `revision`; none when it is from before the base.
    pub(super) fn etcd_revision(&self, revision: Revision) -> Option<i64> {
        i64::try_from(revision.0.checked_sub(self.base)?)
            .ok()
            .filter(|revision| *revision > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_other_clusters() {
        let layout = Layout::new("a", 0);
        assert_eq!(layout.range(""), layout.range("/"));
        assert_eq!(
            layout.range("/x"),
            (b"/gilliam/a/x".to_vec(), b"/gilliam/a/y".to_vec())
        );
        let (first, end) = layout.range("");
        for other in ["/gilliam/a", "/gilliam/ab/x", "/gilliam/a-b/x"] {
            let other = other.as_bytes();
            assert!(other < first.as_slice() || other >= end.as_slice());
        }
        assert_eq!(layout.key(b"/gilliam/a/apps/x"), Some("/apps/x"));
        assert_eq!(layout.key(b"/gilliam/b/apps/x"), None);
        assert_eq!(layout.key(b"/gilliam/ab/apps/x"), None);
    }

    #[test]
    fn the_head_is_watched_and_is_none_of_the_keys() {
        let layout = Layout::new("a", 0);
        let head = layout.head().into_bytes();
        assert!(head < layout.range("").0);
        assert_eq!(layout.key(&head), None);
        let (first, end) = layout.watched();
        let is_watched = |key: &[u8]| key >= first.as_slice() && key < end.as_slice();
        assert!(is_watched(&head) && is_watched(b"/gilliam/a/apps/x"));
        for other in [
            "/gilliam/a",
            "/gilliam/a-b.head",
            "/gilliam/a-b/x",
            "/gilliam/a0/x",
        ] {
            assert!(!is_watched(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn revisions_grow_from_their_base() {
        let layout = Layout::new("a", 1_000);
        assert_eq!(layout.revision(7), Revision(1_007));
        assert_eq!(layout.etcd_revision(Revision(1_007)), Some(7));
        assert_eq!(layout.etcd_revision(Revision(1_000)), None, "of the time before");
        assert_eq!(layout.etcd_revision(Revision(3)), None);
    }
}
