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

/// What a ready node that takes requests of others reports as running.
#[derive(Debug, Clone)]
pub struct RunningOn<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// Where it takes them.
    pub address: &'a str,
    /// Running instances of each process type.
    pub running: Vec<(&'a ProcessKey, u32)>,
}

/// The nodes that run instances of routed process types, by name.
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
    let placed: BTreeMap<(&NodeName, &AppName, ReleaseId, &ProcessName), u32> = placements
        .into_iter()
        .filter(|placement| routed.contains(&(&placement.app, &placement.process)))
        .map(|p| ((&p.node, &p.app, p.release, &p.process), p.count()))
        .collect();
    let of_node = |on: RunningOn<'_>| {
        let mut shares: BTreeMap<(&AppName, &ProcessName), u32> = BTreeMap::new();
        for (key, running) in &on.running {
            let placed = placed.get(&(on.node, &key.app, key.release, &key.process));
            let count = placed.map_or(0, |placed| (*placed).min(*running));
            *shares.entry((&key.app, &key.process)).or_default() += count;
        }
        let shares = shares.into_iter().filter(|(_, count)| *count > 0);
        PeerNode {
            node: on.node.clone(),
            address: on.address.to_owned(),
            running: shares
                .map(|((app, process), count)| PeerShare {
                    app: app.clone(),
                    process: process.clone(),
                    count: coarse(count),
                })
                .collect(),
        }
    };
    let mut peers: Vec<PeerNode> = nodes.into_iter().map(of_node).collect();
    peers.retain(|peer| !peer.running.is_empty());
    peers.sort_by(|a, b| a.node.cmp(&b.node));
    peers
}

#[cfg(test)]
mod tests {
    use gilliam_model::{app::App, instance::Epoch, placement::SlotRange};

    use super::*;

    fn key(text: &str) -> ProcessKey {
        let id: gilliam_model::instance::InstanceId = format!("{text}.1@1").parse().expect("id");
        ProcessKey::from(&id)
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
        let on = |node, address, running| RunningOn {
            node,
            address,
            running,
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
}
