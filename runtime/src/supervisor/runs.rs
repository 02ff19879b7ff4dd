//! Runs on this node: begun once, watched, stopped, told of.
//!
//! In: the runs of the assignment. Out: what the reports say of them, and lines of the log. One loop decides (purely,
//! see [`decide`]), and each run that is begun has a task.
//!
//! Invariant: a run is begun only by the life of the node that it was placed for, and only once by that life: what was
//! begun is remembered, ended or not.
//! Invariant: a run that is not assigned any more ends, and is told of no longer.

mod attach;
mod decide;
mod ledger;

use std::{sync::Arc, time::Duration};

use gilliam_engine::{Attached, CommandInstance, ExitReason};
use gilliam_model::{
    Timestamp,
    assignment::{AssignedProcess, Assignment},
    code::Code,
    log::LogStream,
    run::{AssignedRun, Outcome, RunId},
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::decide::{Steps, decide};
pub(crate) use self::ledger::Ledger;
use super::{
    Surroundings,
    instance::write_lines,
    spec::Spec,
    starts::{Turn, Young},
};

/// The runs of a node. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Runs {
    around: Arc<Surroundings>,
    /// When this life of the node began.
    life: Timestamp,
    assignment: watch::Receiver<Option<Arc<Assignment>>>,
    ledger: Arc<Ledger>,
    tasks: JoinSet<(RunId, Outcome)>,
}

impl Runs {
    pub(crate) fn new(
        around: Arc<Surroundings>,
        life: Timestamp,
        assignment: watch::Receiver<Option<Arc<Assignment>>>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            around,
            life,
            assignment,
            ledger,
            tasks: JoinSet::new(),
        }
    }

    /// Carries out what is assigned, for as long as it is polled. Cancel-safe.
    pub(crate) async fn carry_out(&mut self) {
        loop {
            let assignment = self.assignment.borrow_and_update().clone();
            if let Some(assignment) = assignment {
                self.take(&assignment.runs);
            }
            tokio::select! {
                changed = self.assignment.changed() => if changed.is_err() { return },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.ended(ended),
            }
        }
    }

    /// Ends all runs, each with its notice, and waits for that.
    pub(crate) async fn drain(mut self) {
        self.ledger.stop_all();
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended);
        }
    }

    fn take(&mut self, assigned: &[AssignedRun]) {
        let Steps { begin, stop, forget } = decide(assigned, self.life, &self.ledger.known());
        self.ledger.forget(&forget);
        for id in &stop {
            self.ledger.stop(id);
        }
        for run in begin {
            let stop = self.ledger.begin(run.id.clone());
            self.tasks
                .spawn(carry_out(self.around.clone(), self.ledger.clone(), run, stop));
        }
    }

    fn ended(&mut self, ended: Result<(RunId, Outcome), JoinError>) {
        match ended {
            Ok((id, outcome)) => self.ledger.ended(&id, outcome),
            Err(error) => {
                tracing::error!(%error, "a task that carries out a run failed");
                self.ledger.fail_unended();
            }
        }
    }
}

/// One run, from its beginning to its end.
async fn carry_out(
    around: Arc<Surroundings>,
    ledger: Arc<Ledger>,
    run: AssignedRun,
    stop: CancellationToken,
) -> (RunId, Outcome) {
    let label = run.id.label();
    let assigned = AssignedProcess {
        app: run.id.app.clone(),
        release: run.release,
        name: run.process.clone(),
        ranges: Vec::new(),
        process: run.work.process.clone(),
        config: run.work.config.clone(),
        services: run.services.clone(),
    };
    let spec = Arc::new(Spec::new(&assigned, &around));
    let (attached, pumps) = tokio::select! {
        streams = attach::take_up(&around.control, &around.node, &run) => streams,
        () = stop.cancelled() => (None, None),
    };
    let outcome = match begin(&around, &spec, &label, attached, &stop).await {
        Ok(instance) => {
            ledger.running(&run.id, Timestamp::now());
            let grace = Duration::from_millis(run.work.process.limits.exit_ms_max);
            let outcome = watch_over(&instance, run.run_ms_max, grace, &stop).await;
            let text = match &outcome {
                // The engine has told the rest.
                Outcome::Failed { code, .. } => format!("failed: {code} {}", code.title()),
                _ => outcome.to_string(),
            };
            write_lines(&spec.log, &label, LogStream::Platform, &text);
            outcome
        }
        Err(outcome) => {
            let text = match &outcome {
                Outcome::Failed { code, message } => {
                    spec.hinted(&format!("failed: {outcome}"), Some(*code), message)
                }
                _ => outcome.to_string(),
            };
            write_lines(&spec.log, &label, LogStream::Platform, &text);
            outcome
        }
    };
    if let Some(pumps) = pumps {
        pumps.finish().await;
    }
    (run.id, outcome)
}

/// Loads and starts it; its end, if it gets no further.
async fn begin(
    around: &Arc<Surroundings>,
    spec: &Arc<Spec>,
    label: &str,
    attached: Option<Attached>,
    stop: &CancellationToken,
) -> Result<Arc<CommandInstance>, Outcome> {
    let started = async {
        let loaded = around.artefacts.loaded(&spec.key.app, &spec.process).await;
        let loaded = loaded.map_err(|error| failed(error.code, error.message))?;
        around.starts.admit(Turn::First, 1).await;
        let config = spec.run(label);
        let start = move |young: &mut Young| {
            young.wait();
            let instance = match attached {
                Some(attached) => CommandInstance::start_attached(&loaded, config, attached),
                None => CommandInstance::start_run(&loaded, config),
            };
            let instance = instance.map(Arc::new);
            if let Ok(instance) = &instance {
                young.add(instance);
            }
            instance
        };
        match around.starts.run(start).await {
            Some(Ok(instance)) => Ok(instance),
            Some(Err(error)) => Err(failed(error.code, error.message)),
            None => Err(failed(Code::R99, "it could not be started")),
        }
    };
    tokio::select! {
        started = started => started,
        () = stop.cancelled() => Err(stopped()),
    }
}

/// Waits for its end, which comes at the latest when its time is over.
async fn watch_over(
    instance: &CommandInstance,
    run_ms_max: u64,
    grace: Duration,
    stop: &CancellationToken,
) -> Outcome {
    tokio::select! {
        biased;
        reason = instance.wait() => outcome_of(reason),
        () = stop.cancelled() => {
            instance.stop(grace).await;
            stopped()
        }
        () = tokio::time::sleep(Duration::from_millis(run_ms_max)) => {
            instance.stop(grace).await;
            Outcome::TimedOut { run_ms_max }
        }
    }
}

fn outcome_of(reason: ExitReason) -> Outcome {
    match reason {
        ExitReason::Ok => Outcome::Exited { code: 0 },
        ExitReason::ExitCode(code) => Outcome::Exited { code },
        ExitReason::Trap { code, message } => Outcome::Failed { code, message },
        ExitReason::Killed { .. } => stopped(),
    }
}

fn stopped() -> Outcome {
    let reason = "it was asked to end".to_string();
    Outcome::Stopped { reason }
}

fn failed(code: Code, message: impl Into<String>) -> Outcome {
    Outcome::Failed {
        code,
        message: message.into(),
    }
}
