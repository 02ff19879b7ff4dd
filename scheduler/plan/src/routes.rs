//! Which app answers for which host.

use gilliam_model::{
    app::App,
    name::ProcessName,
    route::{LOCAL_DOMAIN, Route, RouteTable, WEB},
};

/// The routes of the cluster: `APP.localhost` is the `web` of every app.
///
/// An app without web instances is in it too: the ingress then says so (H14), and not that there is no such
/// app (H81).
pub fn routes<'a>(apps: impl IntoIterator<Item = &'a App>) -> RouteTable {
    let web: ProcessName = WEB.parse().expect("web is a process name");
    let hosts = apps.into_iter().map(|app| {
        (
            format!("{}.{LOCAL_DOMAIN}", app.name),
            Route {
                app: app.name.clone(),
                process: web.clone(),
            },
        )
    });
    RouteTable {
        hosts: hosts.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_app_has_its_host() {
        let at = "2026-11-21T09:00:00Z".parse().expect("time");
        let apps = ["hello", "guestbook"].map(|name| App::new(name.parse().expect("name"), at));
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
