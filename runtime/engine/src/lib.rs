//! The engine: component bytes, limits and environment in, a running instance out.
//!
//! In flows a component's bytes (`inspect`, `compile`), its compiled code (`load`), an [`InstanceConfig`]
//! and requests; out flow responses, log entries, usage figures and one typed failure for whatever went
//! wrong. What runs where:
//!
//! - [`Engines`] holds one wasmtime engine per kind of process and the guest threads; `engines.rs` decides
//!   every setting.
//! - [`HttpInstance`] serves requests, or does jobs, each in a lane (a store) of its own; [`CommandInstance`]
//!   runs a command to its end.
//! - [`Loaded`] is a component's compiled code, mapped while it is used.
//! - A guest's first slice may run on the caller's thread; all that follows runs on the guest threads.
//!
//! Invariant: this crate knows no node, no app and no control plane; it reads no environment variable and
//! has no globals.
//! Invariant: a store is dropped after any trap, timeout, cancel or panic, never reused.
//! Invariant: a guest gets what its configuration names and nothing else: no host environment, files or
//! sockets.
//! Invariant: unsafe code is in `load.rs` and in three files of the slab: `slab/region.rs`, `slab/memory.rs` and
//! `slab/stack.rs`.

mod address;
mod attached;
mod body;
mod clock;
mod command;
mod compile;
mod config;
mod cpu_clock;
mod debts;
mod engines;
mod exchange;
mod failure;
mod give_back;
mod guest;
mod held;
mod http;
mod inspect;
mod internal;
mod job;
mod lane;
mod load;
mod log;
mod may_run;
mod memory;
mod outbound;
mod outgoing;
mod probe;
mod progress;
mod random;
mod residency;
mod ride;
mod run_queue;
mod sealed;
mod signals;
mod slab;
mod slots;
mod sockets;
mod sql;
mod stdio;
mod streams;
mod survey;
mod sweeper;
mod threads;
mod throttle;
mod turns;
mod usage;
mod volumes;
mod warm;

pub use self::slab::SlabError;
pub use address::is_public;
pub use attached::{Attached, Holder, InputCut, Piece, Standard, attach};
pub use body::{BodyError, ResponseBody};
pub use command::{CommandInstance, ExitReason, OnExit};
pub use compile::{Artefact, CompileError, CompileKey, Sealing, Tier, compile, write_sealed};
pub use config::{InstanceConfig, LogSink, ProcessConfig};
pub use engines::{EngineChoice, EngineKind, Engines, EnginesConfig, EnginesError};
pub use failure::{CallError, StartError};
pub use give_back::GiveBack;
pub use http::HttpInstance;
pub use inspect::{InspectError, code_bytes, inspect};
pub use internal::{Chain, Internal, InternalAnswer, InternalBody, InternalDoor, Leaving, Refusal};
pub use job::{JobCall, Verdict};
pub use load::{LoadError, Loaded, load};
pub use log::{EntryStream, LogEntry};
pub use may_run::MayRun;
pub use probe::{Outcome, ProbeConfig, ProbeError, probe};
pub use residency::Keep;
pub use survey::{Extent, Survey};
pub use usage::{LastTrap, RequestFigures, RequestUsage, Usage};
