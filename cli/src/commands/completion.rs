//! `gilliam completion`.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{args::Cli, failure::CommandResult};

/// Prints a script that completes gilliam's commands and flags in a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "bash:  gilliam completion bash > ~/.local/share/bash-completion/completions/gilliam\n\
                  zsh:   gilliam completion zsh > ~/.zfunc/_gilliam   (with ~/.zfunc in fpath, before compinit)\n\
                  fish:  gilliam completion fish > ~/.config/fish/completions/gilliam.fish"
)]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gilliam", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}
