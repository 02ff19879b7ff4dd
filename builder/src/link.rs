//! Linking: what a component imports and another component of the project exports becomes part of it.
//!
//! In flow a process's component and the library components that `gilliam.toml` names for it, out flows one
//! component with the exports of the first. An import is met by the library that exports its name, or another
//! version that is compatible with it; libraries meet imports of each other in the same way. What no library
//! exports stays an import, for the platform to offer.
//!
//! Invariant: no choice is made. Two libraries that could meet one import, and a library that meets none, are
//! refused.
//!
//! Must never: look at interfaces of the platform; that is done with what comes out.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use gilliam_model::{interface::InterfaceName, text::excerpt};
use wasm_compose::graph::{Component, CompositionGraph, EncodeOptions, ExportIndex, ImportIndex, InstanceId};
use wasmparser::{Validator, WasmFeatures, component_types::ComponentEntityType};

/// Libraries of one process. Each is a component inside its component, of which 100 are taken.
pub const LIBRARIES_MAX: usize = 16;

/// A component that takes part: the process's own, or a library.
#[derive(Debug)]
pub struct Part {
    /// As people know it.
    pub name: String,
    /// A valid component.
    pub bytes: Vec<u8>,
}

/// Why components do not fit together; each reads on from the name of the process's component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// Several libraries export what is imported.
    #[error("{importer}, which both {first} and {second} export")]
    Several {
        /// Whose import, and which.
        importer: Importer,
        /// One library.
        first: String,
        /// The next.
        second: String,
    },
    /// A library exports another version of what is imported.
    #[error("{importer}, but {library} exports {offered}")]
    Version {
        /// Whose import, and which.
        importer: Importer,
        /// The library.
        library: String,
        /// What it exports.
        offered: String,
    },
    /// A library exports something else under the name.
    #[error("{importer}{}, which {library} exports {}", with(.item), without(.item))]
    Types {
        /// Whose import, and which.
        importer: Importer,
        /// The library.
        library: String,
        /// The first function or type that it lacks; none when all are there and differ in their types.
        item: Option<String>,
    },
    /// Nobody imports what a library exports.
    #[error("links {library}, of which nothing is imported; it exports {exports}")]
    Unused {
        /// The library.
        library: String,
        /// What it exports.
        exports: String,
    },
    /// The parts need each other in a circle, or cannot be written as one.
    #[error("cannot be linked: {message}")]
    Compose {
        /// Why.
        message: String,
    },
}

/// An import, and the library that has it if it is not the process's component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Importer {
    /// The library.
    pub library: Option<String>,
    /// The import's name.
    pub import: String,
}

impl fmt::Display for Importer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(library) = &self.library {
            write!(f, "links {library}, which ")?;
        }
        write!(f, "imports {}", self.import)
    }
}

fn with(item: &Option<String>) -> String {
    let Some(item) = item else {
        return String::new();
    };
    format!(" with {item}")
}

fn without(item: &Option<String>) -> &'static str {
    match item {
        Some(_) => "without it",
        None => "with other types",
    }
}

impl LinkFault {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            LinkFault::Several { .. } => "link one of them only".to_string(),
            LinkFault::Version { offered, .. } => {
                format!("build it against {offered}, or link a library that exports what it imports")
            }
            LinkFault::Types { library, .. } => {
                format!("build it against the WIT that {library} was built with")
            }
            LinkFault::Unused { library, .. } => {
                format!("take {library} out of link in gilliam.toml, or import one of these interfaces")
            }
            LinkFault::Compose { .. } => {
                "compose it with your own tools (wac plug), and name the result in the Procfile".to_string()
            }
        }
    }
}

/// Links a process's component with libraries: one component.
pub(crate) fn link(process: Part, libraries: Vec<Part>) -> Result<Vec<u8>, LinkFault> {
    let parts: Vec<Part> = std::iter::once(process).chain(libraries).collect();
    // The composer asserts what components can break that it has not met yet.
    catch_unwind(AssertUnwindSafe(|| compose(&parts))).unwrap_or_else(|_| {
        Err(LinkFault::Compose {
            message: "the types of its parts are too intricate".to_string(),
        })
    })
}

/// An import of one part that another part's export meets.
struct Wire {
    import: ImportIndex,
    importer: usize,
    export: ExportIndex,
    exporter: usize,
}

fn compose(parts: &[Part]) -> Result<Vec<u8>, LinkFault> {
    let failed = |message: String| {
        let named = parts.iter().enumerate().fold(message, |message, (number, part)| {
            message.replace(&format!("`part{number}`"), &part.name)
        });
        LinkFault::Compose {
            message: named.replace('\n', " "),
        }
    };
    let mut graph = CompositionGraph::new();
    let mut instances = Vec::with_capacity(parts.len());
    // One for all, which makes their types comparable.
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    for (number, part) in parts.iter().enumerate() {
        let component = Component::from_bytes(&mut validator, format!("part{number}"), part.bytes.as_slice());
        let instance = component
            .and_then(|component| graph.add_component(component))
            .and_then(|component| graph.instantiate(component));
        instances.push(instance.map_err(|error| failed(format!("{}: {error:#}", part.name)))?);
    }
    let wires = wires(parts, &graph, &instances)?;
    for wire in &wires {
        let (from, to) = (instances[wire.exporter], instances[wire.importer]);
        if graph.connect(from, Some(wire.export), to, wire.import).is_err() {
            return Err(misfit(parts, &graph, &instances, wire));
        }
    }
    let options = EncodeOptions {
        define_components: true,
        export: Some(instances[0]),
        validate: false,
    };
    graph
        .encode(options)
        .map_err(|error| failed(format!("{error:#}")))
}

/// What meets what; every library must meet something.
fn wires(
    parts: &[Part],
    graph: &CompositionGraph<'_>,
    instances: &[InstanceId],
) -> Result<Vec<Wire>, LinkFault> {
    let component = |number: usize| part_of(graph, instances, number);
    let mut wires: Vec<Wire> = Vec::new();
    for importer in 0..parts.len() {
        for (import, name, _) in component(importer).imports() {
            let place = || importer_of(parts, importer, name);
            let mut found: Option<Wire> = None;
            let mut other: Option<(usize, &str)> = None;
            for exporter in (1..parts.len()).filter(|number| *number != importer) {
                let library = component(exporter);
                let mut exports = library.exports();
                if let Some((export, ..)) = exports.find(|(_, offered, ..)| meets(offered, name)) {
                    if let Some(first) = &found {
                        return Err(LinkFault::Several {
                            importer: place(),
                            first: parts[first.exporter].name.clone(),
                            second: parts[exporter].name.clone(),
                        });
                    }
                    found = Some(Wire {
                        import,
                        importer,
                        export,
                        exporter,
                    });
                } else if let Some((_, offered, ..)) = library.exports().find(|(_, o, ..)| is_kin(o, name)) {
                    other.get_or_insert((exporter, offered));
                }
            }
            match (found, other) {
                (Some(wire), _) => wires.push(wire),
                (None, Some((library, offered))) => {
                    return Err(LinkFault::Version {
                        importer: place(),
                        library: parts[library].name.clone(),
                        offered: excerpt(offered),
                    });
                }
                (None, None) => {}
            }
        }
    }
    for (number, part) in parts.iter().enumerate().skip(1) {
        if wires.iter().all(|wire| wire.exporter != number) {
            return Err(LinkFault::Unused {
                library: part.name.clone(),
                exports: listed(component(number)),
            });
        }
    }
    Ok(wires)
}

/// Whether an export stands in for an import: the same name, or a compatible version of the interface.
fn meets(export: &str, import: &str) -> bool {
    if export == import {
        return true;
    }
    let (Some(export), Some(import)) = (InterfaceName::parse(export), InterfaceName::parse(import)) else {
        return false;
    };
    export.path == import.path && export.line().is_some() && export.line() == import.line()
}

/// Whether they are versions of one interface.
fn is_kin(export: &str, import: &str) -> bool {
    let names = (InterfaceName::parse(export), InterfaceName::parse(import));
    matches!(names, (Some(export), Some(import)) if export.path == import.path)
}

/// Says what of a wire does not fit.
fn misfit(parts: &[Part], graph: &CompositionGraph<'_>, instances: &[InstanceId], wire: &Wire) -> LinkFault {
    let importer = part_of(graph, instances, wire.importer);
    let exporter = part_of(graph, instances, wire.exporter);
    let (import, _) = importer.import(wire.import).expect("an import of the part");
    let (export, ..) = exporter.export(wire.export).expect("an export of the part");
    let wanted = importer
        .types()
        .component_item_for_import(import)
        .map(|item| item.ty);
    let offered = exporter
        .types()
        .component_item_for_export(export)
        .map(|item| item.ty);
    let item = match (wanted, offered) {
        (Some(ComponentEntityType::Instance(wanted)), Some(ComponentEntityType::Instance(offered))) => {
            let (importing, exporting) = (importer.types(), exporter.types());
            let offered = &exporting[offered].exports;
            let mut items = importing[wanted].exports.keys();
            items.find(|item| !offered.contains_key(item.as_str())).cloned()
        }
        _ => None,
    };
    LinkFault::Types {
        importer: importer_of(parts, wire.importer, import),
        library: parts[wire.exporter].name.clone(),
        item: item.map(|item| excerpt(&item)),
    }
}

fn importer_of(parts: &[Part], number: usize, import: &str) -> Importer {
    Importer {
        library: (number > 0).then(|| parts[number].name.clone()),
        import: excerpt(import),
    }
}

fn part_of<'a>(
    graph: &'a CompositionGraph<'a>,
    instances: &[InstanceId],
    number: usize,
) -> &'a Component<'a> {
    let (_, component) = graph
        .get_component_of_instance(instances[number])
        .expect("every part was instantiated");
    component
}

fn listed(component: &Component<'_>) -> String {
    /// A hostile component may have a thousand.
    const SHOWN_MAX: usize = 6;
    let names: Vec<String> = component
        .exports()
        .take(SHOWN_MAX)
        .map(|(_, name, ..)| excerpt(name))
        .collect();
    match (
        names.is_empty(),
        component.exports().len().saturating_sub(SHOWN_MAX),
    ) {
        (true, _) => "nothing".to_string(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}
