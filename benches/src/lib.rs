//! `gilliam bench`: what this machine's gilliam does, measured beside its peers in one run.
//!
//! In flow a program to measure, scenarios and a sink for progress; out flows a [`Report`]. Every figure
//! comes from real processes through their public face: `gilliam up` on free ports in a temporary folder,
//! deployed to and scaled by verbs, requested through its ingress, and read in `/proc`. The one exception is
//! stated where it is: the yardstick of the limits is the same engine without them, in this process.
//!
//! Servers are pinned to the first core and the load to the last, so that a ratio means something on a small
//! machine; absolute numbers are this machine's.
//!
//! Invariant: no process that was started here outlives this one, however it ends.

mod account;
mod attacks;
mod builds;
mod child;
mod cluster;
mod coldstart;
mod density;
mod figure;
mod guests;
mod http;
mod in_process;
mod limits;
mod load;
mod machine;
mod neighbour;
mod open_loop;
mod peers;
mod platform;
mod plot;
mod session;

pub mod roles;

use std::{ffi::OsString, path::PathBuf, time::Duration};

pub use figure::{Figure, Goal, Report};
pub use session::Stop;

use crate::session::Session;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// How many instances fit, what each costs, how fast they start.
    Density,
    /// How long the first answer of an instance takes.
    Coldstart,
    /// Requests per second and latency beside native servers and `wasmtime serve`.
    Http,
    /// What limits and metering cost, and how exact a CPU share is.
    Limits,
    /// What a hostile tenant costs a quiet one.
    Neighbour,
    /// What building from sources costs, in each language.
    Builds,
    /// How fast a server with many nodes starts instances.
    Cluster,
}

impl Scenario {
    /// Those that run when none is named, in that order: of one machine alone.
    pub const ALL: [Scenario; 6] = [
        Scenario::Density,
        Scenario::Coldstart,
        Scenario::Http,
        Scenario::Limits,
        Scenario::Neighbour,
        Scenario::Builds,
    ];

    /// Its name on the command line and in every figure.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Density => "density",
            Scenario::Coldstart => "coldstart",
            Scenario::Http => "http",
            Scenario::Limits => "limits",
            Scenario::Neighbour => "neighbour",
            Scenario::Builds => "builds",
            Scenario::Cluster => "cluster",
        }
    }
}

/// A component of the user's own to measure beside the built-in ones: `NAME=FILE.wasm[,/path]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// What it is called in the figures.
    pub name: String,
    /// A web process for WASI 0.2.
    pub file: PathBuf,
    /// What is requested of it.
    pub path: String,
}

impl std::str::FromStr for GuestFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("\"{text}\" is not NAME=FILE.wasm or NAME=FILE.wasm,/path");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (file, path) = match rest.rsplit_once(",/") {
            Some((file, path)) => (file, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !is_name || file.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            name: name.to_owned(),
            file: file.into(),
            path,
        })
    }
}

/// What to measure, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `gilliam` to measure.
    pub gilliam: PathBuf,
    /// What to run.
    pub scenarios: Vec<Scenario>,
    /// Shorter and smaller everywhere: five minutes in all instead of twenty.
    pub is_quick: bool,
    /// Length of one measurement under load; by default as `is_quick` says.
    pub load: Option<Duration>,
    /// Connections kept open by the load.
    pub connections: usize,
    /// Nodes of `cluster`; by default as `is_quick` says.
    pub nodes: Option<u32>,
    /// Workers of `density` and `cluster`; by default what memory allows, and as `is_quick` says.
    pub instances: Option<u32>,
    /// Apps of `density` and `coldstart` that only wait.
    pub apps: Option<u32>,
    /// `wasmtime` 48 to compare with; by default the one on the path.
    pub wasmtime: Option<PathBuf>,
    /// `nginx` to compare with; by default the one on the path.
    pub nginx: Option<PathBuf>,
    /// Where programs are looked for: the user's `PATH`.
    pub search_path: Option<OsString>,
    /// More web processes to measure.
    pub guests: Vec<GuestFile>,
}

/// Runs the scenarios, one after another; one that fails is in the report's failures, and the others go on.
pub fn run(options: &Options, stop: &Stop, progress: &dyn Fn(&str)) -> Report {
    let session = Session::new(options, stop, progress);
    let mut report = Report::new(machine::facts());
    load::pin_to_last_core();
    for scenario in &options.scenarios {
        let done = match scenario {
            Scenario::Density => density::run(&session, &mut report),
            Scenario::Coldstart => coldstart::run(&session, &mut report),
            Scenario::Http => http::run(&session, &mut report),
            Scenario::Limits => limits::run(&session, &mut report),
            Scenario::Neighbour => neighbour::run(&session, &mut report),
            Scenario::Builds => builds::run(&session, &mut report),
            Scenario::Cluster => cluster::run(&session, &mut report),
        };
        if stop.is_requested() {
            report.fail("interrupted: what was measured until then is above".to_owned());
            break;
        }
        if let Err(error) = done {
            report.fail(format!("{}: {error:#}", scenario.name()));
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_a_name_a_file_and_perhaps_a_path() {
        let parsed = |text: &str| text.parse::<GuestFile>().map(|g| (g.name, g.file, g.path));
        let file = PathBuf::from("a/b.wasm");
        assert_eq!(
            parsed("rust=a/b.wasm"),
            Ok(("rust".into(), file.clone(), "/".into()))
        );
        assert_eq!(
            parsed("rust=a/b.wasm,/ok"),
            Ok(("rust".into(), file, "/ok".into()))
        );
        assert!(parsed("a/b.wasm").is_err());
        assert!(parsed("Rust=a.wasm").is_err());
        assert!(parsed("rust=").is_err());
    }
}
