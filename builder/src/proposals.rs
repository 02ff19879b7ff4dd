//! Validation with exactly the proposals that the engine has on.
//!
//! In flow bytes, out flow the types of what is valid, or the proposal that it would need.
//!
//! Invariant: what passes here passes the engine's own validation. The engine switches these proposals off
//! because their code is young or because they lead around an instance's limits; here the author hears it at
//! the deploy.

use gilliam_model::image::Shape;
use wasmparser::{Validator, WasmFeatures, types::Types};

use crate::component::Fault;

/// WebAssembly 2.0 without host references, and those later proposals that cost nothing to contain.
const CORE: WasmFeatures = WasmFeatures::WASM2
    .difference(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL);
const COMPONENT_P2: WasmFeatures = CORE.union(WasmFeatures::COMPONENT_MODEL);
/// Only the engine for 0.3 has the async part of the component model.
const COMPONENT_P3: WasmFeatures = COMPONENT_P2.union(WasmFeatures::CM_ASYNC);

/// What a proposal is called, and what has to be on for it; in the order in which they explain a failure
/// best.
const OFF: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::THREADS, "the threads proposal"),
    (WasmFeatures::MEMORY64, "the memory64 proposal"),
    (WasmFeatures::GC_TYPES, "host references (externref)"),
    (
        WasmFeatures::FUNCTION_REFERENCES,
        "the function-references proposal",
    ),
    (
        WasmFeatures::GC
            .union(WasmFeatures::FUNCTION_REFERENCES)
            .union(WasmFeatures::GC_TYPES),
        "the gc proposal",
    ),
    (WasmFeatures::EXCEPTIONS, "the exception-handling proposal"),
    (
        WasmFeatures::LEGACY_EXCEPTIONS,
        "the legacy exception-handling proposal",
    ),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "the custom-page-sizes proposal"),
    (WasmFeatures::STACK_SWITCHING, "the stack-switching proposal"),
    (
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        "the shared-everything-threads proposal",
    ),
    (WasmFeatures::WIDE_ARITHMETIC, "the wide-arithmetic proposal"),
    (
        WasmFeatures::CM_ASYNC,
        "the component model's async part without a 0.3 export",
    ),
];

/// Validates a component of a shape that its exports promise.
pub(crate) fn validate(bytes: &[u8], shape: Shape) -> Result<Types, Fault> {
    validate_with(
        bytes,
        match shape {
            Shape::HttpP2 | Shape::CommandP2 | Shape::Job => COMPONENT_P2,
            Shape::HttpP3 | Shape::CommandP3 => COMPONENT_P3,
        },
    )
}

/// Validates a component that will be part of another, whatever the shape of that.
pub(crate) fn validate_part(bytes: &[u8]) -> Result<(), Fault> {
    validate_with(bytes, COMPONENT_P3).map(|_| ())
}

/// Validates a core module.
pub(crate) fn validate_core(bytes: &[u8]) -> Result<(), Fault> {
    validate_with(bytes, CORE).map(|_| ())
}

fn validate_with(bytes: &[u8], on: WasmFeatures) -> Result<Types, Fault> {
    let error = match Validator::new_with_features(on).validate_all(bytes) {
        Ok(types) => return Ok(types),
        Err(error) => error,
    };
    // The first failure is the cause only if the bytes are valid once something more is on.
    if Validator::new_with_features(WasmFeatures::all())
        .validate_all(bytes)
        .is_err()
    {
        return Err(match error.missing_wasm_feature() {
            Some(missing) => fault(missing, &error),
            None => Fault::malformed(&error),
        });
    }
    let suffices = |more: &WasmFeatures| {
        Validator::new_with_features(on | *more)
            .validate_all(bytes)
            .is_ok()
    };
    let cause = OFF
        .iter()
        .map(|(more, _)| *more)
        .find(suffices)
        .or(error.missing_wasm_feature());
    Err(fault(cause.unwrap_or(WasmFeatures::all()), &error))
}

fn fault(missing: WasmFeatures, error: &wasmparser::BinaryReaderError) -> Fault {
    let known = OFF.iter().find(|(features, _)| features.contains(missing));
    Fault::Proposal {
        proposal: known.map_or("a proposal", |(_, name)| name),
        message: error.message().replace('\n', ": "),
        at: error.offset(),
    }
}
