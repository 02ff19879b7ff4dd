//! The node: it runs what its control plane assigns, and takes the cluster's HTTP.
//!
//! In flow assignments (from `agent`) and requests (from the ingress), out flow reports, log lines and
//! responses. Long-lived tasks, and what passes between them:
//!
//! | task | wakes on | reads | writes |
//! |---|---|---|---|
//! | agent | the control plane, a changed board, time | the board | the assignment, the route table |
//! | supervisor | assignment, board | what changed, through [`decide`] | starts and stops instances |
//! | one per web instance | its process, a stop | its spec | the board, its seat, the log |
//! | runs, and a task for each | assignment, ends, stops | its component | the ledger, the log |
//! | crew: one per process type of workers, on its own thread | orders, ends, time | its spec | the board, the log |
//! | the starts' thread | batches of starts | | commands on the guest threads |
//! | sampler | each second | usage of instances | figures on the board |
//! | shipper | new log lines | the apps' rings | log batches to each control plane |
//! | ingress, and a door per web instance | requests | the table | router lines of the log |
//!
//! Invariant: a node serves with the last assignment it got, over its own restarts too, however long the
//! control plane is gone.
//! Invariant: no request is given to an instance that is not running, and none is cut short by a planned stop
//! within the instance's exit time.
//! Invariant: guests run on the engine's threads; nothing here waits for them on a thread of the ingress.

mod agent;
mod artefacts;
mod backoff;
mod blobs;
mod board;
pub mod compile_child;
mod config;
mod control;
pub mod decide;
mod entropy;
pub mod identity;
mod ingress;
mod inside;
mod jobs;
pub mod join;
mod kept;
mod lock;
mod logs;
mod machine;
mod node;
mod patience;
mod ports;
pub mod probe_child;
mod questions;
mod reporter;
pub mod slots;
mod supervisor;
mod vigil;

pub use config::{ControlAddress, NodeConfig};
pub use lock::{NodeRecord, is_running, read_record};
pub use node::{Node, NodeAddresses, NodeError, bind};
