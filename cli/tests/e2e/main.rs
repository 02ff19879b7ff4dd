//! The built binary, from the outside: what a user types, what clients get, what a crash leaves.

mod bad_input;
mod bench;
mod client;
mod conformance;
mod crons;
mod crowd;
mod durable;
mod etcd;
#[path = "../../../scheduler/store/tests/etcd_process/mod.rs"]
mod etcd_process;
mod git;
#[path = "../../../runtime/engine/tests/support/guests.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's tests use the rest")]
mod guests;
mod healing;
mod hostile;
mod images;
mod init;
mod inspect;
mod internal_queues;
mod javascript;
mod limits;
mod limits_verb;
mod linked;
mod mailer;
mod native;
mod operator;
#[path = "../../../scheduler/store/tests/etcd_process/pki.rs"]
mod pki;
mod platform;
#[path = "../../../scheduler/queue/tests/postgres_process/mod.rs"]
mod postgres_process;
mod python;
mod queues;
mod registry;
mod runs;
mod rust;
mod services;
mod shop;
mod story;
mod uses;
mod zero_loss;
