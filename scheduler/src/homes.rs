//! Homes of apps: stores on which node the data of an app's services is.

use gilliam_model::{Timestamp, app::App};
use gilliam_plan::Snapshot;
use gilliam_store::{CommitError, records};

use crate::{control::TurnError, remarks, shared::Shared, state::State};

/// Gives a home to each app that needs one; says whether there was one.
pub(crate) async fn give(
    shared: &Shared,
    state: &State,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<bool, TurnError> {
    let mut changed = false;
    for (name, home) in gilliam_plan::homes(snapshot) {
        let Some(entry) = state.apps.get(&name) else {
            continue;
        };
        changed = true;
        let text = format!("the data of its services is on node {home} from now on");
        let after = App {
            home: Some(home),
            ..entry.stored.value.clone()
        };
        let (check, remark) = remarks::added(&shared.store, &name, now, text).await?;
        let (checks, writes) = (
            [entry.stored.unchanged(), check],
            [records::put_app(&after), remark],
        );
        match shared.store.commit(&checks, &writes).await {
            Ok(_) => {}
            // Its users changed it meanwhile: the next turn sees what they did.
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(TurnError::Commit(error)),
        }
    }
    Ok(changed)
}
