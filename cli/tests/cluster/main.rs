//! A cluster from the outside: a server and nodes as processes of their own, each node on a loopback address
//! of its own.

mod harness;
mod joining;
mod liveness;
#[path = "../e2e/platform.rs"]
#[allow(dead_code, reason = "the tests of one machine use the rest")]
mod platform;
mod story;
