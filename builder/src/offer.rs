//! The offer: which interfaces a component may import, and what is in each.
//!
//! It is read from the WIT packages in `wit/deps`, which are those of the engine's WASI implementation, and the
//! platform's own in `wit`, through the worlds whose imports the engine links. In flow a component's imports, out
//! flow those that the platform lacks.
//!
//! Invariant: nothing is linked lazily; an import that is not offered is refused at the deploy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use gilliam_model::{image::Shape, interface::InterfaceName, text::excerpt};
use wasmparser::{
    component_types::{ComponentAnyTypeId, ComponentEntityType, ComponentInstanceTypeId},
    types::TypesRef,
};
use wit_parser::{Resolve, WorldItem};

use crate::{component::Fault, shape::Found};

macro_rules! wit {
    ($($folder:literal)*) => {
        [$(($folder, include_str!(concat!("../../wit/deps/", $folder, "/package.wit")))),*]
    };
}

/// The platform's own.
const OWN: [(&str, &str); 1] = [("gilliam-sql", include_str!("../../wit/sql/sql.wit"))];
/// In the order of their dependencies.
const PACKAGES: [(&str, &str); 13] = wit![
    "wasi-io-0.2.12" "wasi-clocks-0.2.12" "wasi-random-0.2.12" "wasi-filesystem-0.2.12"
    "wasi-sockets-0.2.12" "wasi-cli-0.2.12" "wasi-http-0.2.12"
    "wasi-clocks-0.3.0" "wasi-random-0.3.0" "wasi-filesystem-0.3.0"
    "wasi-sockets-0.3.0" "wasi-cli-0.3.0" "wasi-http-0.3.0"
];
/// The worlds whose imports are linked: `wasi:http/types` and the like are imports of the last of each
/// version.
const WORLDS: [(&str, &str); 5] = [
    ("wasi-cli-0.2.12", "imports"),
    ("wasi-http-0.2.12", "proxy"),
    ("wasi-cli-0.3.0", "imports"),
    ("wasi-http-0.3.0", "service"),
    ("gilliam-sql", "imports"),
];
/// The version whose interfaces only components of a 0.3 shape may import.
const LINE_P3: &str = "0.3";

/// Everything that can be imported.
#[derive(Debug)]
pub struct Offer {
    /// By path and version line: `wasi:http/types`, `0.2`.
    interfaces: BTreeMap<(String, String), Interface>,
}

#[derive(Debug)]
struct Interface {
    version: String,
    functions: BTreeSet<String>,
    types: BTreeSet<String>,
}

/// An import that is not offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The import's full name.
    pub import: String,
    /// Why it cannot be met.
    pub reason: Reason,
}

/// Why an import cannot be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nobody here knows it.
    Unknown {
        /// Packages that are offered.
        packages: Vec<String>,
    },
    /// Its package is known, this interface of it is not.
    Interface {
        /// The interfaces of the package that are offered.
        offered: Vec<String>,
    },
    /// It is known in other versions.
    Version {
        /// Those versions.
        offered: Vec<String>,
    },
    /// It is known, but not all that is asked of it.
    Item {
        /// The function or resource.
        item: String,
        /// The interface as it is offered.
        offered: String,
    },
    /// A 0.3 interface for a component of a 0.2 shape.
    Shape {
        /// The export that makes it one.
        export: String,
    },
    /// Not an interface at all.
    Kind {
        /// What it is: `function`, `component`, …
        kind: &'static str,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let import = excerpt(&self.import);
        match &self.reason {
            Reason::Unknown { .. } | Reason::Interface { .. } => {
                write!(f, "imports {import}, which this platform does not offer")
            }
            Reason::Version { offered } => {
                write!(
                    f,
                    "imports {import}, which this platform offers in version {} only",
                    offered.join(" and ")
                )
            }
            Reason::Item { item, offered } => {
                write!(
                    f,
                    "imports {import} with {item}, which the {offered} of this platform does not have"
                )
            }
            Reason::Shape { export } => write!(f, "imports {import}, but exports {export}"),
            Reason::Kind { kind } => {
                write!(
                    f,
                    "imports the {kind} {import} outside of any interface, which this platform does not offer"
                )
            }
        }
    }
}

impl Missing {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        let name = InterfaceName::parse(&self.import);
        Some(match &self.reason {
            Reason::Unknown { packages } => {
                format!(
                    "leave the import out, or link a component that exports it (link in \
                     gilliam.toml); offered are {}",
                    packages.join(", ")
                )
            }
            Reason::Interface { offered } => format!("use one of {}", offered.join(", ")),
            Reason::Version { offered } => {
                let package = name?.package;
                let builds: Vec<String> = offered
                    .iter()
                    .map(|version| format!("{package}@{version}"))
                    .collect();
                format!("build it against {}", builds.join(" or "))
            }
            Reason::Item { offered, .. } => format!("build it against {offered}, without unstable features"),
            Reason::Shape { .. } => {
                "export a 0.3 interface too (wasi:http/handler or wasi:cli/run), or import 0.2".into()
            }
            Reason::Kind { .. } => {
                "import through an interface of WASI, or link a component that exports it".into()
            }
        })
    }
}

impl Default for Offer {
    fn default() -> Self {
        Self::new()
    }
}

impl Offer {
    /// Reads the offer; takes a few milliseconds.
    pub fn new() -> Self {
        let mut resolve = Resolve::default();
        let mut packages = BTreeMap::new();
        for (folder, text) in PACKAGES.into_iter().chain(OWN) {
            let package = resolve
                .push_source(folder, text)
                .expect("the vendored WIT packages resolve");
            packages.insert(folder, package);
        }
        let mut interfaces = BTreeMap::new();
        for (folder, world) in WORLDS {
            let world = resolve.packages[packages[folder]].worlds[world];
            for import in resolve.worlds[world].imports.values() {
                let WorldItem::Interface { id, .. } = import else {
                    continue;
                };
                let name = resolve.id_of(*id).expect("an interface of a package has a name");
                let name = InterfaceName::parse(&name).expect("a name that WIT resolved");
                let line = name.line().expect("what is offered has the version of a release");
                let interface = &resolve.interfaces[*id];
                interfaces.insert(
                    (name.path.to_string(), line.to_string()),
                    Interface {
                        version: name.version.to_string(),
                        functions: interface.functions.keys().cloned().collect(),
                        types: interface.types.keys().cloned().collect(),
                    },
                );
            }
        }
        Self { interfaces }
    }

    /// Compares a component's imports with the offer.
    pub(crate) fn check(&self, imports: &[String], types: TypesRef<'_>, found: &Found) -> Result<(), Fault> {
        let mut missing = imports.iter().filter_map(|import| {
            let reason = self.lacks(import, types, found)?;
            Some(Missing {
                import: import.clone(),
                reason,
            })
        });
        let Some(first) = missing.next() else {
            return Ok(());
        };
        Err(Fault::Imports {
            first: Box::new(first),
            others: missing.map(|missing| missing.import).collect(),
        })
    }

    fn lacks(&self, import: &str, types: TypesRef<'_>, found: &Found) -> Option<Reason> {
        let instance = match types.component_item_for_import(import).map(|item| item.ty) {
            Some(ComponentEntityType::Instance(instance)) => instance,
            other => return Some(Reason::Kind { kind: kind(other) }),
        };
        let Some(name) = InterfaceName::parse(import) else {
            return Some(Reason::Kind { kind: "instance" });
        };
        let line = name.line().unwrap_or_default();
        let Some(interface) = self.interfaces.get(&(name.path.to_string(), line.to_string())) else {
            return Some(self.unknown(&name));
        };
        if line == LINE_P3 && matches!(found.shape, Shape::HttpP2 | Shape::CommandP2 | Shape::Job) {
            return Some(Reason::Shape {
                export: found.export.clone(),
            });
        }
        let item = interface.lacks(instance, types)?;
        Some(Reason::Item {
            item,
            offered: format!("{}@{}", name.path, interface.version),
        })
    }

    fn unknown(&self, name: &InterfaceName<'_>) -> Reason {
        let offered = self.interfaces.iter().filter(|((path, _), _)| path == name.path);
        let offered: Vec<String> = offered.map(|(_, interface)| interface.version.clone()).collect();
        if !offered.is_empty() {
            return Reason::Version { offered };
        }
        let package = |path: &str| path.split('/').next().unwrap_or_default().to_string();
        let in_package = self
            .interfaces
            .iter()
            .filter(|((path, _), _)| package(path) == name.package);
        let offered: Vec<String> = in_package
            .map(|((path, _), interface)| format!("{path}@{}", interface.version))
            .collect();
        if !offered.is_empty() {
            return Reason::Interface { offered };
        }
        let packages: BTreeSet<String> = self.interfaces.keys().map(|(path, _)| package(path)).collect();
        Reason::Unknown {
            packages: packages.into_iter().collect(),
        }
    }
}

impl Interface {
    /// The first function or resource of the wanted instance that is not here. Types without identity are
    /// compared where the component is linked.
    fn lacks(&self, wanted: ComponentInstanceTypeId, types: TypesRef<'_>) -> Option<String> {
        let lacking = types[wanted].exports.iter().find(|(name, item)| match item.ty {
            ComponentEntityType::Func(_) => !self.functions.contains(name.as_str()),
            ComponentEntityType::Type {
                created: ComponentAnyTypeId::Resource(_),
                ..
            } => !self.types.contains(name.as_str()),
            ComponentEntityType::Type { .. } => false,
            _ => true,
        });
        lacking.map(|(name, _)| excerpt(name))
    }
}

fn kind(item: Option<ComponentEntityType>) -> &'static str {
    match item {
        Some(ComponentEntityType::Func(_)) => "function",
        Some(ComponentEntityType::Module(_)) => "module",
        Some(ComponentEntityType::Component(_)) => "component",
        Some(ComponentEntityType::Value(_)) => "value",
        Some(ComponentEntityType::Type { .. }) => "resource",
        Some(ComponentEntityType::Instance(_)) | None => "instance",
    }
}
