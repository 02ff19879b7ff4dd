//! Capabilities: what the processes of an app can reach, and what a new image adds to that or takes away.
//!
//! In flow two images, out flow the outbound hosts that one grants and the other does not, the services that one
//! declares and the other does not, and the interfaces that the components of one import and those of the other do not.
//!
//! A process type that both images have is compared with itself. One that only one of them has is compared with all
//! of the other image: a new process type that can do what another could before adds nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    image::{Image, Process},
    interface::InterfaceName,
    name::ProcessName,
};

/// Something that processes can reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Capability {
    /// `outbound https://api.example.com`, `service cache (keyvalue)`, or an interface: `wasi:sockets/tcp`.
    pub name: String,
    /// The process types concerned; none stands for all of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub processes: Vec<ProcessName>,
}

/// How the capabilities of an app changed from one image to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CapabilityChange {
    /// What only the newer image can do.
    pub adds: Vec<Capability>,
    /// What only the older one could.
    pub removes: Vec<Capability>,
}

impl CapabilityChange {
    /// What is different in `after`.
    pub fn between(before: &Image, after: &Image) -> Self {
        Self {
            adds: gained(before, after),
            removes: gained(after, before),
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty()
    }
}

/// What `to` can do and `from` cannot.
fn gained(from: &Image, to: &Image) -> Vec<Capability> {
    let mut gained: BTreeMap<String, Vec<ProcessName>> = BTreeMap::new();
    for (name, process) in &to.processes {
        let others: Vec<&Process> = match from.processes.get(name) {
            Some(itself) => vec![itself],
            None => from.processes.values().collect(),
        };
        let known: BTreeSet<String> = others.iter().flat_map(|process| hosts(process)).collect();
        for host in hosts(process).filter(|host| !known.contains(host)) {
            gained.entry(host).or_default().push(name.clone());
        }
        // Of an image that does not say what it imports nothing can be told.
        let imports: Option<Vec<BTreeSet<&str>>> = others.iter().map(|process| interfaces(process)).collect();
        let (Some(known), Some(own)) = (imports, interfaces(process)) else {
            continue;
        };
        for interface in own {
            if known.iter().all(|known| !known.contains(interface)) {
                gained
                    .entry(interface.to_string())
                    .or_default()
                    .push(name.clone());
            }
        }
    }
    for (name, service) in &to.services {
        if from.services.get(name).map(|before| before.kind()) != Some(service.kind()) {
            gained.insert(format!("service {name} ({})", service.kind()), Vec::new());
        }
    }
    let all = to.processes.len();
    let capability = |(name, processes): (String, Vec<ProcessName>)| Capability {
        name,
        processes: if processes.len() == all {
            Vec::new()
        } else {
            processes
        },
    };
    gained.into_iter().map(capability).collect()
}

/// Without the port that its scheme implies.
fn hosts(process: &Process) -> impl Iterator<Item = String> {
    process.allowed_outbound_hosts.iter().map(|host| {
        let host = host.to_string();
        let implied = match host.split_once("://") {
            Some(("https", _)) => ":443",
            Some(("http", _)) => ":80",
            _ => "",
        };
        format!("outbound {}", host.strip_suffix(implied).unwrap_or(&host))
    })
}

/// Without versions: a newer one of an interface reaches nothing else.
fn interfaces(process: &Process) -> Option<BTreeSet<&str>> {
    let imports = process.imports.as_ref()?;
    let path = |import| InterfaceName::parse(import).map_or(import, |name| name.path);
    Some(imports.iter().map(path).collect())
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.processes.is_empty() {
            return Ok(());
        }
        let processes: Vec<&str> = self.processes.iter().map(ProcessName::as_str).collect();
        write!(f, " ({})", processes.join(", "))
    }
}

/// `adds: outbound https://api.example.com, wasi:sockets/tcp; removes: …`
impl fmt::Display for CapabilityChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A change of language swaps some twenty interfaces; `releases --json` has all.
        const SHOWN_MAX: usize = 8;
        let mut separator = "";
        for (word, list) in [("adds", &self.adds), ("removes", &self.removes)] {
            if list.is_empty() {
                continue;
            }
            let shown: Vec<String> = list.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
            write!(f, "{separator}{word}: {}", shown.join(", "))?;
            if list.len() > SHOWN_MAX {
                write!(f, " and {} more", list.len() - SHOWN_MAX)?;
            }
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Service, ServiceKind};

    /// A process: its name, outbound hosts, imports.
    type Sketch<'a> = (&'a str, &'a [&'a str], Option<&'a [&'a str]>);

    fn image(processes: &[Sketch<'_>]) -> Image {
        let processes = processes.iter().map(|(name, hosts, imports)| {
            let process = serde_json::json!({
                "component": format!("sha256:{}", "0".repeat(64)),
                "component_bytes": 1,
                "shape": "http-p2",
                "command": "web.wasm",
                "args": ["web.wasm"],
                "allowed_outbound_hosts": hosts,
                "imports": imports,
            });
            let process = serde_json::from_value(process).expect("process");
            (name.parse().expect("name"), process)
        });
        Image::new(processes.collect())
    }

    #[track_caller]
    fn check(before: &Image, after: &Image, text: &str) {
        assert_eq!(CapabilityChange::between(before, after).to_string(), text);
    }

    const TCP: Option<&[&str]> = Some(&["wasi:cli/stdout@0.2.3", "wasi:sockets/tcp@0.2.3"]);
    const NONE: Option<&[&str]> = Some(&["wasi:cli/stdout@0.2.0"]);

    #[test]
    fn what_a_new_image_can_do_is_added_and_what_it_cannot_is_removed() {
        let before = image(&[("web", &["https://old.example.com"], NONE)]);
        let after = image(&[("web", &["https://api.stripe.com"], TCP)]);
        check(
            &before,
            &after,
            "adds: outbound https://api.stripe.com, wasi:sockets/tcp; removes: outbound https://old.example.com",
        );
        check(&after, &after, "");
        assert!(CapabilityChange::between(&after, &after).is_empty());
    }

    #[test]
    fn a_service_that_is_new_is_added_for_all_processes() {
        let before = image(&[("web", &[], NONE), ("worker", &[], NONE)]);
        let mut after = before.clone();
        let cache = Service::new(ServiceKind::Keyvalue);
        after.services.insert("cache".parse().expect("name"), cache);
        check(&before, &after, "adds: service cache (keyvalue)");
        check(&after, &after, "");
        check(&after, &before, "removes: service cache (keyvalue)");
    }

    #[test]
    fn a_change_of_one_process_names_it() {
        let before = image(&[("web", &[], NONE), ("worker", &[], TCP)]);
        let after = image(&[("web", &[], TCP), ("worker", &["https://a.example.com"], TCP)]);
        check(
            &before,
            &after,
            "adds: outbound https://a.example.com (worker), wasi:sockets/tcp (web)",
        );
    }

    #[test]
    fn a_new_process_that_can_do_what_another_could_adds_nothing() {
        let before = image(&[("web", &["https://a.example.com"], TCP)]);
        let both = image(&[
            ("web", &["https://a.example.com"], TCP),
            ("worker", &["https://a.example.com"], NONE),
        ]);
        check(&before, &both, "");
        check(&both, &before, "");
        let more = image(&[
            ("web", &["https://a.example.com"], TCP),
            ("worker", &["https://b.example.com"], NONE),
        ]);
        check(&before, &more, "adds: outbound https://b.example.com (worker)");
    }

    #[test]
    fn of_an_image_that_does_not_say_its_imports_only_hosts_are_compared() {
        let before = image(&[("web", &[], None)]);
        let after = image(&[("web", &["https://a.example.com"], TCP)]);
        check(&before, &after, "adds: outbound https://a.example.com");
        check(&after, &before, "removes: outbound https://a.example.com");
    }

    #[test]
    fn a_long_list_is_cut() {
        let imports: Vec<String> = (0..12).map(|i| format!("acme:parts/part{i}@1.0.0")).collect();
        let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
        let before = image(&[("web", &[], NONE)]);
        let after = image(&[("web", &[], Some(&imports))]);
        let text = CapabilityChange::between(&before, &after).to_string();
        assert!(
            text.contains("acme:parts/part5 and 4 more; removes: wasi:cli/stdout"),
            "{text}"
        );
    }
}
