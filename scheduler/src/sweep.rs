//! What is left of destroyed apps: removed in pieces that fit a commit.
//!
//! An app goes in one commit, with as many of its records as fit. The rest is unreachable from then on, and
//! removed here: by the one who destroyed it, by the control loop, or by the one who creates an app of the
//! same name.
//!
//! Invariant: nothing of an app that exists is removed: each commit checks that it does not.

use std::collections::BTreeSet;

use gilliam_model::name::AppName;
use gilliam_store::{Check, CommitError, Entry, RangeError, Write, keys, records};

use crate::{refusal::Refusal, shared::Shared};

/// Records removed at once: below the store's limit of operations, with room for the app and its check.
const DELETES_MAX: usize = 100;
/// Where the records of apps are, besides the apps themselves.
const OWNED: [&str; 8] = [
    keys::PLACEMENTS,
    keys::RUNS,
    keys::RAN,
    keys::RUN_NUMBERS,
    keys::CRONS,
    keys::RELEASES,
    keys::KEPT,
    keys::REMARKS,
];

/// Removes all that is left of `app`; stops where somebody has created it again.
pub(crate) async fn app(shared: &Shared, app: &AppName) -> Result<(), Refusal> {
    loop {
        let writes = some_of(shared, app).await?;
        if writes.is_empty() {
            return queues(shared, app).await;
        }
        match shared
            .store
            .commit(&[Check::absent(keys::app(app))], &writes)
            .await
        {
            Ok(_) => {}
            Err(CommitError::Conflict { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes the queues of `app`, if it is gone.
async fn queues(shared: &Shared, app: &AppName) -> Result<(), Refusal> {
    let is_there = records::load_app(&shared.store, app).await?.is_some();
    match &shared.config.queues {
        Some(queues) if !is_there => Ok(queues.remove(app).await?),
        _ => Ok(()),
    }
}

/// The removal of some records of `app`, placements first so that its instances end; empty when none are
/// left.
pub(crate) async fn some_of(shared: &Shared, app: &AppName) -> Result<Vec<Write>, RangeError> {
    let (_, lists) = shared
        .store
        .ranges(&[
            &keys::placements_of(app),
            &keys::runs_of(app),
            &keys::ran_of(app),
            &keys::run_number(app),
            &keys::crons_of(app),
            &keys::releases_of(app),
            &keys::kept_of(app),
            &keys::remarks(app),
        ])
        .await?;
    let keys = lists.into_iter().flatten().map(|entry| entry.key);
    Ok(keys.take(DELETES_MAX).map(records::delete).collect())
}

/// Removes all that is left of apps that are gone: what a crash in the middle of a destroy leaves.
pub(crate) async fn all(shared: &Shared) -> Result<(), Refusal> {
    let mut prefixes = vec![keys::APPS];
    prefixes.extend(OWNED);
    let (_, lists) = shared.store.ranges(&prefixes).await?;
    let names = |entries: &[Entry], prefix: &str| {
        let rests = entries.iter().filter_map(|entry| entry.key.strip_prefix(prefix));
        rests
            .filter_map(|rest| rest.split('/').next())
            .map(String::from)
            .collect::<BTreeSet<String>>()
    };
    let [apps, rest @ ..] = &lists[..] else {
        return Ok(());
    };
    let owners = rest
        .iter()
        .zip(OWNED)
        .flat_map(|(entries, prefix)| names(entries, prefix));
    let mut owners: BTreeSet<String> = owners.collect();
    if let Some(queues) = &shared.config.queues {
        owners.extend(queues.apps().await?.into_iter().map(String::from));
    }
    for orphan in &owners - &names(apps, keys::APPS) {
        if let Ok(name) = orphan.parse() {
            app(shared, &name).await?;
        }
    }
    Ok(())
}
