//! A first pass over WebAssembly bytes: how much there is of each thing, and the names at the top.
//!
//! In flow bytes that anybody may have made, out flow names, or the limit that they exceed. It runs before
//! validation, so that what would cost minutes to validate or compile is refused in milliseconds, and before
//! any type is built.

use wasmparser::{ComponentTypeRef, Parser, Payload, TypeBounds};

use crate::component::Fault;

/// Functions of all modules together. A component from Python (18 MB) has 13,500; compiling costs about 0.1 ms
/// and 6 KiB for each.
const FUNCTIONS_MAX: u64 = 150_000;
/// Types of all modules and components together.
const TYPES_MAX: u64 = 200_000;
/// Imports and exports of all modules together. A component from Python has 6,600.
const CORE_EXTERNS_MAX: u64 = 100_000;
/// Modules in one component. One from Python has 14.
const MODULES_MAX: u64 = 200;
/// Components inside a component.
const COMPONENTS_MAX: u64 = 100;
/// Tables of one module, and memories of one module: what a slot of the engine's pools holds.
const TABLES_PER_MODULE_MAX: u64 = 4;
const MEMORIES_PER_MODULE_MAX: u64 = 4;
/// Elements that one table begins with: what the engine's pools hold. One from Python has over 10,000.
const TABLE_ELEMENTS_MAX: u64 = 20_000;
/// Imports and exports of the outermost component; a real one has a few dozen.
const EXTERNS_MAX: u64 = 1_000;

/// What stands at the top of a component or core module.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// A component's imports, by name, without those that only name a type of another import.
    pub(crate) imports: Vec<String>,
    /// A component's or core module's exports, by name.
    pub(crate) exports: Vec<String>,
    /// A core module's imports: module and name.
    pub(crate) core_imports: Vec<(String, String)>,
    /// Whether a core module says which component world it is made for.
    pub(crate) has_world: bool,
}

#[derive(Default)]
struct Counts {
    functions: u64,
    types: u64,
    core_externs: u64,
    modules: u64,
    components: u64,
    externs: u64,
}

/// Counts and names; [`Fault::Limit`] at the first thing that there is too much of.
pub(crate) fn outline(bytes: &[u8]) -> Result<Outline, Fault> {
    let mut counts = Counts::default();
    let mut outline = Outline::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| Fault::malformed(&error))?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            // The outermost ends at depth 0.
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        counts.add(&payload)?;
        fits_a_slot(&payload)?;
        let is_nested_start = matches!(
            payload,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. }
        );
        if depth == 0 && !is_nested_start {
            outline.add(&payload).map_err(|error| Fault::malformed(&error))?;
        }
    }
    Ok(outline)
}

impl Counts {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), Fault> {
        let (counter, more, max, what) = match payload {
            Payload::FunctionSection(s) => (&mut self.functions, s.count(), FUNCTIONS_MAX, "functions"),
            Payload::TypeSection(s) => (&mut self.types, s.count(), TYPES_MAX, "types"),
            Payload::CoreTypeSection(s) => (&mut self.types, s.count(), TYPES_MAX, "types"),
            Payload::ComponentTypeSection(s) => (&mut self.types, s.count(), TYPES_MAX, "types"),
            Payload::ImportSection(s) => (
                &mut self.core_externs,
                s.count(),
                CORE_EXTERNS_MAX,
                "imports and exports",
            ),
            Payload::ExportSection(s) => (
                &mut self.core_externs,
                s.count(),
                CORE_EXTERNS_MAX,
                "imports and exports",
            ),
            Payload::ModuleSection { .. } => (&mut self.modules, 1, MODULES_MAX, "modules"),
            Payload::ComponentSection { .. } => {
                (&mut self.components, 1, COMPONENTS_MAX, "nested components")
            }
            Payload::ComponentImportSection(s) => {
                (&mut self.externs, s.count(), EXTERNS_MAX, "imports and exports")
            }
            Payload::ComponentExportSection(s) => {
                (&mut self.externs, s.count(), EXTERNS_MAX, "imports and exports")
            }
            _ => return Ok(()),
        };
        *counter += u64::from(more);
        if *counter > max {
            return Err(Fault::Limit { what, max });
        }
        Ok(())
    }
}

/// Refuses a module that no slot of the engine's pools holds.
fn fits_a_slot(payload: &Payload<'_>) -> Result<(), Fault> {
    let (count, max, what) = match payload {
        Payload::TableSection(section) => {
            for table in section.clone() {
                let table = table.map_err(|error| Fault::malformed(&error))?;
                if table.ty.initial > TABLE_ELEMENTS_MAX {
                    let (what, max) = ("elements in one table", TABLE_ELEMENTS_MAX);
                    return Err(Fault::Limit { what, max });
                }
            }
            (section.count(), TABLES_PER_MODULE_MAX, "tables in one module")
        }
        Payload::MemorySection(section) => {
            (section.count(), MEMORIES_PER_MODULE_MAX, "memories in one module")
        }
        _ => return Ok(()),
    };
    match u64::from(count) > max {
        true => Err(Fault::Limit { what, max }),
        false => Ok(()),
    }
}

impl Outline {
    fn add(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let import = import?;
                    if !matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                        self.imports.push(import.name.name.to_string());
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.exports.push(export?.name.name.to_string());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    self.core_imports
                        .push((import.module.to_string(), import.name.to_string()));
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    self.exports.push(export?.name.to_string());
                }
            }
            Payload::CustomSection(section) => self.has_world |= section.name().starts_with("component-type"),
            _ => {}
        }
        Ok(())
    }
}
