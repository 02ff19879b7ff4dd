//! What a component is, found from its bytes.
//!
//! In flow bytes that anybody may have made, out flow its shape, its imports and exports, and which imports
//! the platform lacks. Nothing is compiled or run.

use gilliam_model::image::Shape;
use wasmparser::{Encoding, Parser, Payload};

/// Imports or exports of one component; a real one has a few dozen.
const EXTERNS_MAX: usize = 1_000;

/// WASI packages that the platform links, with the newest version of each line it offers.
const OFFERED: &[(&str, &[&str])] = &[
    ("wasi:cli", &["0.2.12", "0.3.0"]),
    ("wasi:clocks", &["0.2.12", "0.3.0"]),
    ("wasi:filesystem", &["0.2.12", "0.3.0"]),
    ("wasi:http", &["0.2.12", "0.3.0"]),
    ("wasi:io", &["0.2.12"]),
    ("wasi:random", &["0.2.12", "0.3.0"]),
    ("wasi:sockets", &["0.2.12", "0.3.0"]),
];

/// What a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentFacts {
    /// How the platform runs it.
    pub shape: Shape,
    /// Its imports, in order.
    pub imports: Vec<Import>,
    /// The names of its exports, in order.
    pub exports: Vec<String>,
}

/// One import of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its full name: `wasi:http/types@0.2.3`.
    pub name: String,
    /// The versions of its package that the platform offers, when the import cannot be met; empty for an
    /// unknown package.
    pub missing: Option<Vec<&'static str>>,
}

/// Why bytes are not a component that the platform can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Compiled code; only the platform makes it.
    #[error("this is compiled code; upload the component it was made from")]
    Precompiled,
    /// A core module.
    #[error("this is a core module, not a component")]
    CoreModule,
    /// Not WebAssembly, or cut off.
    #[error("this is not a WebAssembly component: {0}")]
    Malformed(String),
    /// None of the exports that make a process.
    #[error(
        "the component exports none of wasi:http/incoming-handler@0.2, wasi:http/handler@0.3 and \
         wasi:cli/run; it exports {exports}"
    )]
    NoShape {
        /// What it exports.
        exports: String,
    },
}

/// Finds a component's shape, imports and exports.
pub fn inspect(component: &[u8]) -> Result<ComponentFacts, InspectError> {
    if component.starts_with(b"\x7fELF") {
        return Err(InspectError::Precompiled);
    }
    let malformed = |error: wasmparser::BinaryReaderError| InspectError::Malformed(error.to_string());
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_u32;
    let mut ended = false;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(malformed)? {
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
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            _ => {}
        }
        if imports.len() + exports.len() > EXTERNS_MAX {
            return Err(InspectError::Malformed(format!(
                "more than {EXTERNS_MAX} imports and exports"
            )));
        }
    }
    if !ended {
        return Err(InspectError::Malformed("it is cut off".to_owned()));
    }
    let shape = shape_of(&exports).ok_or_else(|| InspectError::NoShape {
        exports: if exports.is_empty() {
            "nothing".to_owned()
        } else {
            exports.join(", ")
        },
    })?;
    let imports = imports
        .into_iter()
        .map(|name| Import {
            missing: missing(&name),
            name,
        })
        .collect();
    Ok(ComponentFacts {
        shape,
        imports,
        exports,
    })
}

/// An http export wins over a command's: such a component serves.
fn shape_of(exports: &[String]) -> Option<Shape> {
    let has = |interface: &str, line: &str| {
        exports.iter().any(|export| {
            export.split_once('@').is_some_and(|(name, version)| {
                name == interface && version.strip_prefix(line).is_some_and(is_release)
            })
        })
    };
    [
        ("wasi:http/handler", "0.3.", Shape::HttpP3),
        ("wasi:http/incoming-handler", "0.2.", Shape::HttpP2),
        ("wasi:cli/run", "0.3.", Shape::CommandP3),
        ("wasi:cli/run", "0.2.", Shape::CommandP2),
    ]
    .into_iter()
    .find(|(interface, line, _)| has(interface, line))
    .map(|(_, _, shape)| shape)
}

/// A patch number alone: drafts (`0-rc-2025-08-15`) differ from the release they became.
fn is_release(patch: &str) -> bool {
    !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit())
}

/// None when the platform offers the import's interface in a compatible version.
fn missing(import: &str) -> Option<Vec<&'static str>> {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let package = name.split_once('/').map_or(name, |(package, _)| package);
    let offered = OFFERED
        .iter()
        .find(|(known, _)| *known == package)
        .map(|(_, versions)| *versions);
    let Some(offered) = offered else {
        return Some(Vec::new());
    };
    let meets = |offer: &&str| {
        let line = offer.rsplit_once('.').map_or(*offer, |(line, _)| line);
        version
            .strip_prefix(line)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(is_release)
    };
    if offered.iter().any(meets) {
        None
    } else {
        Some(offered.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wat: &str) -> Result<ComponentFacts, InspectError> {
        inspect(&wat::parse_str(wat).expect("wat"))
    }

    #[test]
    fn the_shape_comes_from_the_exports() {
        for (export, shape) in [
            ("wasi:http/incoming-handler@0.2.3", Shape::HttpP2),
            ("wasi:http/handler@0.3.0", Shape::HttpP3),
            ("wasi:cli/run@0.2.0", Shape::CommandP2),
            ("wasi:cli/run@0.3.1", Shape::CommandP3),
        ] {
            let facts = check(&format!(
                r#"(component (instance $i) (export "{export}" (instance $i)))"#
            ));
            assert_eq!(facts.expect(export).shape, shape);
        }
    }

    #[test]
    fn what_cannot_run_is_refused_by_name() {
        assert_eq!(inspect(b"\x7fELF...."), Err(InspectError::Precompiled));
        assert_eq!(check("(module)"), Err(InspectError::CoreModule));
        assert!(matches!(inspect(b"hello"), Err(InspectError::Malformed(_))));
        assert!(matches!(check("(component)"), Err(InspectError::NoShape { .. })));
        let whole =
            wat::parse_str(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#);
        let whole = whole.expect("wat");
        // Cut between two sections after the export it is whole again, as far as anybody can tell.
        let facts = inspect(&whole);
        for end in 0..whole.len() {
            let cut = inspect(&whole[..end]);
            assert!(cut.is_err() || cut == facts, "cut at {end}");
        }
    }

    #[test]
    fn missing_imports_say_what_is_offered() {
        assert_eq!(missing("wasi:http/types@0.2.3"), None);
        assert_eq!(missing("wasi:cli/stdout@0.3.2"), None);
        assert_eq!(missing("wasi:http/types@0.4.0"), Some(vec!["0.2.12", "0.3.0"]));
        assert_eq!(
            missing("wasi:http/types@0.3.0-rc-2025-08-15"),
            Some(vec!["0.2.12", "0.3.0"])
        );
        assert_eq!(missing("wasi:keyvalue/store@0.2.0-draft"), Some(vec![]));
    }
}
