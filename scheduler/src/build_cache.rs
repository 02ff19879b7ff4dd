//! The caches of builds: a folder for each app, in which the build child keeps what the next build may use.
//!
//! Here are only their names and their end; what is in them is the builder's.
//!
//! Invariant: an app never gets the cache of one that had its name before.

use std::{io, path::PathBuf};

use gilliam_model::app::App;

use crate::shared::Shared;

/// Starts the names of what is on its way out; the builder removes it where this process does not.
const GONE: &str = ".gone-";

/// The folder of all caches.
pub(crate) fn folder(shared: &Shared) -> PathBuf {
    shared.config.data.join("build-cache")
}

/// The name of an app's cache: one app at a time has a name, and each is created at another time.
pub(crate) fn key(app: &App) -> String {
    format!("{}.{}", app.name, app.created_at.as_microsecond())
}

/// Removes the cache of an app that is destroyed, once nobody can find it any more.
pub(crate) fn forget(shared: &Shared, app: &App) {
    let (folder, key) = (folder(shared), key(app));
    let remove = move || {
        let gone = folder.join(format!("{GONE}{key}"));
        match std::fs::rename(folder.join(&key), &gone) {
            Ok(()) => std::fs::remove_dir_all(gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    };
    let name = app.name.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = remove() {
            tracing::warn!(app = %name, %error, "the build cache of a destroyed app is left for later");
        }
    });
}
