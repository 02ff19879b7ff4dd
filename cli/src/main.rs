//! `gilliam`: the one binary. It parses the command line, runs one command, and turns its result into an
//! exit code.
//!
//! Invariant: the environment is read in `home.rs` alone, the terminal written in `ui.rs` alone.

mod amounts;
mod archive;
mod args;
mod blobs_flag;
mod builds_flag;
mod commands;
mod context;
mod control_file;
mod failure;
mod git_child;
mod heap;
mod home;
mod image_name;
mod node_process;
mod plane_flags;
mod platform_failure;
mod policy_flags;
mod printable;
mod program;
mod progress;
mod project;
mod queues_flag;
mod registry;
mod server_log;
mod shutdown;
mod store_flag;
mod ui;

use std::process::ExitCode;

use clap::Parser;

/// gilliam's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    program::name_process();
    let arguments = args::expand_colons(std::env::args_os().collect());
    let cli = match args::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return ui::show_usage(&error),
    };
    let cli = match cli {
        args::Cli {
            command: commands::Command::Internal(args),
            ..
        } => return commands::internal::run(args),
        cli => cli,
    };
    let environment = home::Environment::read();
    let ui = ui::Ui::new(&cli.globals, &environment);
    let result = match commands::runtime_for(&cli.command) {
        Ok(runtime) => runtime.block_on(commands::run(cli, &ui, environment)),
        Err(error) => Err(failure::CommandError::failed(format!(
            "cannot start the async runtime: {error}"
        ))),
    };
    ui.finish(result)
}
