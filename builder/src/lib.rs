//! The builder: the archive of a project becomes a sealed image.
//!
//! In flow a tar archive that a stranger made and the folder of an OCI image layout, out flow the image's
//! digest, its contents, and lines of output for people. The steps, a module each: `archive` unpacks,
//! `procfile` and `manifest` read what the author wrote, `detect`, `prebuilt` and `packs` find or build each
//! process's component (from sources in a `sandbox`), `component` checks it (adapting core modules), `layout`
//! and `seal` store it. An image that was sealed elsewhere comes in by `import`.
//!
//! It is synchronous and made for a short-lived child process ([`child`]): it may use memory and time up to
//! the child's limits, and dying in it hurts nobody else.
//!
//! Must never: run anything of the project outside the sandbox, open a path outside its scratch folder, its
//! tools and the image layout, or know of apps, releases and nodes.

pub mod archive;
pub mod cache;
pub mod child;
pub mod component;
pub mod detect;
pub mod import;
pub mod layout;
pub mod link;
pub mod manifest;
pub mod network;
pub mod offer;
pub mod packs;
pub mod prebuilt;
pub mod procfile;
pub mod sandbox;
pub mod words;

mod adapt;
mod build;
mod error;
mod maker;
mod outline;
mod proposals;
mod scratch;
mod seal;
mod shape;
mod tree;

pub use build::{BuildRequest, Sealed, build};
pub use error::BuildError;
