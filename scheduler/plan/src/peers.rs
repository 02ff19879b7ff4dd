//! Which nodes other nodes may send requests to, and for what.

use std::collections::{BTreeMap, BTreeSet};

use gilliam_model::{
    name::{AppName, NodeName, ProcessName},
    peer::{PeerNode, PeerShare, coarse},
    report::ProcessKey,
    route::RouteTable,
};

/// Nodes told of a process type that is starting and runs nowhere: requests only wait for it.
const STARTING_NODES_MAX: usize = 3;

/// What a ready node that takes requests of others reports.
#[derive(Debug, Clone)]
pub struct RunningOn<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// Where it takes them.
    pub address: &'a str,
    /// Its instances of each process type.
    pub running: Vec<(&'a ProcessKey, Instances)>,
}

/// Instances of a process type on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instances {
    /// Those that run.
    pub running: u32,
    /// Those that ended by themselves and wait to be started again.
    pub crashed: u32,
}

/// How many instances of each routed process type a node runs; 0 of what is starting there alone.
pub type Shares = BTreeMap<(AppName, ProcessName), u32>;

/// The process types that have routes, or are used by other apps.
#[derive(Debug, Clone, Default)]
pub struct Routed(BTreeSet<(AppName, ProcessName)>);

impl Routed {
    /// Those of a table.
    pub fn of(routes: &RouteTable) -> Self {
        let routes = routes.hosts.values().chain(&routes.inside);
        Self(
            routes
                .map(|route| (route.app.clone(), route.process.clone()))
                .collect(),
        )
    }

    /// What a node runs of what is placed on it, each process type with its number of slots.
    ///
    /// What runs but is no longer placed is about to stop, and does not count.
    pub fn shares(&self, placed: impl IntoIterator<Item = (ProcessKey, u32)>, on: &RunningOn<'_>) -> Shares {
        let there: BTreeMap<&ProcessKey, Instances> = on.running.iter().copied().collect();
        let mut shares = Shares::new();
        for (key, count) in placed {
            let there = there.get(&key).copied().unwrap_or_default();
            let of = (key.app, key.process);
            let starts = count > there.running.saturating_add(there.crashed);
            if (there.running > 0 || starts) && self.0.contains(&of) {
                *shares.entry(of).or_default() += count.min(there.running);
            }
        }
        shares
    }
}

/// The nodes that run instances of routed process types, by name; of what runs nowhere, a few nodes where it is
/// starting. Nodes come by name, each with where it takes requests.
pub fn peers<'a>(nodes: impl Iterator<Item = (&'a NodeName, &'a str, &'a Shares)> + Clone) -> Vec<PeerNode> {
    let of_nodes = nodes.clone().flat_map(|(_, _, shares)| shares);
    let run: BTreeSet<&(AppName, ProcessName)> = of_nodes
        .filter(|(_, count)| **count > 0)
        .map(|(of, _)| of)
        .collect();
    let mut told: BTreeMap<&(AppName, ProcessName), usize> = BTreeMap::new();
    let peers = nodes.map(|(node, address, shares)| {
        let mut running = Vec::new();
        for (of, count) in shares {
            let told = told.entry(of).or_default();
            *told += usize::from(*count == 0);
            if *count > 0 || (!run.contains(of) && *told <= STARTING_NODES_MAX) {
                running.push(PeerShare {
                    app: of.0.clone(),
                    process: of.1.clone(),
                    count: coarse(*count),
                });
            }
        }
        PeerNode {
            node: node.clone(),
            address: address.to_owned(),
            running,
        }
    });
    peers.filter(|peer| !peer.running.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use gilliam_model::app::App;

    use super::*;

    fn key(text: &str) -> ProcessKey {
        let id: gilliam_model::instance::InstanceId = format!("{text}.1@1").parse().expect("id");
        ProcessKey::from(&id)
    }

    fn run(running: u32) -> Instances {
        Instances { running, crashed: 0 }
    }

    fn of_nodes(nodes: &[NodeName], shares: impl Fn(usize) -> Shares) -> Vec<PeerNode> {
        let shares: Vec<Shares> = (0..nodes.len()).map(shares).collect();
        peers(
            nodes
                .iter()
                .zip(&shares)
                .map(|(node, shares)| (node, "1:1", shares)),
        )
    }

    #[test]
    fn a_node_is_listed_for_what_it_runs_and_is_to_run() {
        let at = "2026-11-21T09:00:00Z".parse().expect("time");
        let routed = Routed::of(&crate::routes(&[crate::AppState {
            app: App::new("a".parse().expect("name"), at),
            images: BTreeMap::new(),
        }]));
        let nodes = ["n1", "n2", "n3"].map(|name| name.parse().expect("name"));
        let (v1, v2, worker, other) = (
            key("a/v1/web"),
            key("a/v2/web"),
            key("a/v1/worker"),
            key("b/v1/web"),
        );
        let placed = [
            vec![(&v1, 3), (&worker, 9), (&v2, 3), (&other, 1)],
            vec![(&v2, 5)],
            vec![],
        ];
        let reported = [
            vec![(&v1, run(7)), (&v2, run(2)), (&worker, run(9)), (&other, run(1))],
            vec![(&v2, run(0))],
            vec![(&v1, run(4))],
        ];
        let table = of_nodes(&nodes, |n| {
            let on = RunningOn {
                node: &nodes[n],
                address: "1:1",
                running: reported[n].clone(),
            };
            routed.shares(placed[n].iter().map(|(key, count)| ((*key).clone(), *count)), &on)
        });
        let [n] = &table[..] else { panic!("{table:?}") };
        assert_eq!((&n.node, &*n.address), (&nodes[0], "1:1"));
        let shares: Vec<_> = n
            .running
            .iter()
            .map(|s| (s.app.as_str(), s.process.as_str(), s.count))
            .collect();
        assert_eq!(shares, [("a", "web", 4)], "3 of v1 and 2 of v2, rounded down");
    }

    #[test]
    fn where_something_starts_is_told_only_while_it_runs_nowhere() {
        let at = "2026-11-21T09:00:00Z".parse().expect("time");
        let routed = Routed::of(&crate::routes(&[crate::AppState {
            app: App::new("a".parse().expect("name"), at),
            images: BTreeMap::new(),
        }]));
        let nodes: Vec<NodeName> = (1..=6).map(|n| format!("n{n}").parse().expect("name")).collect();
        let v1 = key("a/v1/web");
        let told = |reports: &[(usize, Instances)]| {
            let table = of_nodes(&nodes, |node| {
                let here = reports.iter().filter(|(of, _)| *of == node);
                let on = RunningOn {
                    node: &nodes[node],
                    address: "1:1",
                    running: here.map(|(_, there)| (&v1, *there)).collect(),
                };
                routed.shares([(v1.clone(), 2)], &on)
            });
            let told = table.iter().map(|n| format!("{}={}", n.node, n.running[0].count));
            told.collect::<Vec<_>>()
        };
        let crashed = |crashed| Instances { running: 0, crashed };
        assert_eq!(told(&[]), ["n1=0", "n2=0", "n3=0"], "a few are enough");
        assert_eq!(
            told(&[(0, crashed(2)), (1, crashed(1))]),
            ["n2=0", "n3=0", "n4=0"]
        );
        assert_eq!(told(&[(4, run(1))]), ["n5=1"]);
        let all: Vec<_> = (0..6).map(|node| (node, crashed(2))).collect();
        assert_eq!(told(&all), [""; 0], "nothing is starting");
    }
}
