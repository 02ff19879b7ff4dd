//! The verbs as a user meets them: the built binary, its own home, what it prints and how it ends.
//!
//! What needs a platform is in `e2e`; here are the parts that must work, or be refused well, without one, and
//! answers of servers that mean harm.

mod blobs;
mod build;
mod clusters;
mod deploy;
mod env;
mod help;
mod hostile;
mod images;
mod init;
mod output;
mod packs;
mod project;
mod usage;
