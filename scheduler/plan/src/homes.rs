//! Homes: which node has the data of an app's services.
//!
//! In flows the snapshot, out flow the apps that need a home and have none, each with the node that becomes it. An
//! app that shares the services of another has the home of that one. For the others it is the ready node that meets
//! the rules of most process types, then one that runs instances of the app, then the one that is home to the fewest.
//!
//! Invariant: an app that has a home keeps it: its data is there.

use std::collections::BTreeMap;

use gilliam_model::{
    app::App,
    name::{AppName, NodeName},
};

use crate::snapshot::{AppState, Availability, NodeState, Snapshot};

/// The apps that get a home, each with its node.
pub fn homes(snapshot: &Snapshot) -> Vec<(AppName, NodeName)> {
    let mut known: BTreeMap<AppName, NodeName> = BTreeMap::new();
    let mut load: BTreeMap<NodeName, usize> = BTreeMap::new();
    for app in snapshot.apps.iter().map(|state| &state.app) {
        if let Some(home) = &app.home {
            known.insert(app.name.clone(), home.clone());
            *load.entry(home.clone()).or_default() += 1;
        }
    }
    let (mut given, mut sharing) = (Vec::new(), Vec::new());
    for state in &snapshot.apps {
        match needed(&state.app) {
            Needed::None => {}
            Needed::Own => {
                if let Some(home) = choose(snapshot, state, &load) {
                    *load.entry(home.clone()).or_default() += 1;
                    known.insert(state.app.name.clone(), home.clone());
                    given.push((state.app.name.clone(), home));
                }
            }
            Needed::Of(owner) => sharing.push((&state.app.name, owner)),
        }
    }
    for (app, owner) in sharing {
        if let Some(home) = known.get(owner) {
            given.push((app.clone(), home.clone()));
        }
    }
    given
}

enum Needed<'a> {
    None,
    Own,
    Of(&'a AppName),
}

fn needed(app: &App) -> Needed<'_> {
    if app.home.is_some() {
        return Needed::None;
    }
    let on_a_node = app.services.values();
    let mut on_a_node = on_a_node.filter(|record| record.service.kind().is_on_a_node());
    match on_a_node.find_map(|record| record.of.as_ref()) {
        Some(of) => Needed::Of(&of.app),
        None => match app
            .services
            .values()
            .any(|record| record.service.kind().is_on_a_node())
        {
            true => Needed::Own,
            false => Needed::None,
        },
    }
}

fn choose(snapshot: &Snapshot, state: &AppState, load: &BTreeMap<NodeName, usize>) -> Option<NodeName> {
    let ready = snapshot.nodes.iter();
    let ready = ready.filter(|node| node.state == Availability::Ready);
    let best = ready.max_by_key(|node| {
        let homes = load.get(&node.name).copied().unwrap_or(0);
        let names = std::cmp::Reverse((homes, &node.name));
        (fitting(state, node), runs_on(snapshot, state, node), names)
    });
    best.map(|node| node.name.clone())
}

/// How many process types of the app's newest image may run on a node.
fn fitting(state: &AppState, node: &NodeState) -> usize {
    let image = state.images.values().next_back();
    let processes = image.into_iter().flat_map(|image| image.processes.values());
    processes
        .filter(|process| {
            let rules = &process.placement.require;
            rules.iter().all(|rule| rule.holds(&node.name, &node.labels))
        })
        .count()
}

fn runs_on(snapshot: &Snapshot, state: &AppState, node: &NodeState) -> bool {
    let placements = &snapshot.placements;
    placements
        .keys_of_app(&state.app.name)
        .any(|key| placements.ranges(key, &node.name).is_some())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gilliam_model::{
        Timestamp,
        service::{Service, ServiceId, ServiceKind, ServiceRecord},
    };

    use super::*;

    fn record(of: Option<&str>) -> ServiceRecord {
        let made_at = Timestamp::UNIX_EPOCH;
        ServiceRecord {
            service: Service::new(ServiceKind::Keyvalue),
            made_at,
            of: of.map(|app| ServiceId {
                app: app.parse().expect("name"),
                name: "cache".parse().expect("name"),
                made_at,
            }),
            shared_with: Vec::new(),
        }
    }

    fn app(name: &str, home: Option<&str>, records: &[ServiceRecord]) -> Arc<AppState> {
        let mut app = App::new(name.parse().expect("name"), Timestamp::UNIX_EPOCH);
        app.home = home.map(|home| home.parse().expect("name"));
        for (n, record) in records.iter().enumerate() {
            let name = format!("cache{n}").parse().expect("name");
            app.services.insert(name, record.clone());
        }
        Arc::new(AppState {
            app,
            images: BTreeMap::new(),
        })
    }

    fn node(name: &str, state: Availability) -> NodeState {
        NodeState {
            name: name.parse().expect("name"),
            state,
            memory_bytes: 1 << 30,
            cpu_millis: 1_000,
            labels: Default::default(),
            slots_max: 10,
            ports_max: 10,
        }
    }

    #[test]
    fn data_goes_to_the_ready_node_that_is_home_to_the_fewest_and_what_is_shared_stays_together() {
        let snapshot = Snapshot {
            apps: vec![
                app("a", Some("n1"), &[record(None)]),
                app("b", None, &[record(None)]),
                app("c", None, &[record(Some("b"))]),
                app("d", None, &[]),
                app("e", None, &[record(None)]),
            ],
            nodes: vec![
                node("n0", Availability::Draining),
                node("n1", Availability::Ready),
                node("n2", Availability::Ready),
            ],
            ..Snapshot::default()
        };
        let given: Vec<(String, String)> = homes(&snapshot)
            .into_iter()
            .map(|(app, node)| (app.to_string(), node.to_string()))
            .collect();
        let want = [("b", "n2"), ("e", "n1"), ("c", "n2")];
        assert_eq!(given, want.map(|(app, node)| (app.to_string(), node.to_string())));
    }

    #[test]
    fn without_a_ready_node_nothing_has_a_home() {
        let snapshot = Snapshot {
            apps: vec![app("a", None, &[record(None)])],
            nodes: vec![node("n0", Availability::Lost)],
            ..Snapshot::default()
        };
        assert_eq!(homes(&snapshot), []);
    }
}
