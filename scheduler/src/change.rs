//! Changes of the store on behalf of users: read, decide, commit; again when someone else was faster.
//!
//! Invariant: a change is one commit, and it checks the revision of all that was decided upon.
//! Invariant: what users are told of it is in that commit.

use gilliam_model::{Timestamp, name::AppName};
use gilliam_store::{Check, CommitError, Write};

use crate::{refusal::Refusal, remarks, shared::Shared};

/// Times a change is decided anew before its caller hears of the conflict: other control planes and the
/// control loop meet a change rarely, and its neighbours here wait for it.
const TRIES_MAX: usize = 16;

/// What to write, on which conditions, and what to answer once it is durable.
#[derive(Debug)]
pub(crate) struct Decision<T> {
    pub(crate) checks: Vec<Check>,
    pub(crate) writes: Vec<Write>,
    /// What users are told of it.
    pub(crate) remark: Option<String>,
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
            mut checks,
            mut writes,
            remark,
            answer,
        } = decide().await?;
        if let Some(text) = remark.clone() {
            let (check, write) = remarks::added(&shared.store, app, Timestamp::now(), text).await?;
            checks.push(check);
            writes.push(write);
        }
        tries += 1;
        match shared.store.commit(&checks, &writes).await {
            Ok(_) => {
                if let Some(remark) = remark {
                    tracing::info!(%app, remark);
                }
                return Ok(answer);
            }
            Err(CommitError::Conflict { key }) if tries < TRIES_MAX => {
                tracing::debug!(%app, %key, tries, "conflict, deciding anew");
            }
            Err(error) => return Err(error.into()),
        }
    }
}
