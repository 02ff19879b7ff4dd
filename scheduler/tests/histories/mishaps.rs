//! Histories over a store that is slow, refuses, and does what it was asked without saying so.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fastrand::Rng;
use gilliam_store::{
    Store,
    faults::{Fault, Faults, Operation},
};

use crate::{Cluster, Tally};

/// Apps that are played with at once.
const APPS: usize = 10;
/// And how often; `make soak` asks for more.
const ROUNDS: usize = 15;
const ROUNDS_VARIABLE: &str = "GILLIAM_HISTORY_ROUNDS";

/// The way of one control plane to the store.
#[derive(Debug)]
struct Mishaps {
    rng: Mutex<Rng>,
    on: Arc<AtomicBool>,
}

impl Faults for Mishaps {
    fn before(&self, operation: Operation) -> Pin<Box<dyn Future<Output = Fault> + Send>> {
        let mut rng = self.rng.lock().expect("lock");
        if !self.on.load(Relaxed) {
            return Box::pin(std::future::ready(Fault::None));
        }
        let fault = match (operation, rng.u8(0..100)) {
            (_, 0..3) => Fault::Unavailable,
            (Operation::Commit, 3..12) => Fault::Unanswered,
            _ => Fault::None,
        };
        let delay = Duration::from_micros(rng.u64(0..3_000));
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            fault
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_store_does_changes_of_an_app_are_linearizable() {
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |n| n.parse().expect("a number"));
    let (data, store) = (tempfile::tempdir().expect("folder"), Store::memory());
    let on = Arc::new(AtomicBool::new(false));
    let stores = [1, 2].map(|seed| {
        let rng = Mutex::new(Rng::with_seed(seed));
        store.with_faults(Arc::new(Mishaps { rng, on: on.clone() }))
    });
    let cluster = Cluster::start(data.path(), &stores).await;
    let mut tally = Tally::default();
    for round in 0..rounds {
        on.store(true, Relaxed);
        let apps: Vec<String> = (0..APPS).map(|n| format!("r{round}-{n}")).collect();
        let seeds = (round * APPS) as u64..;
        let played: Vec<_> = seeds
            .zip(&apps)
            .map(|(seed, app)| cluster.play(app, seed, Duration::ZERO))
            .collect();
        let mut histories = Vec::new();
        for (history, users) in played {
            for user in users {
                user.await.expect("a user");
            }
            histories.push(history);
        }
        on.store(false, Relaxed);
        for (app, history) in apps.iter().zip(&histories) {
            cluster.look(app, history).await;
            tally.check(app, history);
            // What comes later is not to plan for them too.
            cluster.planes[0].delete(&format!("/v1/apps/{app}")).await;
        }
    }
    assert!(tally.unknown > rounds * APPS, "little went wrong: {tally:?}");
    tally.is_whole(rounds * APPS);
}
