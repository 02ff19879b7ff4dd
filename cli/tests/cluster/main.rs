//! A cluster from the outside: servers, nodes and members of etcd as processes of their own, each node on a loopback
//! address of its own.

mod etcd;
#[path = "../../../scheduler/store/tests/etcd_process/mod.rs"]
mod etcd_process;
mod git;
#[path = "../../../runtime/engine/tests/support/guests.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's tests use the rest")]
mod guests;
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
#[path = "../../../scheduler/queue/tests/postgres_process/mod.rs"]
mod postgres_process;
mod queues;
mod rolling;
mod runs;
#[path = "../../../scheduler/tests/harness/s3.rs"]
mod s3;
mod servers;
mod story;
mod turn;
mod views;
