//! What a component is made of, for people who look at one.
//!
//! In flow bytes that anybody may have made, out flow counts and names. Nothing is validated, compiled or
//! run.

use gilliam_model::image::Shape;
use wasmparser::{ComponentTypeRef, DataKind, Parser, Payload, TypeBounds};

use crate::{
    engines::EngineChoice,
    inspect::{InspectError, inspect},
};

/// What one table element costs, as the memory limit counts it.
pub(crate) const TABLE_ELEMENT_BYTES: u64 = 8;

/// What a component is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// How it is run.
    pub shape: Shape,
    /// The engine that a node chooses for it, and why.
    pub engine: EngineChoice,
    /// Its imports, by name, without those that only name a type of another import.
    pub imports: Vec<String>,
    /// Its exports, by name.
    pub exports: Vec<String>,
    /// Core modules in it.
    pub modules: u64,
    /// Functions of all modules, without imported ones.
    pub functions: u64,
    /// Its linear memories, in bytes.
    pub memories: Vec<Extent>,
    /// Its tables, in elements.
    pub tables: Vec<Extent>,
    /// Bytes of active data segments, which each fresh memory begins with.
    pub data_bytes: u64,
}

/// How large something begins, and may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// At its start.
    pub initial: u64,
    /// What its module allows; none for no bound of its own.
    pub max: Option<u64>,
}

impl Survey {
    /// Looks at a component; `guard_pages` says whether its process asks for them.
    pub fn of(component: &[u8], guard_pages: bool) -> Result<Self, InspectError> {
        let mut survey = Self {
            shape: inspect(component)?,
            engine: EngineChoice::of(component, guard_pages)?,
            imports: Vec::new(),
            exports: Vec::new(),
            modules: 0,
            functions: 0,
            memories: Vec::new(),
            tables: Vec::new(),
            data_bytes: 0,
        };
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload?;
            survey.add(&payload, depth)?;
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Ok(survey)
    }

    /// Bytes of memories and tables that one lane or command begins with, when it makes each module once.
    pub fn initial_bytes(&self) -> u64 {
        let sum = |extents: &[Extent]| extents.iter().fold(0_u64, |sum, e| sum.saturating_add(e.initial));
        sum(&self.memories).saturating_add(sum(&self.tables).saturating_mul(TABLE_ELEMENT_BYTES))
    }

    fn add(&mut self, payload: &Payload<'_>, depth: u32) -> Result<(), InspectError> {
        match payload {
            Payload::ModuleSection { .. } => self.modules += 1,
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    let import = import?;
                    if !matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                        self.imports.push(import.name.name.to_string());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    self.exports.push(export?.name.name.to_string());
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    let memory = memory?;
                    let page = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16));
                    let bytes = |pages: u64| pages.saturating_mul(page.unwrap_or(u64::MAX));
                    self.memories.push(Extent {
                        initial: bytes(memory.initial),
                        max: memory.maximum.map(bytes),
                    });
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let table = table?.ty;
                    self.tables.push(Extent {
                        initial: table.initial,
                        max: table.maximum,
                    });
                }
            }
            Payload::DataSection(section) => {
                for data in section.clone() {
                    let data = data?;
                    if matches!(data.kind, DataKind::Active { .. }) {
                        self.data_bytes = self.data_bytes.saturating_add(data.data.len() as u64);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_counted_whole_and_named_at_the_top() {
        let wat = r#"(component
            (import "a:b/c@1.0.0" (instance))
            (core module $m (memory 2 10) (table 5 funcref) (data (i32.const 0) "four") (func) (func))
            (component (core module (memory 1)))
            (core instance (instantiate $m))
            (instance $i)
            (export "wasi:cli/run@0.2.0" (instance $i)))"#;
        let survey = Survey::of(&wat::parse_str(wat).expect("wat"), false).expect("a component");
        assert_eq!(survey.shape, Shape::CommandP2);
        assert_eq!(survey.imports, ["a:b/c@1.0.0"]);
        assert_eq!(survey.exports, ["wasi:cli/run@0.2.0"]);
        assert_eq!((survey.modules, survey.functions, survey.data_bytes), (2, 2, 4));
        let extent = |initial, max| Extent { initial, max };
        assert_eq!(
            survey.memories,
            [extent(2 << 16, Some(10 << 16)), extent(1 << 16, None)]
        );
        assert_eq!(survey.tables, [extent(5, None)]);
        assert_eq!(survey.initial_bytes(), (3 << 16) + 40);
    }
}
