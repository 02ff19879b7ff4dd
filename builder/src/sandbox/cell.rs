//! What a sandbox holds: the folders it shows, the program, and the limits.
//!
//! Plain data that crosses to the processes which become the sandbox as one JSON argument.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::network::Network;

/// A folder or file of the host that the sandbox shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Where it is on the host.
    pub from: PathBuf,
    /// Where the sandbox shows it; absolute.
    pub to: PathBuf,
    /// Whether the sandbox may change it.
    pub writable: bool,
}

/// A sandbox and the program that runs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// An empty folder of the host, on which the sandbox's root is mounted; nobody else sees that mount.
    pub root: PathBuf,
    /// What of the host it shows beside the system's programs and libraries.
    pub shown: Vec<Shown>,
    /// Program and arguments.
    pub program: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// The working folder.
    pub folder: PathBuf,
    /// The limits.
    pub limits: Limits,
    /// Who can be reached; without it nobody. Not for a program without a sandbox.
    pub network: Option<Network>,
}

/// What a build may use. Each bound stops the build, but for those that the kernel answers with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Longest run.
    pub wall: Duration,
    /// Processor time of each process.
    pub cpu_seconds: u64,
    /// Memory of all processes together; also the private data of each, as an error.
    pub memory_bytes: u64,
    /// Size of `/tmp`, which is memory; an error beyond.
    pub tmp_bytes: u64,
    /// Size of all writable folders together.
    pub disk_bytes: u64,
    /// Files and folders in the writable folders.
    pub disk_entries: u64,
    /// Size of one file, as a signal.
    pub file_bytes: u64,
    /// Processes and threads at once, as an error.
    pub processes: u64,
    /// Open files of each process, as an error.
    pub open_files: u64,
    /// Bytes of output.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Below the control plane's limit of a whole deploy, so that the message names the build.
            wall: Duration::from_secs(10 * 60),
            cpu_seconds: 20 * 60,
            // A release build of a web framework takes 1 to 2 GB on two cores.
            memory_bytes: 4 << 30,
            tmp_bytes: 512 << 20,
            // Compiled dependencies of a large Rust project are 1 to 2 GB.
            disk_bytes: 4 << 30,
            disk_entries: 400_000,
            file_bytes: 1 << 30,
            processes: 512,
            open_files: 4_096,
            // A build that compiles 500 crates prints 50 KB.
            output_bytes: 16 << 20,
        }
    }
}
