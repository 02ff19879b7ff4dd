//! The `release` process of a release in the answer to a deploy: what it prints is part of the build's output, and how
//! it ends is how the deploy ends.
//!
//! The release is decided elsewhere (`runs::turn`), whoever listens: a client that goes away changes nothing.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use gilliam_model::{
    api::{DeployEvent, LOG_LINES_MAX, ReleaseInfo},
    code::Code,
    log::{LogLine, LogStream},
    name::AppName,
    release::HookStatus,
    run::{Outcome, RELEASE_HOOK, RUN_MS_MAX, Run, RunId},
};
use tokio::sync::mpsc;

use crate::{
    api::Api,
    logs::Source,
    refusal::Refusal,
    release::{self, NewRelease},
    runs,
    shared::Shared,
};

/// Longest wait for the last lines of a run that has ended: they are on their way from its node already.
const LAST_LINES_WAIT: Duration = Duration::from_secs(3);
/// Times that a release waits for the `release` process of another before it is refused: two deploys at once are
/// usual, and four in a row are a script that ought to hear of it.
const WAITS_MAX: u32 = 4;
/// Longer than any run: by then its end is decided.
const WAIT_MAX: Duration = Duration::from_millis(RUN_MS_MAX + 3_600_000);

/// Makes a release, after the `release` process of the one before has ended.
pub(super) async fn make(
    api: &Api,
    app: &AppName,
    new: &NewRelease,
    events: &mpsc::Sender<DeployEvent>,
) -> Result<ReleaseInfo, Refusal> {
    let shared = &api.shared;
    for _ in 0..WAITS_MAX {
        let stored = shared.app(app).await?.value;
        let (Some(hook), Some(latest)) = (stored.hook(), stored.latest) else {
            break;
        };
        let line = format!(
            "-----> Waiting for the release process of {latest} (run.{})",
            hook.run
        );
        say(events, line).await;
        wait(api, app, hook.run).await?;
    }
    let made = release::make(shared, app, new).await?;
    match &made.hook {
        Some(HookStatus::Running { run }) => Box::pin(follow(api, &made, *run, events)).await,
        _ => Ok(made),
    }
}

/// Passes on what the `release` process prints, until it has ended; the release as it is then.
async fn follow(
    api: &Api,
    made: &ReleaseInfo,
    number: u32,
    events: &mpsc::Sender<DeployEvent>,
) -> Result<ReleaseInfo, Refusal> {
    let shared = &api.shared;
    let command = made
        .processes
        .get(RELEASE_HOOK)
        .map_or(RELEASE_HOOK, String::as_str);
    say(
        events,
        format!(
            "-----> Running the release process of {}: {command} (run.{number})",
            made.id
        ),
    )
    .await;
    let label = runs::load(shared, &made.app, number).await?.value.id.label();
    let (last, later) = shared.logs.follow(&made.app, Source::Named(label), LOG_LINES_MAX);
    let mut lines = pin!(futures::stream::iter(last).chain(later));
    let mut ended = pin!(wait(api, &made.app, number));
    let run = loop {
        tokio::select! {
            biased;
            Some(line) = lines.next() => say_line(events, &line).await,
            run = &mut ended => break run?,
        }
    };
    if let Some(outcome) = run.outcome().filter(|outcome| is_told_by_node(outcome)) {
        let rest = async {
            while let Some(line) = lines.next().await {
                say_line(events, &line).await;
                if is_last(&line, outcome) {
                    break;
                }
            }
        };
        // Those that come later are in the app's log.
        let _ = tokio::time::timeout(LAST_LINES_WAIT, rest).await;
    }
    result(shared, made, &run).await
}

async fn result(shared: &Shared, made: &ReleaseInfo, run: &Run) -> Result<ReleaseInfo, Refusal> {
    let releases = release::list(shared, &made.app).await?;
    let now = releases.into_iter().find(|release| release.id == made.id);
    let now = now.ok_or_else(|| Refusal::missing("release", &made.app, made.id))?;
    let RunId { number, .. } = run.id;
    match &now.hook {
        Some(HookStatus::Failed { reason, .. }) => {
            let id = now.id;
            let message = format!("{id} failed: its release process {reason}");
            Err(Refusal::new(Code::B16, message).hint(format!(
                "what ran before runs on; gilliam logs run.{number} shows its lines, \
                 and gilliam run --release {id} {RELEASE_HOOK} runs it again"
            )))
        }
        _ => Ok(now),
    }
}

/// Waits until a run has ended, or this control plane stops.
async fn wait(api: &Api, app: &AppName, number: u32) -> Result<Run, Refusal> {
    let mut drain = api.drain.clone();
    tokio::select! {
        run = runs::wait(&api.shared, app, number, WAIT_MAX) => run,
        _ = drain.requested() => Err(Refusal::draining()
            .hint("what has begun goes on: gilliam releases shows how the release process ends")),
    }
}

/// Whether the node of a run says in the log how it ended.
fn is_told_by_node(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Lost { .. } | Outcome::NotPlaced { .. })
}

fn is_last(line: &LogLine, outcome: &Outcome) -> bool {
    line.stream == LogStream::Platform && line.text.starts_with(outcome_begin(outcome))
}

/// How the last line of a run begins, whatever its node adds to it.
fn outcome_begin(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Exited { .. } => "exited with",
        Outcome::Failed { .. } => "failed:",
        Outcome::TimedOut { .. } | Outcome::Stopped { .. } => "stopped:",
        Outcome::Lost { .. } => "lost:",
        Outcome::NotPlaced { .. } => "not begun:",
    }
}

async fn say_line(events: &mpsc::Sender<DeployEvent>, line: &LogLine) {
    say(events, format!("       {}", line.text)).await;
}

async fn say(events: &mpsc::Sender<DeployEvent>, line: String) {
    // An error says that nobody listens any more: what is under way goes on.
    let _ = events.send(DeployEvent::Output { line }).await;
}
