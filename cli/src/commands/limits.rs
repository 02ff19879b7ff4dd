//! `gilliam limits`.

use gilliam_model::{
    api::{LimitsInfo, LimitsPatch, ProcessLimits},
    limits::{LimitName, LimitNameError, Limits},
    name::ProcessName,
    overrides::LimitsChange,
};

use crate::{
    args::Waiting,
    commands::released,
    context::Context,
    failure::{CommandError, CommandResult},
};

const HEADER: &[&str] = &["PROCESS", "LIMIT", "VALUE", "FROM", "RANGE"];

/// Shows or changes what an instance of a process type may use.
///
/// A change makes a new release, and what the previous one ran moves to it. It stays over deploys, until it
/// is unset.
#[derive(Debug, clap::Args)]
#[command(after_help = "Forms:\n  \
    gilliam limits                                    the limits of every process type\n  \
    gilliam limits web                                those of one\n  \
    gilliam limits web memory=64MiB cpu=0.25          sets\n  \
    gilliam limits web --unset cpu                    back to gilliam.toml's value or the default\n\n\
    reuse=N or reuse=always lets a lane serve more than one request; the component is probed before.")]
pub(crate) struct Args {
    /// The process type.
    process: Option<String>,
    /// Limits to set, such as memory=64MiB.
    #[arg(value_name = "LIMIT=VALUE")]
    words: Vec<String>,
    /// Takes a limit back to what gilliam.toml or the default says.
    #[arg(long, value_name = "LIMIT", num_args = 1)]
    unset: Vec<String>,
    /// Leaves what runs on its release.
    #[arg(long)]
    no_migrate: bool,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let Some(word) = &args.process else {
        return match args.unset.is_empty() {
            true => show(context, None).await,
            false => Err(CommandError::usage("limits --unset takes a process type")
                .hinted("such as gilliam limits web --unset cpu")),
        };
    };
    let process = parse_process(word)?;
    if args.words.is_empty() && args.unset.is_empty() {
        return show(context, Some(&process)).await;
    }
    change(context, parse(process, &args.words, &args.unset)?, &args).await
}

async fn change(context: &Context<'_>, change: LimitsChange, args: &Args) -> CommandResult {
    let app = context.app()?;
    let client = context.client()?;
    let patch = LimitsPatch {
        change,
        migrate: !args.no_migrate,
    };
    let release = client.change_limits(&app, &patch).await?;
    let after = released::After {
        context,
        client: &client,
        app: &app,
        waiting: &args.waiting,
    };
    after.finish(&release).await
}

async fn show(context: &Context<'_>, process: Option<&ProcessName>) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let mut info = context.client()?.limits(&app).await?;
    if let Some(process) = process {
        keep_only(&mut info, process)?;
    }
    if ui.wants_json() {
        return ui.json(&info);
    }
    let Some(release) = info.release else {
        ui.note(&format!("{app} has no release yet"));
        ui.hint("gilliam deploy makes one");
        return Ok(());
    };
    let rows: Vec<Vec<String>> = info
        .processes
        .iter()
        .flat_map(|(process, limits)| LimitName::ALL.iter().map(move |name| row(process, limits, *name)))
        .collect();
    ui.note(&format!("limits of {app} {release}, for each instance"));
    ui.table(HEADER, &rows)
}

fn keep_only(info: &mut LimitsInfo, process: &ProcessName) -> CommandResult {
    let known: Vec<&str> = info.processes.keys().map(ProcessName::as_str).collect();
    if !known.contains(&process.as_str()) {
        let error = CommandError::failed(format!("the newest release has no process {process}"));
        return Err(error.hinted(format!("it has {}", known.join(", "))));
    }
    info.processes.retain(|name, _| name == process);
    Ok(())
}

fn row(process: &ProcessName, limits: &ProcessLimits, name: LimitName) -> Vec<String> {
    let value = limits.limits.get(name);
    let from = if limits.set.contains(&name) {
        "set"
    } else if value == Limits::default().get(name) {
        "default"
    } else {
        "gilliam.toml"
    };
    let (min, max) = name.range();
    vec![
        process.to_string(),
        name.key().to_string(),
        name.show(value),
        from.to_string(),
        format!("{} to {}", name.show(min), name.show(max)),
    ]
}

fn parse_process(word: &str) -> CommandResult<ProcessName> {
    word.parse().map_err(|error| {
        let what = "gilliam limits PROCESS LIMIT=VALUE, such as gilliam limits web memory=64MiB";
        CommandError {
            hint: Some(what.to_string()),
            ..CommandError::usage(format!("{error}"))
        }
    })
}

fn parse(process: ProcessName, words: &[String], unset: &[String]) -> CommandResult<LimitsChange> {
    let mut change = LimitsChange {
        process,
        set: Default::default(),
        unset: Vec::new(),
    };
    for word in words {
        let Some((key, text)) = word.split_once('=') else {
            return Err(CommandError::usage(format!("{word:?} is not LIMIT=VALUE"))
                .hinted("such as gilliam limits web memory=64MiB"));
        };
        let name = LimitName::of_key(key).map_err(unknown)?;
        let value = name.unit().parse(text).ok_or_else(|| {
            let (min, max) = name.range();
            CommandError::usage(format!("{key} = {text:?} is not {}", name.unit().expected()))
                .hinted(format!("{key} takes {} to {}", name.show(min), name.show(max)))
        })?;
        if change.set.insert(name, value).is_some() {
            return Err(CommandError::usage(format!("{key} is set twice")));
        }
    }
    for key in unset {
        let name = LimitName::of_key(key).map_err(unknown)?;
        if change.set.contains_key(&name) {
            return Err(CommandError::usage(format!("{key} is both set and unset")));
        }
        if change.unset.contains(&name) {
            return Err(CommandError::usage(format!("{key} is unset twice")));
        }
        change.unset.push(name);
    }
    Ok(change)
}

fn unknown(error: LimitNameError) -> CommandError {
    CommandError::usage(error.to_string()).hinted(error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str, unset: &str) -> Result<String, String> {
        let list = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_string).collect() };
        let change = parse("web".parse().expect("name"), &list(words), &list(unset));
        let change = change.map_err(|error| error.message)?;
        Ok(serde_json::to_string(&change).expect("json"))
    }

    #[test]
    fn values_are_read_with_their_units() {
        assert_eq!(
            parsed("memory=64MiB cpu=0.25 reuse=always idle=1.5s", "backlog").as_deref(),
            Ok(concat!(
                r#"{"process":"web","set":{"memory_bytes_max":67108864,"cpu_millis":250,"#,
                r#""reuse_max":4294967295,"idle_ms_max":1500},"unset":["backlog_max"]}"#
            ))
        );
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (words, unset, message) in [
            ("memory", "", "\"memory\" is not LIMIT=VALUE"),
            ("memry=1MiB", "", "\"memry\" is not a limit"),
            ("memory=64", "", "memory = \"64\" is not a size such as 64MiB"),
            ("cpu=-1", "", "cpu = \"-1\" is not a share of a core such as 0.25"),
            ("cpu=1 cpu=1", "", "cpu is set twice"),
            ("cpu=1", "cpu", "cpu is both set and unset"),
            ("", "cpu cpu", "cpu is unset twice"),
        ] {
            assert_eq!(parsed(words, unset), Err(message.to_string()));
        }
        assert!(
            parse_process("memory=64MiB").is_err(),
            "a process type comes first"
        );
    }

    #[test]
    fn a_row_says_where_a_value_comes_from() {
        let mut limits = ProcessLimits {
            shape: gilliam_model::image::Shape::HttpP2,
            limits: Limits::default(),
            image: Limits::default(),
            set: Vec::new(),
        };
        let web = "web".parse().expect("name");
        let want = ["web", "memory", "128MiB", "default", "64KiB to 4GiB"];
        assert_eq!(row(&web, &limits, LimitName::Memory), want);
        limits.limits.memory_bytes_max = 64 << 20;
        assert_eq!(
            row(&web, &limits, LimitName::Memory)[2..4],
            ["64MiB", "gilliam.toml"]
        );
        limits.set.push(LimitName::Memory);
        assert_eq!(row(&web, &limits, LimitName::Memory)[3], "set");
    }
}
