//! The shape of a component, found from its bytes.
//!
//! In flow bytes that anybody may have made, out flow the shape that their exports promise and what the choice
//! of an engine depends on. Nothing is
//! validated, compiled or run, so it costs milliseconds where compiling costs seconds. What else a component
//! needs is found where it is linked.

use gilliam_model::image::{Shape, ShapeError};
use wasmparser::{BinaryReaderError, DataKind, Encoding, Parser, Payload};

use crate::engines::Facts;

/// Exports of one component; a real one has a few dozen.
const EXPORTS_MAX: usize = 1_000;

/// Why bytes are not a component that the platform can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Compiled code; only the platform makes it.
    #[error("it is compiled code, not a component")]
    Precompiled,
    /// A core module.
    #[error("it is a core module, not a component")]
    CoreModule,
    /// Not WebAssembly, or cut off.
    #[error("it is not a WebAssembly component: {0}")]
    Malformed(String),
    /// Its exports do not say how to run it.
    #[error("it {0}")]
    Shape(#[from] ShapeError),
}

impl From<BinaryReaderError> for InspectError {
    fn from(error: BinaryReaderError) -> Self {
        InspectError::Malformed(error.to_string())
    }
}

/// Finds a component's shape.
pub fn inspect(component: &[u8]) -> Result<Shape, InspectError> {
    Ok(facts(component)?.shape)
}

/// Finds what the choice of an engine depends on.
pub(crate) fn facts(component: &[u8]) -> Result<Facts, InspectError> {
    if component.starts_with(b"\x7fELF") {
        return Err(InspectError::Precompiled);
    }
    let mut exports = Vec::new();
    let mut depth = 0_u32;
    let mut ended = false;
    let (mut data_bytes, mut memory_bytes) = (0_u64, 0_u64);
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => {
                return Err(InspectError::CoreModule);
            }
            // Nested modules and components end like the outermost does.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => match depth.checked_sub(1) {
                Some(outer) => depth = outer,
                None => ended = true,
            },
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name);
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    let data = data?;
                    if matches!(data.kind, DataKind::Active { .. }) {
                        data_bytes = data_bytes.saturating_add(data.data.len() as u64);
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    let page_bytes = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16));
                    let bytes = memory.initial.saturating_mul(page_bytes.unwrap_or(u64::MAX));
                    memory_bytes = memory_bytes.max(bytes);
                }
            }
            _ => {}
        }
        if exports.len() > EXPORTS_MAX {
            return Err(InspectError::Malformed(format!(
                "more than {EXPORTS_MAX} exports"
            )));
        }
    }
    if !ended {
        return Err(InspectError::Malformed("it is cut off".to_owned()));
    }
    let (shape, _) = Shape::of_exports(exports)?;
    Ok(Facts {
        shape,
        data_bytes,
        memory_bytes,
    })
}

/// Bytes of code in a component, of all its modules: what the time to compile it goes by. Of bytes that are no
/// component it is what was found before that showed.
pub fn code_bytes(component: &[u8]) -> u64 {
    let payloads = Parser::new(0).parse_all(component).map_while(Result::ok);
    let code = payloads.map(|payload| match payload {
        Payload::CodeSectionStart { size, .. } => u64::from(size),
        _ => 0,
    });
    code.sum()
}

/// Bytes of the largest function in a component, of all its modules: an interpreter's loop, where it has one.
pub(crate) fn function_bytes_max(component: &[u8]) -> usize {
    let payloads = Parser::new(0).parse_all(component).map_while(Result::ok);
    let functions = payloads.map(|payload| match payload {
        Payload::CodeSectionEntry(body) => body.range().len(),
        _ => 0,
    });
    functions.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wat: &str) -> Result<Shape, InspectError> {
        inspect(&wat::parse_str(wat).expect("wat"))
    }

    #[test]
    fn what_cannot_run_is_refused_by_name() {
        assert_eq!(inspect(b"\x7fELF...."), Err(InspectError::Precompiled));
        assert_eq!(check("(module)"), Err(InspectError::CoreModule));
        assert!(matches!(inspect(b"hello"), Err(InspectError::Malformed(_))));
        assert_eq!(check("(component)"), Err(InspectError::Shape(ShapeError::None)));
        let nested = r#"(component (component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i))))"#;
        assert_eq!(check(nested), Err(InspectError::Shape(ShapeError::None)));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#;
        let whole = wat::parse_str(whole).expect("wat");
        assert_eq!(inspect(&whole), Ok(Shape::CommandP2));
        for end in 0..whole.len() {
            // Cut between two sections after the export it is whole again, as far as anybody can tell.
            let cut = inspect(&whole[..end]);
            assert!(cut.is_err() || cut == Ok(Shape::CommandP2), "cut at {end}");
        }
    }
}
