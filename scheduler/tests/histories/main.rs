//! Users of two control planes on one store that change the same apps at once while the store fails: for each
//! app, what they were answered is what one would be who did it all alone, in some order.

mod app;
mod etcd;
#[path = "../../store/tests/etcd_process/mod.rs"]
mod etcd_process;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../store/tests/linearizable/mod.rs"]
mod linearizable;
mod mishaps;
mod users;

use std::{path::Path, sync::Arc, time::Duration};

use app::{What, holds};
use fastrand::Rng;
use gilliam_store::Store;
use harness::{Plane, Start, node::Node};
use users::{History, STEPS, USERS, User};

/// How often each way to end came about.
#[derive(Debug, Default)]
struct Tally {
    histories: usize,
    changes: usize,
    unknown: usize,
    /// Refused, or not read: nothing happened.
    refused: usize,
    reads: usize,
}

impl Tally {
    /// Checks a history, and counts it.
    #[track_caller]
    fn check(&mut self, what: &str, history: &History) {
        let operations = history.operations.lock().expect("lock");
        assert!(holds(&operations), "{what}: {operations:#?}");
        self.histories += 1;
        self.refused += (USERS * STEPS).saturating_sub(operations.len());
        for operation in &*operations {
            match (&operation.what, operation.end) {
                (_, None) => self.unknown += 1,
                (What::Created | What::Destroyed | What::Released { .. } | What::Scaled { .. }, _) => {
                    self.changes += 1;
                }
                _ => self.reads += 1,
            }
        }
    }

    /// What was checked is worth the name.
    fn is_whole(&self, histories: usize) {
        println!("{self:?}");
        assert!(self.histories >= histories, "{self:?}");
        assert!(self.changes > self.histories * STEPS, "little was done: {self:?}");
    }
}

/// The control planes, and nodes that run all they are told.
struct Cluster {
    planes: Vec<Arc<Plane>>,
    _nodes: Vec<harness::node::Following>,
}

impl Cluster {
    /// One control plane on each of these ways to one store.
    async fn start(data: &Path, stores: &[Store]) -> Self {
        let mut planes = Vec::new();
        for store in stores {
            let start = Start {
                data,
                store: store.clone(),
                lost_after: Duration::from_secs(10),
            };
            planes.push(Arc::new(harness::start(start).await));
        }
        let follow = |name: &'static str| planes.iter().map(move |plane| Node::new(plane, name).follow());
        let nodes = ["a", "b"].into_iter().flat_map(follow).collect();
        Self {
            planes,
            _nodes: nodes,
        }
    }

    /// Has users play with an app, a control plane each.
    fn play(&self, app: &str, seed: u64, pace: Duration) -> (Arc<History>, Vec<tokio::task::JoinHandle<()>>) {
        let history = Arc::new(History::default());
        let user = |n: usize| User {
            plane: self.planes[n % self.planes.len()].clone(),
            app: app.to_owned(),
            history: history.clone(),
            rng: Rng::with_seed(seed * 31 + n as u64),
            mark: u32::try_from(n).expect("few"),
            pace,
        };
        let users = (0..USERS).map(|n| tokio::spawn(user(n).play())).collect();
        (history, users)
    }

    /// Reads all of an app, once nobody plays with it any more.
    async fn look(&self, app: &str, history: &Arc<History>) {
        let user = User {
            plane: self.planes[0].clone(),
            app: app.to_owned(),
            history: history.clone(),
            rng: Rng::with_seed(0),
            mark: 0,
            pace: Duration::ZERO,
        };
        user.look().await;
    }
}
