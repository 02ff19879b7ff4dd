//! `gilliam run`: a process that runs to its end once.

use std::{collections::BTreeMap, time::Duration};

use gilliam_model::{
    name::ConfigKey,
    release::ReleaseId,
    run::{AskRun, OnLeave, RunInfo},
};

use crate::{
    args::{size, span},
    commands::run_attached::{self, Stdin},
    context::Context,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Runs a process to its end, once.
///
/// TARGET is a process type, whose arguments ARGS follow, or the file of a component of the app, which gets ARGS
/// alone. Its standard input, output and error are those of this command, byte for byte, and so is its exit code.
/// Ctrl-C asks it to end; a second one ends the wait alone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "gilliam run worker report --month 3\ngilliam run worker.wasm report --month 3\ncat sales.csv | \
                        gilliam run worker import > sums.csv\n\nExit codes: the \
                        run's own; 124 when it took too long, 130 when it was stopped, 1 when it failed or was lost."
)]
pub(crate) struct Args {
    /// Returns as soon as it is asked for, and prints its name: gilliam logs NAME shows its lines.
    #[arg(long, short = 'd')]
    detach: bool,
    /// Gives it no standard input: it is at its end at once.
    #[arg(long, conflicts_with = "detach")]
    no_stdin: bool,
    /// Has it end when this command is gone; else it goes on, and its lines are in the log.
    #[arg(long, conflicts_with = "detach")]
    stop_on_disconnect: bool,
    /// The release; by default the newest.
    #[arg(long, value_name = "vN")]
    release: Option<ReleaseId>,
    /// Sets a variable over the app's config.
    #[arg(long, short = 'e', value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(ConfigKey, String)>,
    /// The memory that it may use, when not what its process type may.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// How long it may take.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    timeout: Duration,
    /// The process type, or the file of a component.
    #[arg(value_name = "TARGET")]
    target: String,
    /// Its arguments, flags too.
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let client = context.client()?;
    let ask = AskRun {
        target: args.target,
        args: args.args,
        release: args.release,
        env: args.env.into_iter().collect::<BTreeMap<_, _>>(),
        memory_bytes_max: args.memory,
        run_ms_max: Some(u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX)),
        attach: (!args.detach).then_some(match args.stop_on_disconnect {
            true => OnLeave::Stop,
            false => OnLeave::GoOn,
        }),
    };
    let asked = client.ask_run(&app, &ask).await?;
    if args.detach {
        ui.hint(&format!(
            "gilliam logs -f {} shows its lines, gilliam runs stop {} stops it",
            asked.name, asked.name
        ));
        return match ui.wants_json() {
            true => ui.json(&asked),
            false => ui.data(&asked.name),
        };
    }
    ui.note(&format!(
        "Running {} of {} ({})",
        asked.command, asked.release, asked.name
    ));
    let stdin = match args.no_stdin {
        true => Stdin::Ended,
        false => Stdin::Own,
    };
    let ended = run_attached::hold(ui, &client, &app, &asked, stdin).await?;
    finish(ui, &ended)
}

/// Ends as the run did.
fn finish(ui: &Ui, ended: &RunInfo) -> CommandResult {
    let Some(outcome) = &ended.outcome else {
        return Err(CommandError::failed(format!(
            "how {} ended is not known",
            ended.name
        )));
    };
    if !outcome.is_ok() {
        ui.note(&format!("{} {outcome}", ended.name));
    }
    match outcome.exit_code() {
        0 => Ok(()),
        code => Err(CommandError::exit(code)),
    }
}

/// Parses `KEY=VALUE`.
fn variable(text: &str) -> Result<(ConfigKey, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    let key = key.parse::<ConfigKey>().map_err(|error| error.to_string())?;
    Ok((key, value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_split_at_the_first_equals_sign() {
        let (key, value) = variable("URL=a=b").expect("a variable");
        assert_eq!((key.as_str(), value.as_str()), ("URL", "a=b"));
        for bad in ["URL", "=a", "PORT=1", "GILLIAM_APP=x"] {
            variable(bad).expect_err(bad);
        }
    }
}
