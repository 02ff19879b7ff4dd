//! A cluster from the outside: servers, nodes and members of etcd as processes of their own, each node on a loopback
//! address of its own.

mod etcd;
#[path = "../../../scheduler/store/tests/etcd_process/mod.rs"]
mod etcd_process;
mod git;
mod harness;
mod identity;
mod images;
mod joining;
mod liveness;
mod load;
mod network;
mod partition;
#[path = "../e2e/platform.rs"]
#[allow(dead_code, reason = "the tests of one machine use the rest")]
mod platform;
mod rolling;
mod runs;
#[path = "../../../scheduler/tests/harness/s3.rs"]
mod s3;
mod servers;
mod story;
mod turn;
mod views;
