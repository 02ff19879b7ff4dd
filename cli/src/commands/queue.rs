//! `gilliam queue`.

use std::{
    io::{IsTerminal as _, Read as _},
    time::Duration,
};

use gilliam_client::{Client, PutOptions};
use gilliam_model::{
    Timestamp,
    name::{AppName, QueueName},
    queue::{JobDetails, JobId, JobInfo, JobState, PAYLOAD_BYTES_MAX, QueueInfo},
};

use crate::{
    amounts,
    args::span,
    context::Context,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

const QUEUES: &[&str] = &[
    "QUEUE",
    "READY",
    "SCHEDULED",
    "RUNNING",
    "DEAD",
    "OLDEST",
    "DONE",
    "FAILED",
];
const JOBS: &[&str] = &[
    "JOB", "STATE", "WHEN", "ATTEMPTS", "PRIORITY", "KEY", "SIZE", "ERROR",
];
/// Jobs listed unless it is said how many.
const LISTED: usize = 20;

/// Shows an app's queues, puts jobs into them, and mends what went wrong.
///
/// Without NAME lists all queues; with it, shows one. The jobs of a queue are done by the process type of its
/// name, a component that exports gilliam:worker/handler.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The queue.
    #[arg(value_name = "NAME")]
    name: Option<QueueName>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Puts a job into the queue.
    Put {
        /// What the worker is given, as it is; - reads it from standard input.
        #[arg(value_name = "PAYLOAD")]
        payload: String,
        /// Not before this time from now: 90s, 5m, 2h.
        #[arg(long, value_name = "TIME", value_parser = span)]
        delay: Option<Duration>,
        /// While a job of this key waits or runs, no other is put.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// A higher one goes first: -128 to 127.
        #[arg(long, value_name = "N", allow_negative_numbers = true)]
        priority: Option<i8>,
        /// Attempts until the job is dead: 1 to 25.
        #[arg(long, value_name = "N")]
        attempts: Option<u32>,
    },
    /// Lists jobs.
    Jobs {
        /// Only those of this state: ready, scheduled, running, dead.
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<JobState>,
        /// How many of each state.
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = LISTED)]
        lines: usize,
    },
    /// Lists the jobs that failed for good, with their last error.
    Dead {
        /// How many.
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = LISTED)]
        lines: usize,
    },
    /// Shows one job with its payload.
    Show {
        /// The job.
        id: JobId,
    },
    /// Has dead jobs begin anew.
    #[command(group(clap::ArgGroup::new("which").required(true).args(["id", "all"])))]
    Retry {
        /// The job.
        id: Option<JobId>,
        /// All that are dead.
        #[arg(long)]
        all: bool,
    },
    /// Has the queue give out no jobs.
    Pause,
    /// Has the queue give out jobs again.
    Resume,
    /// Removes jobs that no worker has: all that wait, or those of one state.
    Purge {
        /// Only those of this state: ready, scheduled, dead.
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<JobState>,
        /// Does not ask.
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

fn state(text: &str) -> Result<JobState, String> {
    let found = JobState::ALL.into_iter().find(|state| state.as_str() == text);
    let all = JobState::ALL.map(JobState::as_str).join(", ");
    found.ok_or_else(|| format!("it is one of {all}"))
}

/// One queue of an app.
struct At<'a> {
    ui: &'a Ui,
    client: Client,
    app: AppName,
    queue: QueueName,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let (app, client) = (context.app()?, context.client()?);
    let Some(queue) = args.name else {
        if args.verb.is_some() {
            return Err(CommandError::usage("name the queue first")
                .hinted("for example: gilliam queue emails put '{\"to\": \"a@example.com\"}'"));
        }
        return list(context.ui, &client, &app).await;
    };
    let at = At {
        ui: context.ui,
        client,
        app,
        queue,
    };
    match args.verb {
        None => at.show().await,
        Some(Verb::Put {
            payload,
            delay,
            key,
            priority,
            attempts,
        }) => {
            let options = PutOptions {
                key,
                delay,
                priority,
                attempts,
            };
            at.put(payload, &options).await
        }
        Some(Verb::Jobs { state, lines }) => match state {
            Some(state) => at.jobs(&[state], lines).await,
            None => at.jobs(&JobState::ALL, lines).await,
        },
        Some(Verb::Dead { lines }) => at.jobs(&[JobState::Dead], lines).await,
        Some(Verb::Show { id }) => at.job(id).await,
        Some(Verb::Retry { id, .. }) => at.retry(id).await,
        Some(Verb::Pause) => at.pause(true).await,
        Some(Verb::Resume) => at.pause(false).await,
        Some(Verb::Purge { state, yes }) => at.purge(state, yes).await,
    }
}

async fn list(ui: &Ui, client: &Client, app: &AppName) -> CommandResult {
    let queues = client.queues(app).await?;
    if ui.wants_json() {
        return ui.json(&queues);
    }
    if queues.is_empty() {
        ui.note(&format!("{app} has no queues"));
        ui.hint("the first job makes one: gilliam queue emails put '{\"to\": \"a@example.com\"}'");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<_> = queues.iter().map(|queue| row(queue, now)).collect();
    ui.table(QUEUES, &rows)
}

fn row(queue: &QueueInfo, now: Timestamp) -> Vec<String> {
    let counts = &queue.counts;
    let name = match queue.paused {
        true => format!("{} (paused)", queue.name),
        false => queue.name.to_string(),
    };
    let numbers = [counts.ready, counts.scheduled, counts.running, counts.dead].map(amounts::number);
    let oldest = queue
        .oldest
        .map_or("-".to_string(), |oldest| amounts::age(oldest, now));
    let mut row = vec![name];
    row.extend(numbers);
    row.extend([oldest, amounts::number(queue.done), amounts::number(queue.failed)]);
    row
}

impl At<'_> {
    async fn show(&self) -> CommandResult {
        let info = self.client.queue(&self.app, &self.queue).await?;
        if self.ui.wants_json() {
            return self.ui.json(&info);
        }
        self.ui.table(QUEUES, &[row(&info, Timestamp::now())])?;
        if info.counts.dead > 0 {
            self.ui
                .hint(&format!("gilliam queue {} dead says why", self.queue));
        }
        Ok(())
    }

    async fn put(&self, payload: String, options: &PutOptions) -> CommandResult {
        let payload = match payload.as_str() {
            "-" => standard_input()?,
            _ => payload.into_bytes(),
        };
        let put = self
            .client
            .put_job(&self.app, &self.queue, payload, options)
            .await?;
        if self.ui.wants_json() {
            return self.ui.json(&put);
        }
        if !put.new {
            self.ui.note("a job of this key is there already (Q10):");
        }
        self.ui.data(&put.id.to_string())
    }

    async fn jobs(&self, states: &[JobState], lines: usize) -> CommandResult {
        let mut jobs = Vec::new();
        for state in states {
            jobs.extend(self.client.jobs(&self.app, &self.queue, *state, lines).await?);
        }
        if self.ui.wants_json() {
            return self.ui.json(&jobs);
        }
        let now = Timestamp::now();
        let rows: Vec<_> = jobs.iter().map(|job| job_row(job, now)).collect();
        self.ui.table(JOBS, &rows)?;
        if jobs.iter().any(|job| job.state == JobState::Dead) {
            self.ui.hint(&format!(
                "gilliam queue {} retry ID, or --all, has them begin anew",
                self.queue
            ));
        }
        Ok(())
    }

    async fn job(&self, id: JobId) -> CommandResult {
        let JobDetails { info, payload } = self.client.job(&self.app, &self.queue, id).await?;
        if self.ui.wants_json() {
            return self.ui.json(&JobDetails { info, payload });
        }
        self.ui.table(JOBS, &[job_row(&info, Timestamp::now())])?;
        if let Some(error) = &info.error {
            self.ui.data(&format!("error: {error}"))?;
        }
        self.ui.data(&String::from_utf8_lossy(&payload.0))
    }

    async fn retry(&self, id: Option<JobId>) -> CommandResult {
        let changed = self.client.retry_jobs(&self.app, &self.queue, id).await?;
        if self.ui.wants_json() {
            return self.ui.json(&changed);
        }
        self.ui.data(&format!(
            "{} of {} begin anew",
            amounts::count(changed.jobs, "job"),
            self.queue
        ))
    }

    async fn pause(&self, paused: bool) -> CommandResult {
        self.client.pause_queue(&self.app, &self.queue, paused).await?;
        if self.ui.wants_json() {
            return self.ui.json(&self.client.queue(&self.app, &self.queue).await?);
        }
        if paused {
            self.ui.data(&format!("{} gives out no jobs", self.queue))?;
            self.ui.undo(&format!("gilliam queue {} resume", self.queue));
            return Ok(());
        }
        self.ui.data(&format!("{} gives out jobs", self.queue))
    }

    async fn purge(&self, state: Option<JobState>, yes: bool) -> CommandResult {
        if !yes {
            let what = state.map_or("that wait", JobState::as_str);
            let question = format!(
                "This removes the jobs {what} of {}. Type its name to go on:",
                self.queue
            );
            let typed = self.ui.ask(&question)?.ok_or_else(|| {
                CommandError::failed(format!("{} was not purged: there is nobody to ask", self.queue))
                    .hinted("pass --yes")
            })?;
            if typed != self.queue.as_str() {
                let message = format!("{} was not purged: {typed:?} is not its name", self.queue);
                return Err(CommandError::failed(message));
            }
        }
        let changed = self.client.purge_queue(&self.app, &self.queue, state).await?;
        if self.ui.wants_json() {
            return self.ui.json(&changed);
        }
        self.ui.data(&format!(
            "{} of {} removed",
            amounts::count(changed.jobs, "job"),
            self.queue
        ))
    }
}

fn standard_input() -> CommandResult<Vec<u8>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(
            CommandError::usage("the payload is to come from standard input, which is a terminal")
                .hinted("pipe it: echo '{}' | gilliam queue emails put -"),
        );
    }
    let mut payload = Vec::new();
    // One byte more, so that too much is refused and not cut.
    stdin
        .lock()
        .take(PAYLOAD_BYTES_MAX as u64 + 1)
        .read_to_end(&mut payload)?;
    Ok(payload)
}

fn job_row(job: &JobInfo, now: Timestamp) -> Vec<String> {
    let when = match job.state {
        JobState::Scheduled => format!("in {}", amounts::age(now, job.at)),
        JobState::Ready => amounts::ago(job.created_at, now),
        JobState::Running => format!("lease ends in {}", amounts::age(now, job.at)),
        JobState::Dead => amounts::ago(job.at, now),
    };
    let error = job.error.as_deref().and_then(|error| error.lines().next());
    vec![
        job.id.to_string(),
        job.state.as_str().to_string(),
        when,
        format!("{} of {}", job.attempts, job.attempts_max),
        job.priority.0.to_string(),
        job.key.clone().unwrap_or("-".to_string()),
        amounts::bytes(job.bytes),
        error.unwrap_or_default().to_string(),
    ]
}
