//! Adapting: a core module for WASI preview 1 becomes a component.
//!
//! In flow a core module, out flow the bytes of a component that imports WASI 0.2 in its place. Modules that
//! were made for a component world (their tools leave a `component-type` section in them) become a component
//! of that world.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;

use crate::{
    component::Fault,
    outline::{self, Outline},
    proposals,
};

/// Modules that toolchains for other hosts import, and what their authors should do.
const OTHER_HOSTS: &[(&str, &str)] = &[
    (
        "wasi_unstable",
        "build it with a newer toolchain: this is the WASI before preview 1",
    ),
    ("wbg", "build it for wasm32-wasip2, without wasm-bindgen"),
    (
        "__wbindgen_placeholder__",
        "build it for wasm32-wasip2, without wasm-bindgen",
    ),
    ("gojs", "build it with GOOS=wasip1 in place of GOOS=js"),
    ("go", "build it with GOOS=wasip1 in place of GOOS=js"),
    (
        "wasix_32v1",
        "build it for plain WASI; WASIX is another interface",
    ),
    (
        "env",
        "link what it needs into it: nothing is given under the name env",
    ),
];

/// The functions of preview 1 that the adapter has.
static PREVIEW1_FUNCTIONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let adapter =
        outline::outline(WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER).expect("the adapter is a valid module");
    adapter.exports.into_iter().collect()
});

/// Makes a component of a core module.
pub(crate) fn adapt(module: &[u8]) -> Result<Vec<u8>, Fault> {
    let outline = outline::outline(module)?;
    check_imports(&outline)?;
    // The encoder expects a valid module, and the author the fault of the module as it was built.
    proposals::validate_core(module)?;
    let is_command = outline.exports.iter().any(|export| export == "_start");
    if !is_command && !outline.has_world {
        return Err(Fault::NoStart);
    }
    let adapter = if is_command {
        WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER
    } else {
        WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER
    };
    let encode = || {
        ComponentEncoder::default()
            .validate(true)
            .module(module)?
            .adapter(PREVIEW1, adapter)?
            .encode()
    };
    // The encoder asserts what a hostile `component-type` section can break.
    match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(Ok(component)) => Ok(component),
        Ok(Err(error)) => Err(Fault::Adapt {
            message: format!("{error:#}").replace('\n', " "),
        }),
        Err(_) => Err(Fault::Adapt {
            message: "its description of itself contradicts it".to_string(),
        }),
    }
}

fn check_imports(outline: &Outline) -> Result<(), Fault> {
    let is_offered = |module: &str, name: &str| match module {
        PREVIEW1 => PREVIEW1_FUNCTIONS.contains(name),
        // How tools for components name an interface, an export's intrinsics, and the world itself.
        _ => outline.has_world && (module.contains(':') || module.starts_with(['[', '$'])),
    };
    let lacking: Vec<&(String, String)> = outline
        .core_imports
        .iter()
        .filter(|(module, name)| !is_offered(module, name))
        .collect();
    let Some((module, _)) = lacking.first() else {
        return Ok(());
    };
    let other_host = OTHER_HOSTS.iter().find(|(name, _)| name == module);
    Err(Fault::CoreImports {
        imports: lacking
            .iter()
            .map(|(module, name)| format!("{module}::{name}"))
            .collect(),
        hint: other_host.map_or("build it for WASI, or as a component", |(_, hint)| hint),
    })
}
