//! What apps on [gilliam](https://github.com/gilliam/gilliam) are written with, for guests of `wasm32-wasip2`.
//!
//! ```no_run
//! use gilliam::{Job, JobError};
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Email { to: String, text: String }
//! # fn deliver(_: &Email) -> Result<(), std::io::Error> { Ok(()) }
//!
//! #[gilliam::job] // the process exports gilliam:worker/handler: it is called once per job of its queue
//! async fn send_email(job: Job<Email>) -> Result<(), JobError> {
//!     let sent = gilliam::keyvalue("cache");
//!     if sent.get::<bool>(&job.id).await?.is_some() {
//!         return Ok(()); // a job is delivered at least once
//!     }
//!     deliver(&job.payload)?; // an error: the job is tried again
//!     sent.set(&job.id, &true).await?;
//!     Ok(())
//! }
//!
//! # async fn enqueue(email: Email) -> Result<(), gilliam::Error> {
//! // Elsewhere, in a web process:
//! gilliam::queue("emails").put(&email).key("welcome-17").await?;
//! # Ok(())
//! # }
//! ```
//!
//! | for | there is |
//! |---|---|
//! | jobs of a queue | [`macro@job`], [`Job`], [`JobError`]; a program that takes jobs itself: [`Queue::receive`] |
//! | putting jobs | [`queue`] |
//! | services | [`keyvalue`], [`sql`], [`blobs`] |
//! | other apps, and the world | [`app`], [`http`] |
//! | config and who this is | [`config`], [`instance`] |
//! | logging with levels | the crate `log`, after [`log_to_stdio`]; handlers of jobs need not call it |
//! | the end | [`is_stopping`], [`stopping`] |
//!
//! Everything that waits is `async`, and [`wait`] runs it where there is nothing asynchronous. Handlers and [`wait`]
//! drive what is in progress together; another executor, such as that of the crate `wstd`, is blocked while it
//! waits here.

#[allow(missing_docs, unreachable_pub, clippy::all)]
#[doc(hidden)]
pub mod bindings;
mod blobs;
mod config;
mod error;
mod executor;
pub mod http;
mod job;
mod keyvalue;
mod logging;
mod path;
mod queue;
mod receive;
mod sql;
mod stop;

pub use blobs::{BlobInfo, Blobs, blobs};
pub use config::{ConfigError, config, config_as, instance, release};
pub use error::Error;
pub use executor::{join, sleep, wait};
pub use gilliam_sdk_macros::job;
pub use http::app;
pub use job::{Job, JobError, Payload, PayloadError, Raw};
pub use keyvalue::{Entry, KeyValue, Set, keyvalue};
pub use logging::log_to_stdio;
pub use queue::{Put, Queue, Queued, queue};
pub use receive::{Received, Receiver};
pub use sql::{Rows, Sql, Statement, sql};
pub use stop::{is_stopping, stopping};

/// What [`macro@job`] writes calls of.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        bindings::{
            self, __export_job as export,
            exports::gilliam::worker::handler::{Guest, Job as WitJob, JobError as WitJobError},
        },
        job::{run, run_async},
    };
}
