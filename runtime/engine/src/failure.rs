//! From whatever went wrong in a guest to one code of the catalogue.
//!
//! In flow wasmtime's errors, out flow a code and a message for people, with the wasm backtrace where there
//! is one.

use gilliam_model::{code::Code, limits::LimitName};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace, component::ResourceTableError};
use wasmtime_wasi::I32Exit;

use crate::{held::HeldTooMuch, log, slab::SLAB_FULL, throttle::Panicked, usage::RequestUsage};

/// Longest message: a backtrace of twenty frames fits.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// What ended a lane or kept one from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// Why a request got no response.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code} {}: {message}", code.title())]
pub struct CallError {
    /// H11 backlog, H12 timeout, H13 no response, H17 malformed response, H26 malformed request, R14 and
    /// R15 memory, R20 fuel, R21 stack, R22 host resource, R23 trap, R99 platform.
    pub code: Code,
    /// What happened, for people; with the wasm backtrace of a trap.
    pub message: String,
    /// What it used all the same, when it came as far as a lane.
    pub usage: Option<RequestUsage>,
}

/// Why an instance did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {}: {message}", code.title())]
pub struct StartError {
    /// R10 boot timeout, R14 memory, R20 fuel, R21 stack, R22 host resource, R23 trap, A422 configuration,
    /// R99 platform.
    pub code: Code,
    /// What happened, for people; with the wasm backtrace of a trap.
    pub message: String,
}

/// A guest asked the host for more than a cap allows (R22); the text says of what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CapReached(pub(crate) String);

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// `memory_refused` says that the guest ran into its memory limit before: then that is the cause of its
    /// trap.
    pub(crate) fn of(error: &wasmtime::Error, memory_refused: bool) -> Self {
        let code = code_of(error, memory_refused);
        let mut message = error.root_cause().to_string();
        // Its key comes first: the hint goes by it.
        if let Some(name) = cap(error).filter(|_| code == Code::R22) {
            message = format!("{} reached: {message}", name.key());
        }
        if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
            message = format!("{message}\nwasm backtrace:\n{backtrace}");
        }
        let mut message = message.trim_end().to_owned();
        log::truncate(&mut message, MESSAGE_BYTES_MAX);
        Self { code, message }
    }

    pub(crate) fn panicked(panicked: &Panicked) -> Self {
        Self::new(
            Code::R99,
            format!("the platform failed while it ran the guest: {}", panicked.0),
        )
    }
}

fn code_of(error: &wasmtime::Error, memory_refused: bool) -> Code {
    if error.downcast_ref::<HeldTooMuch>().is_some() {
        return Code::R15;
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::OutOfFuel => Code::R20,
            Trap::StackOverflow => Code::R21,
            _ if memory_refused => Code::R14,
            _ => Code::R23,
        };
    }
    if memory_refused {
        return Code::R14;
    }
    let is_full = is_pool_full(error) || error.root_cause().to_string().ends_with(SLAB_FULL);
    if is_full || error.downcast_ref::<CapReached>().is_some() {
        return Code::R22;
    }
    if cap(error).is_some() {
        Code::R22
    } else {
        Code::R23
    }
}

/// The limit of those behind R22 that an error of wasmtime's is about.
fn cap(error: &wasmtime::Error) -> Option<LimitName> {
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Some(LimitName::Handles);
    }
    // These have no public type; their texts are part of the pinned version and held by tests.
    const CAPS: [(&str, LimitName); 3] = [
        ("fuel allocated for hostcalls", LimitName::HostcallBytes),
        ("store handle limit exceeded", LimitName::Handles),
        ("total size of fields exceeds limit", LimitName::HeaderBytes),
    ];
    let cause = error.root_cause().to_string();
    let found = CAPS.iter().find(|(text, _)| cause.contains(text));
    found.map(|(_, name)| *name)
}

/// Whether an instantiation failed only because every slot of the engine's pool is taken.
pub(crate) fn is_pool_full(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<PoolConcurrencyLimitError>().is_some()
}

/// The exit code, when the guest ended itself.
pub(crate) fn exit_code(error: &wasmtime::Error) -> Option<u8> {
    // A code outside a byte is a failure all the same.
    error
        .downcast_ref::<I32Exit>()
        .map(|exit| u8::try_from(exit.0).unwrap_or(u8::MAX))
}

impl From<Failure> for CallError {
    fn from(Failure { code, message }: Failure) -> Self {
        Self {
            code,
            message,
            usage: None,
        }
    }
}

impl From<Failure> for StartError {
    fn from(Failure { code, message }: Failure) -> Self {
        Self { code, message }
    }
}
