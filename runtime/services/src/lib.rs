//! The data of apps' services on a node: files in its data folder, one folder for each service.
//!
//! In flow bindings ([`Services::bind`]) and operations on what is bound, out flow answers that are durable. A handle
//! is cheap to clone, and may be used by any number of lanes at once.
//!
//! Invariant: who has a handle reaches one service and no other.
//! Invariant: nothing here waits for a disk on the thread that asks: that is done by a few threads of its own
//! (`lane`), and what waits for them is bounded.
//! Invariant: what is acknowledged is durable.
//! Invariant: a service is kept within its quota.

pub mod blob;
mod folder;
pub mod http;
pub mod keyvalue;
mod lane;
mod services;
pub mod sql;
pub mod volume;

pub use services::{Bound, Handle, Services, ServicesError};
