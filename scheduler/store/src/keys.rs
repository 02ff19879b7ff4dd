//! The keys of records: paths, whose order is the order in which records are listed.

use gilliam_model::{
    digest::Digest,
    name::{AppName, CronName, NodeName, ProcessName},
    placement::Placement,
    release::ReleaseId,
    report::ProcessKey,
};

/// The version of the format; written when the store is made.
pub const FORMAT: &str = "/format";
/// There while a store is filled by an import.
pub const IMPORTING: &str = "/importing";
/// The epoch of the last plan.
pub const PLAN_EPOCH: &str = "/plan/epoch";
/// That an operator asked for a better spread, until there is none better.
pub const REBALANCE: &str = "/plan/rebalance";
/// The operator's choices about placement.
pub const POLICY: &str = "/cluster/policy";
/// Which control plane plans. Apart from all that plans are made from, for it changes all the time.
pub const LEASE: &str = "/lease/planner";
/// The cluster's certificate authority.
pub const AUTHORITY: &str = "/cluster/authority";
/// Which place holds the cluster's images.
pub const BLOBS: &str = "/cluster/blobs";
/// The id by which a PostgreSQL knows the cluster's queues.
pub const QUEUES: &str = "/cluster/queues";
/// Where invitations to join are.
pub const INVITATIONS: &str = "/invitations/";
/// Where nodes are.
pub const NODES: &str = "/nodes/";
/// Where apps are.
pub const APPS: &str = "/apps/";
/// Where images are.
pub const IMAGES: &str = "/images/";
/// Where is kept which images apps have without a release of them.
pub const KEPT: &str = "/kept/";
/// Where placements are.
pub const PLACEMENTS: &str = "/placements/";
/// Where releases are.
pub const RELEASES: &str = "/releases/";
/// Where what users are told of their apps is.
pub const REMARKS: &str = "/remarks/";
/// Where runs that have not ended are.
pub const RUNS: &str = "/runs/";
/// Where the ends of runs are. Apart from the others, since nothing is decided on them.
pub const RAN: &str = "/ran/";
/// Where the number of the last run of each app is.
pub const RUN_NUMBERS: &str = "/run-numbers/";
/// Where is kept what was done about the crons of apps.
pub const CRONS: &str = "/crons/";
/// Where tokens are.
pub const TOKENS: &str = "/tokens/";

/// An app.
pub fn app(app: &AppName) -> String {
    format!("{APPS}{app}")
}

/// A release; its number has leading zeros, so that v2 is listed before v10.
pub fn release(app: &AppName, release: ReleaseId) -> String {
    format!("{RELEASES}{app}/{:010}", release.number())
}

/// Where the releases of one app are.
pub fn releases_of(app: &AppName) -> String {
    format!("{RELEASES}{app}/")
}

/// The newest remarks about an app.
pub fn remarks(app: &AppName) -> String {
    format!("{REMARKS}{app}/newest")
}

/// An image, by the digest of its manifest.
pub fn image(digest: &Digest) -> String {
    format!("{IMAGES}{}", digest.hex())
}

/// That an app has an image without a release of it.
pub fn kept(app: &AppName, digest: &Digest) -> String {
    format!("{KEPT}{app}/{}", digest.hex())
}

/// Where the images are that one app has without releases of them.
pub fn kept_of(app: &AppName) -> String {
    format!("{KEPT}{app}/")
}

/// The placement of a process type on a node.
pub fn placement(app: &AppName, release: ReleaseId, process: &ProcessName, node: &NodeName) -> String {
    format!("{PLACEMENTS}{app}/{:010}/{process}/{node}", release.number())
}

/// The key of `placement`.
pub fn of_placement(placement: &Placement) -> String {
    self::placement(
        &placement.app,
        placement.release,
        &placement.process,
        &placement.node,
    )
}

/// The app whose key is `key`.
pub fn app_of(key: &str) -> Option<AppName> {
    key.strip_prefix(APPS)?.parse().ok()
}

/// The node whose key is `key`.
pub fn node_of(key: &str) -> Option<NodeName> {
    key.strip_prefix(NODES)?.parse().ok()
}

/// The process type and the node whose placement has the key `key`.
pub fn placement_of(key: &str) -> Option<(ProcessKey, NodeName)> {
    let mut parts = key.strip_prefix(PLACEMENTS)?.split('/');
    let app = parts.next()?.parse().ok()?;
    let release = ReleaseId::new(parts.next()?.parse().ok()?);
    let process = parts.next()?.parse().ok()?;
    let node = parts.next()?.parse().ok()?;
    let key = ProcessKey {
        app,
        release,
        process,
    };
    parts.next().is_none().then_some((key, node))
}

/// Where the placements of one app are.
pub fn placements_of(app: &AppName) -> String {
    format!("{PLACEMENTS}{app}/")
}

/// A run that has not ended; its number has leading zeros.
pub fn run(app: &AppName, number: u32) -> String {
    format!("{RUNS}{app}/{number:010}")
}

/// Where the runs of one app are that have not ended.
pub fn runs_of(app: &AppName) -> String {
    format!("{RUNS}{app}/")
}

/// A run that has ended.
pub fn ran(app: &AppName, number: u32) -> String {
    format!("{RAN}{app}/{number:010}")
}

/// Where the runs of one app are that have ended.
pub fn ran_of(app: &AppName) -> String {
    format!("{RAN}{app}/")
}

/// The number of the last run of an app.
pub fn run_number(app: &AppName) -> String {
    format!("{RUN_NUMBERS}{app}/last")
}

/// The app and the number of the run that has not ended whose key is `key`.
pub fn run_of(key: &str) -> Option<(AppName, u32)> {
    let (app, number) = key.strip_prefix(RUNS)?.split_once('/')?;
    Some((app.parse().ok()?, number.parse().ok()?))
}

/// What was done about a cron of an app.
pub fn cron(app: &AppName, cron: &CronName) -> String {
    format!("{CRONS}{app}/{cron}")
}

/// Where is kept what was done about the crons of one app.
pub fn crons_of(app: &AppName) -> String {
    format!("{CRONS}{app}/")
}

/// The app and the cron whose key is `key`.
pub fn cron_of(key: &str) -> Option<(AppName, CronName)> {
    let (app, cron) = key.strip_prefix(CRONS)?.split_once('/')?;
    Some((app.parse().ok()?, cron.parse().ok()?))
}

/// An invitation to join, by the public part of its token.
pub fn invitation(id: &str) -> String {
    format!("{INVITATIONS}{id}")
}

/// A node.
pub fn node(node: &NodeName) -> String {
    format!("{NODES}{node}")
}

/// A token, by its public part.
pub fn token(id: &str) -> String {
    format!("{TOKENS}{id}")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn releases_are_listed_by_number() {
        let app: AppName = "hello".parse().expect("name");
        let key = |n| release(&app, ReleaseId::new(NonZeroU32::new(n).expect("not zero")));
        assert_eq!(key(2), "/releases/hello/0000000002");
        assert!(key(2) < key(10) && key(10) < key(u32::MAX));
        assert!(key(1).starts_with(&releases_of(&app)));
    }

    #[test]
    fn a_key_says_what_it_is_of() {
        let (of, node) = placement_of("/placements/hello/0000000012/web/n1").expect("a placement");
        assert_eq!(
            placement(&of.app, of.release, &of.process, &node),
            "/placements/hello/0000000012/web/n1"
        );
        for other in [
            "/placements/hello/0000000012/web",
            "/placements/hello/0000000000/web/n1",
            "/placements/hello/0000000012/web/n1/x",
            "/apps/hello",
        ] {
            assert_eq!(placement_of(other), None, "{other}");
        }
        assert_eq!(app_of("/apps/hello").expect("an app").as_str(), "hello");
        assert_eq!(node_of("/nodes/n1").expect("a node").as_str(), "n1");
        assert_eq!((app_of("/nodes/n1"), node_of("/apps/hello")), (None, None));
    }
}
