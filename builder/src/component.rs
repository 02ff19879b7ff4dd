//! Checking: bytes that anybody may have made become a component that the platform can run, or a reason why
//! not.
//!
//! In flow the bytes of one process, out flow a valid component and its shape. The order is cheapest first:
//! magic, counts, names, validation, imports. Core modules for WASI preview 1 are adapted on the way (module
//! `adapt`), and library components linked in (module `link`).
//!
//! Only names are compared with the offer: interfaces, and the functions and resources that are asked of
//! each. Whether the types behind the names agree is decided where the component is linked, by the engine.
//!
//! Must never: compile or run anything, load compiled code.

use std::{collections::BTreeSet, fmt};

use gilliam_model::{
    code::Code,
    image::{Shape, ShapeError},
    text::excerpt,
};

use crate::{
    adapt,
    link::{self, LinkFault, Part},
    offer::{Missing, Offer},
    outline::{self, Outline},
    proposals, shape,
};

/// Bytes of one component. One from Python with a web framework has 27 MB.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;

/// A component that the platform can run.
#[derive(Debug)]
pub struct Checked {
    /// The component.
    pub bytes: Vec<u8>,
    /// How it is run.
    pub shape: Shape,
    /// Where its bytes come from.
    pub origin: Origin,
    /// What it imports, by name.
    pub imports: BTreeSet<String>,
}

/// Whether a component is what was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is, byte for byte.
    AsGiven,
    /// It was made from a core module.
    Adapted,
}

/// Why a component cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("{component} {fault}")]
pub struct ComponentError {
    /// The component as the Procfile names it.
    pub component: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a component; each reads on from its name.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No bytes.
    #[error("is empty")]
    Empty,
    /// Compiled code.
    #[error("is compiled code, which is never taken")]
    Compiled,
    /// The text format.
    #[error("is WebAssembly text, not a component")]
    Text,
    /// Something else.
    #[error("is not WebAssembly")]
    NotWasm,
    /// WebAssembly of another binary format.
    #[error("is in a WebAssembly format that is not known here: version {version}, layer {layer}")]
    Format {
        /// Its version field.
        version: u16,
        /// Its layer field.
        layer: u16,
    },
    /// It ends too early.
    #[error("is cut off at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// It breaks a rule of the format.
    #[error("is malformed at byte {at}: {message}")]
    Malformed {
        /// Where.
        at: usize,
        /// The rule.
        message: String,
    },
    /// Too much of something.
    #[error("has more than {max} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much is taken.
        max: u64,
    },
    /// A proposal that the engine has switched off.
    #[error("uses {proposal}, which is off on this platform ({message}, at byte {at})")]
    Proposal {
        /// Its name.
        proposal: &'static str,
        /// How it was noticed.
        message: String,
        /// Where.
        at: usize,
    },
    /// A core module that is neither a command nor made for a component world.
    #[error("is a core module without _start, so there is nothing to run")]
    NoStart,
    /// Imports of a core module that no adapter provides.
    #[error("imports {}; a core module may import wasi_snapshot_preview1 only", list(.imports))]
    CoreImports {
        /// Each as `module::name`.
        imports: Vec<String>,
        /// The way out.
        hint: &'static str,
    },
    /// A core module that could not be adapted.
    #[error("is a core module that cannot be made a component: {message}")]
    Adapt {
        /// Why.
        message: String,
    },
    /// A library component that is none.
    #[error("links {library}, which {fault}")]
    Library {
        /// As the manifest names it.
        library: String,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
    /// Components that do not fit together.
    #[error(transparent)]
    Link(Box<LinkFault>),
    /// None of the exports that make a process.
    #[error("exports nothing that the platform can run; it exports {}", list(.exports))]
    NoShape {
        /// What it exports.
        exports: Vec<String>,
    },
    /// Exports that do not agree on how to run it.
    #[error(transparent)]
    Shape(ShapeError),
    /// The right export without the right function.
    #[error("exports {interface}, but {reason}")]
    Handler {
        /// The export.
        interface: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Imports that the platform lacks.
    #[error("{}{}", .first, also(.others))]
    Imports {
        /// The first of them.
        first: Box<Missing>,
        /// The names of the others.
        others: Vec<String>,
    },
}

impl Fault {
    /// The fault behind an error of the parser or validator.
    pub(crate) fn malformed(error: &wasmparser::BinaryReaderError) -> Self {
        let at = error.offset();
        if error.message().contains("unexpected end") {
            return Fault::Truncated { at };
        }
        Fault::Malformed {
            at,
            message: error.message().replace('\n', ": "),
        }
    }

    /// The code of the catalogue.
    pub fn code(&self) -> Code {
        match self {
            Fault::Limit { .. } => Code::B10,
            Fault::Library { fault, .. } => fault.code(),
            Fault::Link(fault) if matches!(**fault, LinkFault::Compose { .. }) => Code::B12,
            Fault::Imports { .. } | Fault::CoreImports { .. } | Fault::Link(_) => Code::B11,
            _ => Code::B12,
        }
    }

    /// The way out.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Fault::Empty | Fault::Truncated { .. } | Fault::Malformed { .. } => {
                "build the component again, and copy the whole file".to_string()
            }
            Fault::Compiled => {
                "name the component it was compiled from; the platform compiles it".to_string()
            }
            Fault::Text => "assemble it: wasm-tools parse FILE.wat -o FILE.wasm".to_string(),
            Fault::NotWasm => "name a component, as built with --target wasm32-wasip2".to_string(),
            Fault::Format { .. } => "build it again with current tools".to_string(),
            Fault::Limit { .. } => "split the app, or leave out what it does not use".to_string(),
            Fault::Proposal { .. } => "switch the proposal off in the compiler".to_string(),
            Fault::NoStart => "give it a main function, or build it for wasm32-wasip2".to_string(),
            Fault::CoreImports { hint, .. } => (*hint).to_string(),
            Fault::Adapt { .. } => {
                "build it for wasm32-wasip2, or make it a component with your own tools".to_string()
            }
            Fault::Library { fault, .. } => return fault.hint(),
            Fault::Link(fault) => fault.hint(),
            Fault::NoShape { .. } | Fault::Handler { .. } => ShapeError::None.hint(),
            Fault::Shape(error) => error.hint(),
            Fault::Imports { first, .. } => return first.hint(),
        })
    }
}

/// Checks the bytes of `component`, named so in errors.
pub fn check(component: &str, bytes: Vec<u8>, offer: &Offer) -> Result<Checked, ComponentError> {
    check_linked(component, bytes, Vec::new(), offer)
}

/// Links the libraries into a component, and checks what comes out.
pub fn check_linked(
    component: &str,
    bytes: Vec<u8>,
    libraries: Vec<Part>,
    offer: &Offer,
) -> Result<Checked, ComponentError> {
    check_bytes(component, bytes, libraries, offer).map_err(|fault| ComponentError {
        component: component.to_string(),
        fault,
    })
}

fn check_bytes(name: &str, bytes: Vec<u8>, libraries: Vec<Part>, offer: &Offer) -> Result<Checked, Fault> {
    let (mut bytes, origin) = adapted(bytes)?;
    if !libraries.is_empty() {
        bytes = linked(name, bytes, libraries)?;
    }
    let outline = outlined(&bytes)?;
    let found = shape::find(&outline.exports)?;
    let types = proposals::validate(&bytes, found.shape)?;
    shape::check_handler(&found, types.as_ref())?;
    offer.check(&outline.imports, types.as_ref(), &found)?;
    Ok(Checked {
        bytes,
        shape: found.shape,
        origin,
        imports: outline.imports.into_iter().collect(),
    })
}

fn adapted(bytes: Vec<u8>) -> Result<(Vec<u8>, Origin), Fault> {
    match recognise(&bytes)? {
        Encoding::Component => Ok((bytes, Origin::AsGiven)),
        Encoding::Module => Ok((adapt::adapt(&bytes)?, Origin::Adapted)),
    }
}

/// How much there is of everything, so that what follows takes bounded time.
fn outlined(bytes: &[u8]) -> Result<Outline, Fault> {
    if bytes.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(Fault::Limit {
            what: "bytes",
            max: COMPONENT_BYTES_MAX,
        });
    }
    outline::outline(bytes)
}

/// The component with its libraries in it. The composer expects valid components.
fn linked(name: &str, bytes: Vec<u8>, libraries: Vec<Part>) -> Result<Vec<u8>, Fault> {
    outlined(&bytes)?;
    proposals::validate_part(&bytes)?;
    let mut parts = Vec::with_capacity(libraries.len());
    for library in libraries {
        let valid = adapted(library.bytes).and_then(|(bytes, _)| {
            outlined(&bytes)?;
            proposals::validate_part(&bytes)?;
            Ok(bytes)
        });
        match valid {
            Ok(bytes) => parts.push(Part {
                name: library.name,
                bytes,
            }),
            Err(fault) => {
                return Err(Fault::Library {
                    library: library.name,
                    fault: Box::new(fault),
                });
            }
        }
    }
    let process = Part {
        name: name.to_string(),
        bytes,
    };
    link::link(process, parts).map_err(|fault| Fault::Link(Box::new(fault)))
}

enum Encoding {
    Component,
    Module,
}

fn recognise(bytes: &[u8]) -> Result<Encoding, Fault> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        return Err(Fault::Empty);
    }
    // wasmtime's compiled code is an ELF file.
    if bytes.starts_with(b"\x7fELF") {
        return Err(Fault::Compiled);
    }
    if !bytes.starts_with(MAGIC) {
        if MAGIC.starts_with(bytes) {
            return Err(Fault::Truncated { at: bytes.len() });
        }
        let text = bytes.trim_ascii_start();
        let is_text = [b"(component".as_slice(), b"(module", b"(;", b";;"]
            .iter()
            .any(|start| text.starts_with(start));
        return Err(if is_text { Fault::Text } else { Fault::NotWasm });
    }
    let Some(&[v0, v1, l0, l1]) = bytes.get(4..8) else {
        return Err(Fault::Truncated { at: bytes.len() });
    };
    match (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([l0, l1])) {
        (1, 0) => Ok(Encoding::Module),
        (13, 1) => Ok(Encoding::Component),
        (version, layer) => Err(Fault::Format { version, layer }),
    }
}

/// `a, b and c`; at most a handful, for a hostile component may have a thousand.
fn list(names: &[String]) -> impl fmt::Display {
    const SHOWN_MAX: usize = 6;
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| excerpt(name)).collect();
    match (names.len(), shown.split_last()) {
        (_, None) => "nothing".to_string(),
        (count, _) if count > SHOWN_MAX => format!("{} and {} more", shown.join(", "), count - SHOWN_MAX),
        (1, Some((only, _))) => only.clone(),
        (_, Some((last, before))) => format!("{} and {last}", before.join(", ")),
    }
}

fn also(others: &[String]) -> impl fmt::Display {
    match others {
        [] => String::new(),
        _ => format!(" (nor {})", list(others)),
    }
}
