//! Shapes: that the export which makes a component a process has the function that is called.

use gilliam_model::image::{Shape, ShapeError};
use wasmparser::{component_types::ComponentEntityType, types::TypesRef};

use crate::component::Fault;

/// The shape, and the export that gives it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shape: Shape,
    pub(crate) export: String,
}

/// Finds the shape by the names of a component's exports.
pub(crate) fn find(exports: &[String]) -> Result<Found, Fault> {
    match Shape::of_exports(exports.iter().map(String::as_str)) {
        Ok((shape, export)) => Ok(Found {
            shape,
            export: export.to_string(),
        }),
        Err(ShapeError::None) => Err(Fault::NoShape {
            exports: exports.to_vec(),
        }),
        Err(several) => Err(Fault::Shape(several)),
    }
}

/// The function that the platform calls, and how many parameters it takes.
fn handler(shape: Shape) -> (&'static str, usize) {
    match shape {
        Shape::HttpP2 => ("handle", 2),
        Shape::HttpP3 => ("handle", 1),
        Shape::CommandP2 | Shape::CommandP3 => ("run", 0),
        Shape::Job => ("handle", 1),
    }
}

/// Checks that the export is an interface with the function that the platform calls.
pub(crate) fn check_handler(found: &Found, types: TypesRef<'_>) -> Result<(), Fault> {
    let (name, params) = handler(found.shape);
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
    let function = match types[instance].exports.get(name).map(|item| item.ty) {
        Some(ComponentEntityType::Func(function)) => function,
        _ => return refuse(format!("without its function {name}")),
    };
    match types[function].params.len() {
        count if count == params => Ok(()),
        count => refuse(format!(
            "its function {name} takes {count} parameters, not {params}"
        )),
    }
}
