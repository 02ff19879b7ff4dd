//! Changes of the store on behalf of users: read, decide, commit; again when someone else was faster.
//!
//! Invariant: a change is one commit, and it checks the revision of all that was decided upon.

use gilliam_model::name::AppName;
use gilliam_store::{Check, CommitError, Write};

use crate::{refusal::Refusal, shared::Shared};

/// Times a change is decided anew before its caller hears of the conflict: other control planes and the
/// control loop meet a change rarely, and its neighbours here wait for it.
const TRIES_MAX: usize = 16;

/// What to write, on which conditions, and what to answer once it is durable.
#[derive(Debug)]
pub(crate) struct Decision<T> {
    pub(crate) checks: Vec<Check>,
    pub(crate) writes: Vec<Write>,
    pub(crate) answer: T,
}

/// Changes `app`: `decide` reads and decides, and does so again after a conflict.
pub(crate) async fn change<T, D>(shared: &Shared, app: &AppName, decide: impl Fn() -> D) -> Result<T, Refusal>
where
    D: Future<Output = Result<Decision<T>, Refusal>>,
{
    let _turn = shared.lock(app).await;
    let mut tries = 0;
    loop {
        let Decision {
            checks,
            writes,
            answer,
        } = decide().await?;
        tries += 1;
        match shared.store.commit(&checks, &writes).await {
            Ok(_) => return Ok(answer),
            Err(CommitError::Conflict { key }) if tries < TRIES_MAX => {
                tracing::debug!(%app, %key, tries, "conflict, deciding anew");
            }
            Err(error) => return Err(error.into()),
        }
    }
}
