//! Repositories of apps: what `git push` leaves here, and the parts of its protocol.
//!
//! A push is spoken by this process itself ([`request`], [`pkt`]); what it brings is read by a child with limits
//! alone ([`receive`]), into a folder apart, and becomes part of the app's repository ([`repository`]) after its
//! release. Fetches are git's own `http-backend`, as another such child.
//!
//! A repository is of one server and no promise: it makes the next push short, and lets people clone what they
//! pushed. Without it a push brings its whole history.
//!
//! Invariant: no byte that a client sent is parsed here beyond pkt-lines; packs, trees and commits are the child's.
//! Invariant: no hook, filter, monitor or transport of anybody runs: a repository's configuration is written here
//! once, and nothing that is pushed is ever checked out.

pub(crate) mod pkt;
pub(crate) mod receive;
pub(crate) mod repository;
pub(crate) mod request;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use gilliam_model::name::AppName;
use tokio::sync::Semaphore;

use crate::build::PATH;

/// Pushes at once whose objects are on their way or looked at: each is a process of up to two gigabytes of address
/// space, and what it wrote to disk.
const RECEIVED_AT_ONCE_MAX: usize = 4;
/// Fetches at once: each is a process that reads a repository.
const FETCHES_MAX: usize = 4;

/// The repositories of this server, and who works on them.
#[derive(Debug)]
pub(crate) struct Git {
    folder: PathBuf,
    /// Places for pushes whose objects are on their way.
    pub(crate) received: Arc<Semaphore>,
    /// Places for fetches.
    pub(crate) fetches: Arc<Semaphore>,
    pushed: Arc<Mutex<BTreeSet<AppName>>>,
}

/// The right to push to an app: one at a time.
#[derive(Debug)]
pub(crate) struct Turn {
    pushed: Arc<Mutex<BTreeSet<AppName>>>,
    app: AppName,
}

impl Git {
    /// Repositories in a data folder.
    pub(crate) fn in_data(data: &Path) -> Self {
        Self {
            folder: data.join("git"),
            received: Arc::new(Semaphore::new(RECEIVED_AT_ONCE_MAX)),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            pushed: Arc::default(),
        }
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The turn to push to an app; none while another has it.
    pub(crate) fn turn(&self, app: &AppName) -> Option<Turn> {
        let is_free = self.pushed.lock().expect("no holder panics").insert(app.clone());
        is_free.then(|| Turn {
            pushed: self.pushed.clone(),
            app: app.clone(),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pushed.lock().expect("no holder panics").remove(&self.app);
    }
}

/// Whether there is a git to run.
pub(crate) fn is_installed() -> bool {
    PATH.split(':')
        .any(|folder| Path::new(folder).join("git").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_push_at_a_time_has_its_turn() {
        let git = Git::in_data(Path::new("/nowhere"));
        let (hello, other) = ("hello".parse().expect("name"), "other".parse().expect("name"));
        let turn = git.turn(&hello).expect("free");
        assert!(git.turn(&hello).is_none());
        assert!(git.turn(&other).is_some());
        drop(turn);
        assert!(git.turn(&hello).is_some());
    }
}
