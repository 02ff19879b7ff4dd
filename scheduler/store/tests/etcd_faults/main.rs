//! What becomes of a store when etcd falters: clusters of real members that are killed, paused, filled,
//! compacted.

#[path = "../etcd_process/mod.rs"]
mod etcd_process;
mod histories;
#[path = "../linearizable/mod.rs"]
mod linearizable;
#[path = "../etcd_process/pki.rs"]
mod pki;
mod register;
mod states;
mod tls;

use std::time::Duration;

/// A deadline for what must happen: far beyond an election.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `look` gives a value.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
