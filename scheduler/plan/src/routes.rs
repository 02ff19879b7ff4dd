//! Which app answers for which host.

use gilliam_model::{
    name::ProcessName,
    route::{LOCAL_DOMAIN, Route, RouteTable, WEB},
};

use crate::AppState;

/// The routes of the cluster: `APP.localhost` is the `web` of every app; beside them what apps use of one another.
///
/// An app without web instances is in it too: the ingress then says so (H14), and not that there is no such
/// app (H81).
pub fn routes<'a>(apps: impl IntoIterator<Item = &'a AppState>) -> RouteTable {
    let web: ProcessName = WEB.parse().expect("web is a process name");
    let mut table = RouteTable::default();
    for AppState { app, images } in apps {
        let host = format!("{}.{LOCAL_DOMAIN}", app.name);
        let route = Route {
            app: app.name.clone(),
            process: web.clone(),
        };
        table.hosts.insert(host, route);
        if let Some(callers) = &app.callers {
            table.callers.insert(app.name.clone(), callers.clone());
        }
        let processes = images.values().flat_map(|image| image.processes.values());
        let used = processes.flat_map(|process| process.uses.values());
        table.inside.extend(used.map(|used| Route {
            app: used.app.clone(),
            process: used.process.clone(),
        }));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gilliam_model::app::App;

    use super::*;

    #[test]
    fn every_app_has_its_host() {
        let at = "2026-11-21T09:00:00Z".parse().expect("time");
        let apps = ["hello", "guestbook"].map(|name| AppState {
            app: App::new(name.parse().expect("name"), at),
            images: BTreeMap::new(),
        });
        let table = routes(&apps);
        let hosts: Vec<(&str, &str)> = table
            .hosts
            .iter()
            .map(|(host, route)| (host.as_str(), route.app.as_str()))
            .collect();
        assert_eq!(
            hosts,
            [("guestbook.localhost", "guestbook"), ("hello.localhost", "hello")]
        );
        assert!(table.hosts.values().all(|route| route.process.as_str() == WEB));
    }
}
