//! Which nodes other nodes may send requests to, and for what.

use std::collections::{BTreeMap, BTreeSet};

use gilliam_model::{
    name::{AppName, NodeName, ProcessName},
    peer::{PeerNode, PeerShare, coarse},
    placement::Placement,
    release::ReleaseId,
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

type Shares<'a> = BTreeMap<(&'a AppName, &'a ProcessName), u32>;

/// The nodes that run instances of routed process types, by name; of what runs nowhere, a few nodes where it is
/// starting.
///
/// What runs but is no longer placed is about to stop, and does not count.
pub fn peers<'a>(
    routes: &RouteTable,
    placements: impl IntoIterator<Item = &'a Placement>,
    nodes: impl IntoIterator<Item = RunningOn<'a>>,
) -> Vec<PeerNode> {
    let routed: BTreeSet<(&AppName, &ProcessName)> = routes
        .hosts
        .values()
        .map(|route| (&route.app, &route.process))
        .collect();
    let mut placed: BTreeMap<&NodeName, Vec<&Placement>> = BTreeMap::new();
    for placement in placements {
        if routed.contains(&(&placement.app, &placement.process)) {
            placed.entry(&placement.node).or_default().push(placement);
        }
    }
    let of_node = |on: RunningOn<'a>| {
        let placed = placed.get(on.node).map_or(&[][..], Vec::as_slice);
        (on.node, (on.address, shares(placed, &on.running)))
    };
    // By name, whatever order they come in.
    let nodes: BTreeMap<&NodeName, (&str, Shares<'_>)> = nodes.into_iter().map(of_node).collect();
    let of_nodes = nodes.values().flat_map(|(_, shares)| shares);
    let run: BTreeSet<_> = of_nodes
        .filter(|(_, count)| **count > 0)
        .map(|(of, _)| *of)
        .collect();
    let mut told: BTreeMap<(&AppName, &ProcessName), usize> = BTreeMap::new();
    let peers = nodes.into_iter().map(|(node, (address, mut shares))| {
        shares.retain(|of, count| {
            let told = told.entry(*of).or_default();
            *told += usize::from(*count == 0);
            *count > 0 || (!run.contains(of) && *told <= STARTING_NODES_MAX)
        });
        let share = |((app, process), count): ((&AppName, &ProcessName), u32)| PeerShare {
            app: app.clone(),
            process: process.clone(),
            count: coarse(count),
        };
        PeerNode {
            node: node.clone(),
            address: address.to_owned(),
            running: shares.into_iter().map(share).collect(),
        }
    });
    peers.filter(|peer| !peer.running.is_empty()).collect()
}

/// What a node runs of what is placed on it, and 0 of what is starting there alone.
fn shares<'a>(placed: &[&'a Placement], reported: &[(&ProcessKey, Instances)]) -> Shares<'a> {
    let there: BTreeMap<(&AppName, ReleaseId, &ProcessName), Instances> = reported
        .iter()
        .map(|(key, there)| ((&key.app, key.release, &key.process), *there))
        .collect();
    let mut shares = Shares::new();
    for placement in placed {
        let of = (&placement.app, placement.release, &placement.process);
        let there = there.get(&of).copied().unwrap_or_default();
        let starts = placement.count() > there.running.saturating_add(there.crashed);
        if there.running > 0 || starts {
            let serve = placement.count().min(there.running);
            *shares.entry((&placement.app, &placement.process)).or_default() += serve;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use gilliam_model::{app::App, instance::Epoch, placement::SlotRange};

    use super::*;

    fn key(text: &str) -> ProcessKey {
        let id: gilliam_model::instance::InstanceId = format!("{text}.1@1").parse().expect("id");
        ProcessKey::from(&id)
    }

    fn run(running: u32) -> Instances {
        Instances { running, crashed: 0 }
    }

    fn placed(text: &str, node: &NodeName, count: u32) -> Placement {
        let ProcessKey {
            app,
            release,
            process,
        } = key(text);
        let (first, last, epoch) = (1, count, Epoch::default());
        Placement {
            app,
            release,
            process,
            node: node.clone(),
            ranges: vec![SlotRange { first, last, epoch }],
            leaving: Vec::new(),
        }
    }

    #[test]
    fn a_node_is_listed_for_what_it_runs_and_is_to_run() {
        let at = "2026-11-21T09:00:00Z".parse().expect("time");
        let routes = crate::routes(&[App::new("a".parse().expect("name"), at)]);
        let [n1, n2, n3]: [NodeName; 3] = ["n1", "n2", "n3"].map(|name| name.parse().expect("name"));
        let placements = [
            placed("a/v1/web", &n1, 3),
            placed("a/v2/web", &n1, 3),
            placed("a/v1/worker", &n1, 9),
            placed("a/v2/web", &n2, 5),
        ];
        let (v1, v2, worker, other) = (
            key("a/v1/web"),
            key("a/v2/web"),
            key("a/v1/worker"),
            key("b/v1/web"),
        );
        let on = |node, address, running: Vec<_>| RunningOn {
            node,
            address,
            running: running
                .into_iter()
                .map(|(key, count)| (key, run(count)))
                .collect(),
        };
        let table = peers(
            &routes,
            &placements,
            [
                on(&n2, "2:1", vec![(&v2, 0)]),
                on(&n3, "3:1", vec![(&v1, 4)]),
                on(&n1, "1:1", vec![(&v1, 7), (&v2, 2), (&worker, 9), (&other, 1)]),
            ],
        );
        let [n] = &table[..] else { panic!("{table:?}") };
        assert_eq!((&n.node, &*n.address), (&n1, "1:1"));
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
        let routes = crate::routes(&[App::new("a".parse().expect("name"), at)]);
        let nodes: Vec<NodeName> = (1..=6).map(|n| format!("n{n}").parse().expect("name")).collect();
        let placements: Vec<_> = nodes.iter().map(|node| placed("a/v1/web", node, 2)).collect();
        let v1 = key("a/v1/web");
        let told = |reports: &[(usize, Instances)]| {
            let on = |node| RunningOn {
                node: &nodes[node],
                address: "1:1",
                running: reports
                    .iter()
                    .filter(|(of, _)| *of == node)
                    .map(|(_, there)| (&v1, *there))
                    .collect(),
            };
            let table = peers(&routes, &placements, (0..6).rev().map(on));
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
