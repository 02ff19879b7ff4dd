//! Shapes: which export makes a component a process, and that the export has the function that is called.

use gilliam_model::image::Shape;
use wasmparser::{component_types::ComponentEntityType, types::TypesRef};

use crate::{component::Fault, interface::InterfaceName};

/// An export that makes a process.
struct Known {
    path: &'static str,
    line: &'static str,
    shape: Shape,
    function: &'static str,
    params: usize,
}

const KNOWN: [Known; 4] = [
    Known {
        path: "wasi:http/incoming-handler",
        line: "0.2",
        shape: Shape::HttpP2,
        function: "handle",
        params: 2,
    },
    Known {
        path: "wasi:http/handler",
        line: "0.3",
        shape: Shape::HttpP3,
        function: "handle",
        params: 1,
    },
    Known {
        path: "wasi:cli/run",
        line: "0.2",
        shape: Shape::CommandP2,
        function: "run",
        params: 0,
    },
    Known {
        path: "wasi:cli/run",
        line: "0.3",
        shape: Shape::CommandP3,
        function: "run",
        params: 0,
    },
];

/// The shape, and the export that gives it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shape: Shape,
    pub(crate) export: String,
}

/// The exports that are looked for, for hints.
pub(crate) fn wanted() -> String {
    let names: Vec<String> = KNOWN
        .iter()
        .map(|known| format!("{}@{}", known.path, known.line))
        .collect();
    let (last, before) = names.split_last().expect("there are four");
    format!("one of {} and {last}", before.join(", "))
}

/// Finds the shape by the names of a component's exports.
pub(crate) fn find(exports: &[String]) -> Result<Found, Fault> {
    let shape_of = |export: &str| {
        let name = InterfaceName::parse(export)?;
        KNOWN
            .iter()
            .find(|known| known.path == name.path && name.line() == Some(known.line))
    };
    let mut found: Vec<Found> = exports
        .iter()
        .filter_map(|export| {
            Some(Found {
                shape: shape_of(export)?.shape,
                export: export.clone(),
            })
        })
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Fault::NoShape {
            exports: exports.to_vec(),
        }),
        (Some(last), false) => {
            found.push(last);
            Err(Fault::SeveralShapes {
                exports: found.into_iter().map(|found| found.export).collect(),
            })
        }
    }
}

/// Checks that the export is an interface with the function that the platform calls.
pub(crate) fn check_handler(found: &Found, types: TypesRef<'_>) -> Result<(), Fault> {
    let known = KNOWN
        .iter()
        .find(|known| known.shape == found.shape)
        .expect("every shape is in the table");
    let refuse = |reason: String| {
        Err(Fault::Handler {
            interface: found.export.clone(),
            reason,
        })
    };
    let item = types.component_item_for_export(&found.export);
    let Some(ComponentEntityType::Instance(instance)) = item.map(|item| item.ty) else {
        return refuse("not as an interface".to_string());
    };
    let function = match types[instance].exports.get(known.function).map(|item| item.ty) {
        Some(ComponentEntityType::Func(function)) => function,
        _ => return refuse(format!("without its function {}", known.function)),
    };
    match types[function].params.len() {
        count if count == known.params => Ok(()),
        count => refuse(format!(
            "its function {} takes {count} parameters, not {}",
            known.function, known.params
        )),
    }
}
