//! `gilliam bench`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use gilliam_benches::{GuestFile, Options, Report, Scenario, Stop};

use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
    program, shutdown,
    ui::Ui,
};

/// Measures gilliam on this machine, beside its peers.
///
/// Starts platforms of its own on free ports, in temporary folders; a running gilliam is neither used nor
/// touched. Without names all scenarios run, one after another: about twenty minutes, with --quick five.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "gilliam bench density --quick\n\nFigures mean something on an idle machine and with an \
                        optimised gilliam. wasmtime (48) and nginx are measured beside it when they are \
                        there. With --json every figure is a line, such as \
                        {\"bench\":\"density\",\"name\":\"workers: live\",\"value\":500000,\"unit\":\"instances\"}."
)]
pub(crate) struct Args {
    /// What to measure; all but `cluster` by default.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<Name>,
    /// Measures shorter and smaller.
    #[arg(long)]
    quick: bool,
    /// Writes bench.json and a plot of each scenario (SVG) there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seconds of each measurement under load.
    #[arg(long, value_name = "SECONDS", value_parser = load_time)]
    seconds: Option<Duration>,
    /// Connections that the load keeps open.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Nodes to start in `cluster` [default: 20]
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    nodes: Option<u32>,
    /// Workers to start in `density`, by default what memory allows, and in `cluster` [default: 20,000]
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    instances: Option<u32>,
    /// Apps to deploy in `density` and `coldstart`.
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    apps: Option<u32>,
    /// The wasmtime 48 to compare with; by default the one on the path.
    #[arg(long, value_name = "FILE")]
    wasmtime: Option<PathBuf>,
    /// The nginx to compare with; by default the one on the path.
    #[arg(long, value_name = "FILE")]
    nginx: Option<PathBuf>,
    /// A web process for WASI 0.2 to measure besides the built-in one; its name is part of its figures'
    /// names.
    #[arg(long = "guest", value_name = "NAME=FILE.wasm[,/PATH]")]
    guests: Vec<GuestFile>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    Density,
    Coldstart,
    Http,
    Limits,
    Neighbour,
    Builds,
    Cluster,
}

impl From<Name> for Scenario {
    fn from(name: Name) -> Self {
        match name {
            Name::Density => Scenario::Density,
            Name::Coldstart => Scenario::Coldstart,
            Name::Http => Scenario::Http,
            Name::Limits => Scenario::Limits,
            Name::Neighbour => Scenario::Neighbour,
            Name::Builds => Scenario::Builds,
            Name::Cluster => Scenario::Cluster,
        }
    }
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
    let mut scenarios: Vec<Scenario> = args.scenarios.into_iter().map(Scenario::from).collect();
    if scenarios.is_empty() {
        scenarios = Scenario::ALL.to_vec();
    }
    let options = Options {
        gilliam: program::path().to_path_buf(),
        scenarios,
        is_quick: args.quick,
        load: args.seconds,
        connections: args.connections.into(),
        nodes: args.nodes,
        instances: args.instances,
        apps: args.apps,
        wasmtime: absolute(args.wasmtime)?,
        nginx: absolute(args.nginx)?,
        search_path: context.environment.path.clone(),
        guests: args.guests,
    };
    let given = options.guests.iter().map(|guest| &guest.file);
    given
        .chain(&options.wasmtime)
        .chain(&options.nginx)
        .try_for_each(|file| is_file(file))?;
    let report = measured(ui, options).await?;
    show(ui, &report)?;
    if let Some(folder) = args.out {
        let written = report.write(&folder);
        let names =
            written.map_err(|e| CommandError::file(format!("cannot write to {}", folder.display()), &e))?;
        ui.note(&format!("{} in {}", names.join(", "), folder.display()));
    }
    match report.failures() {
        [] => Ok(()),
        failures => Err(CommandError::failed(failures.join("\n"))),
    }
}

/// What is not there is refused now, not after minutes of measuring.
fn is_file(file: &Path) -> CommandResult {
    let found = std::fs::metadata(file).and_then(|meta| {
        let kind = std::io::ErrorKind::InvalidInput;
        meta.is_file()
            .then_some(())
            .ok_or_else(|| std::io::Error::new(kind, "not a file"))
    });
    found.map_err(|e| CommandError::file(format!("cannot read {}", file.display()), &e))
}

/// Seconds of load, also parts of one.
fn load_time(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .filter(|s| (LOAD_SECONDS_MIN..=LOAD_SECONDS_MAX).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("not a number of seconds from {LOAD_SECONDS_MIN} to {LOAD_SECONDS_MAX}"))
}

/// Runs the scenarios; a signal ends them with what was measured until then.
async fn measured(ui: &Ui, options: Options) -> CommandResult<Report> {
    let stop = Stop::default();
    let (said, mut progress) = tokio::sync::mpsc::channel::<String>(PROGRESS_LINES_MAX);
    let asked = stop.clone();
    // A thread of its own for the whole run: the children end when the thread that started them does.
    let work = std::thread::spawn(move || {
        // A line that nobody has read yet is worth less than the measurement it would delay.
        gilliam_benches::run(&options, &asked, &|text| drop(said.try_send(text.to_owned())))
    });
    let mut interrupted = std::pin::pin!(shutdown::requested());
    loop {
        tokio::select! {
            line = progress.recv() => match line {
                Some(line) => ui.note(&line),
                None => break,
            },
            () = &mut interrupted, if !stop.is_requested() => {
                ui.note("ending; Ctrl-C again ends at once");
                stop.request();
                tokio::spawn(shutdown::second_ends_the_process());
            }
        }
    }
    work.join()
        .map_err(|_| CommandError::failed("the measurement panicked"))
}

/// Shorter loads measure the start of connections.
const LOAD_SECONDS_MIN: f64 = 0.1;
/// Longer ones than ten minutes tell nothing more.
const LOAD_SECONDS_MAX: f64 = 600.0;
/// Progress that may wait to be printed.
const PROGRESS_LINES_MAX: usize = 64;

fn show(ui: &Ui, report: &Report) -> CommandResult {
    if ui.wants_json() {
        for line in report.lines() {
            ui.json(&line)?;
        }
        return Ok(());
    }
    for fact in report.facts() {
        ui.data(&fact)?;
    }
    ui.data("")?;
    ui.table(Report::HEADER, &report.rows())?;
    for note in report.notes() {
        ui.note(note);
    }
    Ok(())
}
