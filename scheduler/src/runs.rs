//! Runs: asked for, looked at, stopped, waited for. What becomes of them is decided in [`turn`].
//!
//! In: what users ask for, and releases with a `release` process. Out: records of runs, one under each key: those that
//! have not ended are apart from those that have.
//!
//! Invariant: numbers of runs are unique in their app: each comes from a record whose revision the commit checks.
//! Invariant: what a run is to run is in its record until it has ended, and not after that.

pub(crate) mod turn;

use std::{collections::BTreeMap, time::Duration};

use gilliam_model::{
    Timestamp,
    app::App,
    code::Code,
    config::{Config, ConfigChange},
    cron::{Cron, OfCron},
    image::{Image, Named, Process},
    limits::LimitName,
    name::{AppName, ProcessName},
    release::{Release, ReleaseId},
    run::{
        AskRun, HOOK_MS_DEFAULT, RELEASE_HOOK, RUN, RUN_ARGS_BYTES_MAX, RUN_ARGS_MAX, RUN_MS_DEFAULT,
        RUN_MS_MAX, RUNS_OPEN_MAX, RUNS_OPEN_PER_APP_MAX, Run, RunCause, RunId, RunInfo, RunProgress,
        RunState, Work,
    },
    text::excerpt,
};
use gilliam_store::{Check, Expect, RangeError, Store, Write, keys, records, records::Stored};

use crate::{
    change::{Decision, change},
    refusal::Refusal,
    release,
    shared::Shared,
};

/// Longest command that is shown of a run.
const COMMAND_BYTES_MAX: usize = 512;

/// A run that becomes part of a commit, with what it hangs on.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) run: Run,
    pub(crate) check: Check,
    pub(crate) writes: [Write; 2],
}

/// Asks for a run of `app`.
pub(crate) async fn ask(
    shared: &Shared,
    app: &AppName,
    ask: &AskRun,
    author: &str,
) -> Result<RunInfo, Refusal> {
    change(shared, app, || decide(shared, app, ask, author, Timestamp::now())).await
}

async fn decide(
    shared: &Shared,
    app: &AppName,
    ask: &AskRun,
    author: &str,
    now: Timestamp,
) -> Result<Decision<RunInfo>, Refusal> {
    let stored = shared.app(app).await?;
    let release = load_release(shared, &stored.value, ask.release).await?;
    let image = release::load_image(shared, &release).await?;
    let (name, process) = target(&release, &image, ask)?;
    let run = Run {
        id: RunId {
            app: app.clone(),
            number: 0,
            asked_at: now,
        },
        release: release.id,
        command: command(name, &process),
        process: name.clone(),
        cause: RunCause::User,
        author: author.to_string(),
        cron: None,
        attached: ask.attach.map(|_| shared.life.clone()),
        run_ms_max: run_ms_max(ask.run_ms_max, RUN_MS_DEFAULT)?,
        is_to_stop: false,
        state: RunState::Asked,
        work: Some(Work {
            process,
            config: config(&release.config, ask)?,
        }),
    };
    let NewRun { run, check, writes } = numbered(shared, run).await?;
    Ok(Decision {
        checks: vec![stored.unchanged(), check],
        writes: writes.into(),
        remark: Some(format!(
            "{} ({}) of {} by {author}",
            run.id.label(),
            run.command,
            run.release
        )),
        answer: run.info(None),
    })
}

/// Refuses an image whose instances would have the names of runs.
pub(crate) fn check_names(image: &Image) -> Result<(), Refusal> {
    match image.processes.contains_key(RUN) {
        true => Err(Refusal::invalid(format!("a process type cannot be named {RUN}"))
            .hint("run.1 is the name of a one-off run; name the process otherwise, such as runner")),
        false => Ok(()),
    }
}

/// The run of a new release's `release` process; none when its image has none.
pub(crate) async fn hook(
    shared: &Shared,
    release: &Release,
    image: &Image,
    ms_max: Option<u64>,
) -> Result<Option<NewRun>, Refusal> {
    let Some((name, sealed)) = image.processes.get_key_value(RELEASE_HOOK) else {
        return Ok(None);
    };
    if sealed.shape.is_http() {
        let message = format!(
            "the process {RELEASE_HOOK} is of shape {}: it never ends",
            sealed.shape
        );
        return Err(Refusal::invalid(message).hint(
            "it runs to its end before instances move to the release: export wasi:cli/run, or name it otherwise",
        ));
    }
    let process = release.limits.process(name, sealed);
    let run = Run {
        id: RunId {
            app: release.app.clone(),
            number: 0,
            asked_at: release.created_at,
        },
        release: release.id,
        process: name.clone(),
        command: command(name, &process),
        cause: RunCause::Release,
        author: release.author.clone(),
        cron: None,
        attached: None,
        run_ms_max: run_ms_max(ms_max, HOOK_MS_DEFAULT)?,
        is_to_stop: false,
        state: RunState::Asked,
        work: Some(Work {
            process,
            config: release.config.clone(),
        }),
    };
    numbered(shared, run).await.map(Some)
}

/// Lists the runs of an app, newest first: those that have not ended, and the ends that are remembered.
pub(crate) async fn list(shared: &Shared, app: &AppName) -> Result<Vec<RunInfo>, Refusal> {
    let (app_key, open, ended) = (keys::app(app), keys::runs_of(app), keys::ran_of(app));
    let (_, lists) = shared.store.ranges(&[&app_key, &open, &ended]).await?;
    let [apps, open, ended] = <[_; 3]>::try_from(lists).unwrap_or_default();
    if !apps.iter().any(|entry| entry.key == app_key) {
        return Err(Refusal::no_app(app.as_str()));
    }
    let mut runs = records::decode_all::<Run>(open)?;
    runs.extend(records::decode_all::<Run>(ended)?);
    runs.sort_by_key(|run| std::cmp::Reverse(run.value.id.number));
    let progress = progress(shared);
    Ok(runs
        .iter()
        .map(|run| run.value.info(progress.get(&run.value.id)))
        .collect())
}

/// The runs of an app that have not ended, by number.
pub(crate) async fn open(shared: &Shared, app: &AppName) -> Result<Vec<RunInfo>, Refusal> {
    let (_, open) = records::list::<Run>(&shared.store, &keys::runs_of(app)).await?;
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let progress = progress(shared);
    let info = |run: &Stored<Run>| run.value.info(progress.get(&run.value.id));
    Ok(open.iter().map(info).collect())
}

/// Reads a run.
pub(crate) async fn load(shared: &Shared, app: &AppName, number: u32) -> Result<Stored<Run>, Refusal> {
    let (open, ended) = (keys::run(app, number), keys::ran(app, number));
    let (_, lists) = shared.store.ranges(&[&open, &ended]).await?;
    let mut found = lists.into_iter().flatten();
    let found = found.find(|entry| entry.key == open || entry.key == ended);
    let missing = || {
        let message = format!("{app} has no run {number}");
        Refusal::new(Code::A404, message).hint("gilliam runs lists those that are remembered")
    };
    Ok(records::decode(found.ok_or_else(missing)?)?)
}

/// Waits until a run has ended, for as long as `limit`; as it is then.
pub(crate) async fn wait(
    shared: &Shared,
    app: &AppName,
    number: u32,
    limit: Duration,
) -> Result<Run, Refusal> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let (revision, _) = shared.store.get(&keys::run(app, number)).await?;
        let run = load(shared, app, number).await?.value;
        let open = keys::runs_of(app);
        let later = tokio::time::timeout_at(deadline, shared.store.changed(&open, revision));
        if run.has_ended() || later.await.is_err() {
            return Ok(run);
        }
    }
}

/// Asks a run to end; one that has ended stays as it is.
pub(crate) async fn stop(
    shared: &Shared,
    app: &AppName,
    number: u32,
    remark: Option<String>,
) -> Result<RunInfo, Refusal> {
    let run = change(shared, app, || async {
        let stored = load(shared, app, number).await?;
        let is_news = !stored.value.has_ended() && !stored.value.is_to_stop;
        let after = Run {
            is_to_stop: true,
            ..stored.value.clone()
        };
        Ok(Decision {
            checks: vec![stored.unchanged()],
            writes: is_news.then(|| records::put_run(&after)).into_iter().collect(),
            remark: remark.clone().filter(|_| is_news),
            answer: if is_news { after } else { stored.value },
        })
    })
    .await?;
    Ok(show(shared, &run))
}

/// A run with what its node says of it.
pub(crate) fn show(shared: &Shared, run: &Run) -> RunInfo {
    run.info(progress(shared).get(&run.id))
}

/// What nodes say of runs.
fn progress(shared: &Shared) -> BTreeMap<RunId, RunProgress> {
    let nodes = shared.nodes().into_values().filter(|node| node.is_ready());
    let runs = nodes.flat_map(|node| {
        let of_node = node.runs.iter();
        of_node
            .map(|(id, progress)| (id.clone(), progress.clone()))
            .collect::<Vec<_>>()
    });
    runs.collect()
}

async fn load_release(shared: &Shared, app: &App, asked: Option<ReleaseId>) -> Result<Release, Refusal> {
    let Some(latest) = app.latest else {
        return Err(Refusal::nothing_released(&app.name));
    };
    let id = match asked {
        Some(asked) if asked > latest => return Err(Refusal::no_release(&app.name, &asked.to_string())),
        Some(asked) => asked,
        None => app.newest_good().ok_or_else(|| {
            let message = format!(
                "the {RELEASE_HOOK} process of {latest} did not end well, and there is no other release"
            );
            Refusal::new(Code::A409, message)
                .hint(format!("gilliam run --release {latest} runs it all the same"))
        })?,
    };
    release::load(shared, &app.name, id).await
}

/// What is to be run: of a process type its own arguments and the given ones, of a file the given ones alone.
fn target<'a>(
    release: &Release,
    image: &'a Image,
    ask: &AskRun,
) -> Result<(&'a ProcessName, Process), Refusal> {
    let text = ask.target.as_str();
    let Some((name, sealed, named)) = image.target(text) else {
        let known: Vec<&str> = image.processes.keys().map(ProcessName::as_str).collect();
        let message = format!(
            "{} has no process type or component {:?}",
            release.id,
            excerpt(text)
        );
        return Err(Refusal::invalid(message).hint(format!("it has {}", known.join(", "))));
    };
    let mut process = release.limits.process(name, sealed);
    if let Some(reason) = process.shape.never_ends() {
        let message = format!(
            "{name} of {} is of shape {}: it {reason}",
            release.id, process.shape
        );
        return Err(Refusal::invalid(message).hint(
            "add a process type whose component exports wasi:cli/run, such as task: task.wasm, and run that",
        ));
    }
    check_args(&ask.args)?;
    given(&mut process, named, &ask.args);
    if let Some(bytes) = ask.memory_bytes_max {
        LimitName::Memory
            .check(bytes)
            .map_err(|error| Refusal::invalid(error.to_string()).hint(error.hint()))?;
        process.limits.memory_bytes_max = bytes;
    }
    Ok((name, process))
}

/// Gives a process arguments: after its own, where the process type was named.
fn given(process: &mut Process, named: Named, args: &[String]) {
    if named == Named::File {
        process.args.truncate(1);
    }
    process.args.extend(args.iter().cloned());
}

/// A run of a cron of `release`, whose image is as it runs; none when it runs what is not there. A cron has none such
/// that a build or an import let through.
pub(crate) fn of_cron(
    release: &Release,
    image: &Image,
    cron: &Cron,
    of: OfCron,
    author: String,
    now: Timestamp,
) -> Option<Run> {
    let (name, process, named) = image.target(cron.target())?;
    let mut process = process.clone();
    given(&mut process, named, cron.args());
    // The names are for people; nodes link what is there.
    process.imports = None;
    Some(Run {
        id: RunId {
            app: release.app.clone(),
            number: 0,
            asked_at: now,
        },
        release: release.id,
        process: name.clone(),
        command: command(name, &process),
        cause: RunCause::Cron,
        author,
        cron: Some(of),
        attached: None,
        run_ms_max: cron.run_ms_max.unwrap_or(RUN_MS_DEFAULT),
        is_to_stop: false,
        state: RunState::Asked,
        work: Some(Work {
            process,
            config: release.config.clone(),
        }),
    })
}

fn check_args(args: &[String]) -> Result<(), Refusal> {
    let bytes: usize = args.iter().map(String::len).sum();
    if args.len() > RUN_ARGS_MAX || bytes > RUN_ARGS_BYTES_MAX {
        let message = format!("{} arguments of {bytes} bytes", args.len());
        let most = format!("at most {RUN_ARGS_MAX} of {RUN_ARGS_BYTES_MAX} bytes together are taken");
        return Err(Refusal::invalid(message).hint(most));
    }
    match args.iter().find(|arg| arg.contains('\0')) {
        Some(arg) => Err(Refusal::invalid(format!(
            "the argument {:?} holds a NUL byte",
            excerpt(arg)
        ))),
        None => Ok(()),
    }
}

fn config(config: &Config, ask: &AskRun) -> Result<Config, Refusal> {
    if ask.env.is_empty() {
        return Ok(config.clone());
    }
    let over = ConfigChange {
        set: ask.env.clone(),
        unset: Vec::new(),
    };
    let changed = config.changed(&over);
    changed.map_err(|error| Refusal::invalid(error.to_string()))
}

fn run_ms_max(asked: Option<u64>, default: u64) -> Result<u64, Refusal> {
    match asked {
        None => Ok(default),
        Some(ms) if (1_000..=RUN_MS_MAX).contains(&ms) => Ok(ms),
        Some(ms) => {
            let message = format!(
                "a timeout of {ms} ms is outside 1 s to {} h",
                RUN_MS_MAX / 3_600_000
            );
            Err(Refusal::invalid(message).hint("work that takes longer is a process type: gilliam scale"))
        }
    }
}

/// What is shown of what runs: `worker report --month 3`.
fn command(name: &ProcessName, process: &Process) -> String {
    let args = process.args.iter().skip(1).map(String::as_str);
    let words: Vec<&str> = [name.as_str()].into_iter().chain(args).collect();
    let mut text = words.join(" ").replace(char::is_control, " ");
    crate::logs::cut(&mut text, COMMAND_BYTES_MAX);
    text
}

/// Gives a run the next number of its app, if the app may have one more.
pub(crate) async fn numbered(shared: &Shared, run: Run) -> Result<NewRun, Refusal> {
    let (_, open) = shared.store.range(&keys::runs_of(&run.id.app)).await?;
    let all = shared.known().map_or(0, |state| state.runs.len());
    room(open.len(), all).map_err(|full| match full {
        Full::App => {
            let message = format!("{} has {} runs that have not ended", run.id.app, open.len());
            Refusal::new(Code::A429, message)
                .hint("wait for one, or stop one: gilliam runs lists them, gilliam runs stop run.N")
        }
        Full::Cluster => Refusal::busy("runs"),
    })?;
    Ok(next(&shared.store, run).await?)
}

/// Whose runs are as many as may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Full {
    App,
    Cluster,
}

/// Whether one more run may be where so many of its app, and of all, have not ended.
pub(crate) fn room(of_app: usize, all: usize) -> Result<(), Full> {
    match (of_app >= RUNS_OPEN_PER_APP_MAX, all >= RUNS_OPEN_MAX) {
        (true, _) => Err(Full::App),
        (_, true) => Err(Full::Cluster),
        _ => Ok(()),
    }
}

/// Gives a run the next number of its app.
pub(crate) async fn next(store: &Store, mut run: Run) -> Result<NewRun, RangeError> {
    let key = keys::run_number(&run.id.app);
    let last = records::load::<u32>(store, &key).await?;
    run.id.number = last.as_ref().map_or(0, |last| last.value).saturating_add(1);
    Ok(NewRun {
        check: Check {
            key: key.clone(),
            expect: Expect::unchanged(last.as_ref().map(|last| last.revision)),
        },
        writes: [records::put_run(&run), records::put(key, &run.id.number)],
        run,
    })
}
