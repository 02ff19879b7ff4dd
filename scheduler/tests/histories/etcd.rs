//! Histories over an etcd of three members that are killed and paused.

use std::{sync::Arc, time::Duration};

use gilliam_store::Store;

use crate::{
    Cluster, Tally,
    etcd_process::{Etcd, FAULTS},
    users::{History, USERS},
};

/// Apps that are played with during one fault.
const APPS: usize = 12;
/// Rounds of each fault; `make soak` runs more by the variable.
const ROUNDS: usize = 1;
const ROUNDS_VARIABLE: &str = "GILLIAM_ETCD_ROUNDS";
/// Pause of a user between two steps, so that a history lasts through the fault and its end.
const PACE: Duration = Duration::from_millis(150);
/// The fault begins when so many operations of each history have ended.
const BEFORE_FAULT: usize = 2 * USERS;
/// How long it lasts: beyond an election, so that users meet the time before, in and after it.
const FAULT_LASTS: Duration = Duration::from_millis(900);
/// A deadline for what must happen.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_etcd_changes_of_an_app_are_linearizable() {
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |n| n.parse().expect("a number"));
    let arguments = ["--heartbeat-interval", "50", "--election-timeout", "500"];
    let etcd = tokio::task::block_in_place(|| Etcd::start(3, &arguments));
    let mut stores = Vec::new();
    for n in 0..2 {
        let mut config = etcd.config("histories");
        config.members.rotate_left(n);
        config.deadline = Duration::from_secs(2);
        stores.push(Store::open_etcd(config).await.expect("open"));
    }
    let data = tempfile::tempdir().expect("folder");
    let cluster = Cluster::start(data.path(), &stores).await;
    let mut tally = Tally::default();
    for round in 0..rounds * FAULTS.len() {
        let fault = FAULTS[round % FAULTS.len()];
        let apps: Vec<String> = (0..APPS).map(|n| format!("r{round}-{n}")).collect();
        let seeds = (round * APPS) as u64..;
        let played: Vec<_> = seeds
            .zip(&apps)
            .map(|(seed, app)| cluster.play(app, seed, PACE))
            .collect();
        let (histories, users): (Vec<_>, Vec<_>) = played.into_iter().unzip();
        under_way(&histories).await;
        let members = tokio::task::block_in_place(|| etcd.falter(fault));
        tokio::time::sleep(FAULT_LASTS).await;
        tokio::task::block_in_place(|| etcd.recover(fault, &members));
        for user in users.into_iter().flatten() {
            user.await.expect("a user");
        }
        for (app, history) in apps.iter().zip(&histories) {
            cluster.look(app, history).await;
            tally.check(&format!("{fault:?}, {app}"), history);
            cluster.planes[0].delete(&format!("/v1/apps/{app}")).await;
        }
    }
    tally.is_whole(rounds * FAULTS.len() * APPS);
}

/// Waits until every app was changed and read some times.
async fn under_way(histories: &[Arc<History>]) {
    let is_under_way =
        |history: &Arc<History>| history.operations.lock().expect("lock").len() >= BEFORE_FAULT;
    let all = async {
        while !histories.iter().all(is_under_way) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("users get on");
}
