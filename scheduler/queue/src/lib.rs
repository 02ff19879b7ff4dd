//! Queues: jobs kept until a worker has done them.
//!
//! In flow jobs, takings and what workers say; out flow leased jobs and what is known of a queue. A queue is
//! that of one app by its name, and comes into being with its first job.
//!
//! Invariant: an answer follows the commit. What was put is there after a power cut; what was taken is leased
//! there too, so that a job comes a second time only when the worker that had it went silent.
//! Invariant: of each job one lease counts, the newest; a word about an older one changes nothing.

mod error;
mod file;
mod postgres;
mod queues;

pub use error::{OpenError, QueueError, Trouble};
pub use postgres::{PostgresConfig, PostgresUrlError};
pub use queues::{Put, Queues, Settled, Want};
