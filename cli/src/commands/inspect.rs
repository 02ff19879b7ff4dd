//! `gilliam inspect`.

use std::path::Path;

use gilliam_engine::{Extent, Survey};
use gilliam_model::{
    image::Process,
    limits::{LimitName, Limits},
    name::ProcessName,
    release::ReleaseId,
};
use serde_json::{Value, json};

use crate::{
    amounts,
    context::Context,
    failure::{CommandError, CommandResult},
};

/// Largest component that is read: what a build takes.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;

/// Shows what a component is made of, which engine it gets and why, and what it may use.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "gilliam inspect web.wasm      a file, with the default limits\n\
    gilliam inspect web           a process type of the newest release\n\
    gilliam inspect web v2        of another release"
)]
pub(crate) struct Args {
    /// A component's file, or a process type.
    #[arg(value_name = "FILE.wasm | PROCESS")]
    what: String,
    /// The release of the process type; by default the newest.
    #[arg(value_name = "vN")]
    release: Option<String>,
}

/// A component with what its process type may use.
struct Subject {
    name: String,
    release: Option<ReleaseId>,
    bytes: Vec<u8>,
    process: Option<Process>,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let is_file = args.what.ends_with(".wasm") || args.what.contains('/');
    let subject = if is_file {
        if args.release.is_some() {
            return Err(CommandError::usage("a file is of no release"));
        }
        of_file(&args.what)?
    } else {
        of_process(context, &args).await?
    };
    let guard_pages = subject
        .process
        .as_ref()
        .is_some_and(|process| process.guard_pages);
    let survey = Survey::of(&subject.bytes, guard_pages)
        .map_err(|error| CommandError::failed(format!("{}: {error}", subject.name)))?;
    if ui.wants_json() {
        return ui.json(&document(&subject, &survey));
    }
    lines(&subject, &survey).iter().try_for_each(|line| ui.data(line))
}

fn of_file(name: &str) -> CommandResult<Subject> {
    let path = Path::new(name);
    let failed = |error| CommandError::file(format!("cannot read {name}"), &error);
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > COMPONENT_BYTES_MAX {
        let message = format!("{name} has {bytes} bytes; at most {COMPONENT_BYTES_MAX} are taken");
        return Err(CommandError::failed(message));
    }
    Ok(Subject {
        name: name.to_string(),
        release: None,
        bytes: std::fs::read(path).map_err(failed)?,
        process: None,
    })
}

async fn of_process(context: &Context<'_>, args: &Args) -> CommandResult<Subject> {
    let release = args.release.as_deref().map(str::parse::<ReleaseId>).transpose();
    let release = release.map_err(|error| CommandError::usage(error.to_string()))?;
    let app = context.app()?;
    let client = context.client()?;
    let mut info = client.image(&app, release).await?;
    let name: ProcessName = args.what.parse()?;
    let known: Vec<String> = info.image.processes.keys().map(ToString::to_string).collect();
    let process = info.image.processes.remove(&name).ok_or_else(|| {
        CommandError::failed(format!("{} of {app} has no process {name}", info.release)).hinted(format!(
            "it has {}; a file's name ends in .wasm",
            known.join(", ")
        ))
    })?;
    let mut bytes = Vec::new();
    client
        .fetch_component(&app, &name, info.release, COMPONENT_BYTES_MAX, &mut bytes)
        .await?;
    Ok(Subject {
        name: name.to_string(),
        release: Some(info.release),
        bytes,
        process: Some(process),
    })
}

fn limits(subject: &Subject) -> Limits {
    subject
        .process
        .as_ref()
        .map_or_else(Limits::default, |process| process.limits.clone())
}

/// How many lanes fit in the memory limit at their first size, as far as that can be told from outside.
fn lanes(survey: &Survey, limits: &Limits) -> u64 {
    let room = limits.memory_bytes_max / survey.initial_bytes().max(1);
    room.min(limits.concurrency_max.into())
}

fn document(subject: &Subject, survey: &Survey) -> Value {
    let extents = |extents: &[Extent]| -> Vec<Value> {
        let one = |e: &Extent| json!({ "initial": e.initial, "max": e.max });
        extents.iter().map(one).collect()
    };
    let limits = limits(subject);
    json!({
        "name": subject.name,
        "release": subject.release,
        "bytes": subject.bytes.len(),
        "shape": survey.shape,
        "engine": {
            "kind": survey.engine.kind.name(),
            "reason": survey.engine.reason,
            "memories": survey.engine.kind.allocator(),
            "stacks": survey.engine.kind.stacks(),
        },
        "imports": survey.imports,
        "exports": survey.exports,
        "modules": survey.modules,
        "functions": survey.functions,
        "memories_bytes": extents(&survey.memories),
        "tables_elements": extents(&survey.tables),
        "data_bytes": survey.data_bytes,
        "initial_bytes": survey.initial_bytes(),
        "lanes_max": survey.shape.is_http().then(|| lanes(survey, &limits)),
        "limits": limits,
        "process": subject.process,
    })
}

fn lines(subject: &Subject, survey: &Survey) -> Vec<String> {
    let limits = limits(subject);
    let mut lines = Vec::new();
    let mut line = |label: &str, text: String| lines.push(format!("{label:<10} {text}"));
    let release = subject.release.map(|id| format!(" of {id}")).unwrap_or_default();
    let bytes = amounts::bytes(subject.bytes.len() as u64);
    line("component", format!("{}{release}, {bytes}", subject.name));
    if let Some(process) = &subject.process {
        line("digest", process.component.to_string());
        line("command", process.command.clone());
    }
    line("shape", survey.shape.to_string());
    line(
        "engine",
        format!("{}: {}", survey.engine.kind, survey.engine.reason),
    );
    line("", format!("memories: {}", survey.engine.kind.allocator()));
    line("", format!("stacks: {}", survey.engine.kind.stacks()));
    line(
        "code",
        format!(
            "{}, {}",
            amounts::count(survey.modules, "core module"),
            amounts::count(survey.functions, "function")
        ),
    );
    line("memories", extents(&survey.memories, &amounts::bytes));
    line(
        "tables",
        extents(&survey.tables, &|n| amounts::count(n, "element")),
    );
    line("data", amounts::bytes(survey.data_bytes));
    line("memory", memory(survey, &limits));
    let shown: Vec<String> = LimitName::ALL
        .iter()
        .map(|name| format!("{}={}", name.key(), name.show(limits.get(*name))))
        .collect();
    line("limits", shown.join(" "));
    if let Some(process) = &subject.process {
        let hosts: Vec<String> = process
            .allowed_outbound_hosts
            .iter()
            .map(ToString::to_string)
            .collect();
        line(
            "hosts",
            if hosts.is_empty() {
                "none".to_string()
            } else {
                hosts.join(" ")
            },
        );
    }
    for name in &survey.imports {
        line("import", name.clone());
    }
    for name in &survey.exports {
        line("export", name.clone());
    }
    lines
}

fn memory(survey: &Survey, limits: &Limits) -> String {
    let (initial, max) = (
        amounts::bytes(survey.initial_bytes()),
        amounts::bytes(limits.memory_bytes_max),
    );
    if survey.initial_bytes() > limits.memory_bytes_max {
        return format!("{initial} at start: more than its limit of {max}, it cannot start");
    }
    if survey.shape.is_http() {
        let lanes = amounts::count(lanes(survey, limits), "lane");
        return format!("{initial} a lane at start; {lanes} of that size at once in its limit of {max}");
    }
    format!("{initial} at start, limit {max}")
}

fn extents(extents: &[Extent], show: &dyn Fn(u64) -> String) -> String {
    if extents.is_empty() {
        return "none".to_string();
    }
    let one = |extent: &Extent| match extent.max {
        Some(max) => format!("{} (at most {})", show(extent.initial), show(max)),
        None => show(extent.initial),
    };
    extents.iter().map(one).collect::<Vec<_>>().join(", ")
}
