//! Uses: what apps call of one another inside the cluster.
//!
//! An app declares what it uses, by names of its own: `[uses] billing = { app = "billing", process = "web" }`, and
//! finds it at `http://billing.internal`. Whose calls an app takes is its own affair.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::name::{AppName, ProcessName, ServiceName};

/// Uses of one app.
pub const USES_MAX: usize = 64;
/// Apps that one app permits by name.
pub const CALLERS_MAX: usize = 1_000;

/// What an app uses, by its own names for it.
pub type Uses = BTreeMap<ServiceName, Use>;

/// A process type of an app that another one calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Use {
    /// The app.
    pub app: AppName,
    /// Its process type.
    pub process: ProcessName,
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.process, self.app)
    }
}

/// Whether a use can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UseState {
    /// The other app is there and takes the calls.
    Ok,
    /// There is no such app.
    NoApp,
    /// Nothing was released of it.
    NoRelease,
    /// Its newest release has no such process type, or one that takes no requests.
    NoProcess,
    /// It does not permit the caller.
    NotPermitted,
}

impl UseState {
    /// What is missing, and the way out; none when nothing is.
    pub fn remark(self, caller: &AppName, used: &Use) -> Option<(String, String)> {
        let Use { app, process } = used;
        let said = match self {
            UseState::Ok => return None,
            UseState::NoApp => (
                format!("there is no app {app} yet"),
                format!("gilliam create {app}"),
            ),
            UseState::NoRelease => (
                format!("nothing was released of {app} yet"),
                format!("gilliam deploy, in the project of {app}"),
            ),
            UseState::NoProcess => (
                format!("{app} has no process {process} that takes requests"),
                format!("gilliam releases --app {app} lists its processes"),
            ),
            UseState::NotPermitted => (
                format!("{app} does not permit {caller}"),
                format!("its owner does: gilliam uses allow {caller} --app {app}"),
            ),
        };
        Some(said)
    }
}

/// A use as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UseInfo {
    /// The caller's name for it.
    pub name: ServiceName,
    /// The app.
    pub app: AppName,
    /// Its process type.
    pub process: ProcessName,
    /// Whether it can be.
    pub state: UseState,
}

/// What one app uses, and who may use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppUses {
    /// The app.
    pub app: AppName,
    /// What its newest release uses.
    pub uses: Vec<UseInfo>,
    /// The apps that may use it; none when every app of the cluster may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers: Option<BTreeSet<AppName>>,
}

/// What apps use of one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsesGraph {
    /// The apps, by name.
    pub apps: Vec<AppUses>,
    /// Apps that call each other in a circle, one circle each: the last calls the first.
    pub cycles: Vec<Vec<AppName>>,
}

/// A change of who may use an app: `PATCH /v1/apps/{app}/callers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CallersChange {
    /// Every app may from now on, but for what else is said.
    pub any: bool,
    /// These may; from the first on, those that are not named may not.
    pub allow: BTreeSet<AppName>,
    /// These may not.
    pub deny: BTreeSet<AppName>,
}

/// Who may use an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Callers {
    /// Those that may; none when every app of the cluster may.
    pub callers: Option<BTreeSet<AppName>>,
}

impl CallersChange {
    /// Who may use an app that `before` might.
    pub fn applied(&self, before: Option<&BTreeSet<AppName>>) -> Option<BTreeSet<AppName>> {
        if self.any {
            return None;
        }
        let mut callers = before.cloned().unwrap_or_default();
        callers.extend(self.allow.iter().cloned());
        callers.retain(|caller| !self.deny.contains(caller));
        Some(callers)
    }
}

/// Whether `caller` may use an app whose callers are these: an app may always use itself.
pub fn permits(app: &AppName, callers: Option<&BTreeSet<AppName>>, caller: &AppName) -> bool {
    app == caller || callers.is_none_or(|callers| callers.contains(caller))
}

/// The circles among apps of which each calls those that stand beside it: of those that touch one another, one. What
/// an app uses of itself is none.
pub fn cycles(calls: &BTreeMap<AppName, BTreeSet<AppName>>) -> Vec<Vec<AppName>> {
    let mut calls = calls.clone();
    for (app, called) in &mut calls {
        called.remove(app);
    }
    let mut cycles = Vec::new();
    loop {
        // Who calls nobody, or nobody that is left, is in no circle.
        loop {
            let known: BTreeSet<AppName> = calls.keys().cloned().collect();
            calls
                .values_mut()
                .for_each(|called| called.retain(|app| known.contains(app)));
            calls.retain(|_, called| !called.is_empty());
            if calls.len() == known.len() {
                break;
            }
        }
        let Some(first) = calls.keys().next() else {
            return cycles;
        };
        // Everybody who is left calls somebody who is left: whoever walks on comes back to where they were.
        let mut walked = vec![first.clone()];
        let cycle = loop {
            let next = walked
                .last()
                .and_then(|app| calls.get(app)?.first())
                .expect("everybody calls somebody");
            match walked.iter().position(|app| app == next) {
                Some(at) => break walked.split_off(at),
                None => walked.push(next.clone()),
            }
        };
        for app in &cycle {
            calls.remove(app);
        }
        // Begun with the smallest, so that it is the same whoever asks.
        let least = cycle
            .iter()
            .enumerate()
            .min_by_key(|(_, app)| *app)
            .map_or(0, |(at, _)| at);
        let mut cycle = cycle;
        cycle.rotate_left(least);
        cycles.push(cycle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().expect("name")
    }

    fn found(calls: &[(&str, &[&str])]) -> Vec<String> {
        let calls = calls.iter().map(|(caller, called)| {
            let called = called.iter().map(|name| app(name)).collect();
            (app(caller), called)
        });
        let cycles = cycles(&calls.collect());
        let text = |cycle: &Vec<AppName>| {
            let names: Vec<&str> = cycle.iter().map(AppName::as_str).collect();
            names.join(">")
        };
        cycles.iter().map(text).collect()
    }

    #[test]
    fn circles_are_found_once_each() {
        assert_eq!(
            found(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &["gone"])]),
            [""; 0]
        );
        assert_eq!(found(&[("a", &["a"])]), [""; 0], "what it uses of itself");
        assert_eq!(found(&[("b", &["a"]), ("a", &["b"])]), ["a>b"]);
        assert_eq!(
            found(&[
                ("x", &["c"]),
                ("c", &["b"]),
                ("b", &["a", "d"]),
                ("a", &["c"]),
                ("d", &[])
            ]),
            ["a>c>b"]
        );
        assert_eq!(
            found(&[("a", &["b"]), ("b", &["a"]), ("c", &["d", "a"]), ("d", &["c"])]),
            ["a>b", "c>d"]
        );
    }

    #[test]
    fn who_is_named_may_and_once_somebody_is_the_others_may_not() {
        let names = |names: &[&str]| names.iter().map(|name| app(name)).collect::<BTreeSet<_>>();
        let change = |any, allow: &[&str], deny: &[&str]| CallersChange {
            any,
            allow: names(allow),
            deny: names(deny),
        };
        assert!(permits(&app("billing"), None, &app("shop")));
        let some = change(false, &["shop", "web"], &[]).applied(None);
        assert_eq!(some, Some(names(&["shop", "web"])));
        let fewer = change(false, &[], &["web"]).applied(some.as_ref());
        assert_eq!(fewer, Some(names(&["shop"])));
        assert!(!permits(&app("billing"), fewer.as_ref(), &app("web")));
        assert!(
            permits(&app("billing"), fewer.as_ref(), &app("billing")),
            "itself"
        );
        assert_eq!(change(true, &[], &[]).applied(fewer.as_ref()), None);
        assert_eq!(change(false, &[], &["web"]).applied(None), Some(names(&[])));
    }
}
