//! `gilliam internal`: the child roles of the binary, short-lived processes with limits.
//!
//! The platform starts them itself; their arguments are a contract within one version.

use std::{ffi::OsString, process::ExitCode};

use rustix::process::{Signal, set_parent_process_death_signal};

/// Runs a child process of the platform.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, clap::Subcommand)]
enum Role {
    /// Builds an archive into a sealed image.
    Build(RoleArgs),
    /// Becomes the sandbox of one build of sources.
    Sandbox(RoleArgs),
    /// Compiles a component to native code.
    Compile(RoleArgs),
    /// Becomes another program that ends with the process that started it.
    Attached(RoleArgs),
    /// Answers HTTP with the bytes of a file: the yardstick of `bench`.
    Native(RoleArgs),
    /// Runs git on what was pushed.
    Git(RoleArgs),
    /// Tries whether a component's lanes may be reused.
    Probe(RoleArgs),
}

#[derive(Debug, clap::Args)]
struct RoleArgs {
    /// Parsed by the role.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Runs the role to its end; its exit code is the process's.
pub(crate) fn run(args: Args) -> ExitCode {
    // A killed parent cannot end its children, and nobody reads their result then. Without this they end at
    // their limits.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    match args.role {
        Role::Build(role) => gilliam_builder::child::main(role.args, &["internal", "sandbox"]),
        Role::Sandbox(role) => gilliam_builder::sandbox::main(role.args),
        Role::Compile(role) => gilliam_runtime::compile_child::main(role.args),
        Role::Attached(role) => gilliam_benches::roles::attached(role.args),
        Role::Native(role) => gilliam_benches::roles::native(&role.args),
        Role::Git(role) => crate::git_child::main(role.args),
        Role::Probe(role) => gilliam_runtime::probe_child::main(role.args),
    }
}
