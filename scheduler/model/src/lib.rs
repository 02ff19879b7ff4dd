//! The nouns of gilliam: their names, their validation and their wire form.
//!
//! Everything here is plain data. What users type is parsed at the edge into these types; what travels between the
//! command line, the control plane and the nodes is their JSON.
//!
//! Invariant: nothing in this crate does IO, reads a clock, draws a random number or logs.
//! Invariant: a value of a type here is valid; an invalid one cannot be made, by serde either.

pub mod api;
pub mod app;
pub mod assignment;
pub mod capabilities;
pub mod capacity;
pub mod code;
pub mod config;
pub mod cron;
pub mod digest;
pub mod hint;
pub mod identity;
pub mod image;
pub mod images;
pub mod imports;
pub mod instance;
pub mod interface;
pub mod join;
pub mod label;
pub mod limits;
pub mod log;
pub mod name;
pub mod node;
pub mod outbound;
pub mod overrides;
pub mod peer;
pub mod placement;
pub mod push;
pub mod quantity;
pub mod queue;
pub mod release;
pub mod report;
pub mod requirement;
pub mod route;
pub mod rules;
pub mod run;
pub mod scale;
pub mod service;
pub mod sync;
pub mod text;
pub mod token;
pub mod uses;
pub mod what_if;

/// An instant, in JSON as RFC 3339 (`2026-11-21T09:00:00Z`).
pub use jiff::Timestamp;
