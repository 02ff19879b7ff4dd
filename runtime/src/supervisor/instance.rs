//! The life of one instance that takes HTTP, or jobs: booted, serving, crashed and booted again, until it is told to
//! stop.
//!
//! Invariant: a request finds the instance only between `join` and `leave`; a stop leaves first, then waits
//! for requests in flight, then ends the guest.

use std::{sync::Arc, time::Duration};

use gilliam_engine::{CommandInstance, EntryStream, ExitReason, HttpInstance, LogEntry, LogSink};
use gilliam_model::{
    Timestamp,
    code::Code,
    instance::{Failure, InstanceId},
    log::LogStream,
    name::QueueName,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Surroundings, crash::Crash, crew::SETTLE, seat::Seat, spec::Spec, starts::Turn};
use crate::{
    backoff::Backoff,
    board::{Change, Fleet, Guest},
    entropy,
    ingress::{Backend, Group, Phase},
    jobs::Worker,
    logs::AppLog,
    slots::Place,
};

/// Between two looks at whether a command's port answers.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// A guest may go on after its last response has ended; it is given this long at a stop.
const LINGER_MAX: Duration = Duration::from_secs(10);
/// Lines of one message in a log: a wasm backtrace fits.
const MESSAGE_LINES_MAX: usize = 25;

/// Runs an instance of a process type until `stop`, and to its end: `group` takes its requests; without one it
/// takes jobs.
pub(super) async fn run(
    around: Arc<Surroundings>,
    group: Option<Arc<Group>>,
    spec: Arc<Spec>,
    fleet: Arc<Fleet>,
    place: Place,
    stop: CancellationToken,
) {
    let mut life = Life {
        id: fleet.id(place),
        around,
        group,
        spec,
        fleet,
        place,
        stop,
        seat: None,
        backoff: Backoff::default(),
    };
    life.live().await;
    life.leave();
    if let Some(seat) = life.seat.take() {
        seat.close(Duration::from_millis(life.spec.process.limits.exit_ms_max))
            .await;
    }
    life.say(&format!("{} stopped", life.id.release));
}

struct Life {
    around: Arc<Surroundings>,
    /// None for one that takes jobs.
    group: Option<Arc<Group>>,
    spec: Arc<Spec>,
    fleet: Arc<Fleet>,
    place: Place,
    id: InstanceId,
    stop: CancellationToken,
    /// The port and the door; kept over restarts.
    seat: Option<Seat>,
    backoff: Backoff,
}

impl Life {
    async fn live(&mut self) {
        let stop = self.stop.clone();
        let mut turn = Turn::First;
        loop {
            if let Some(group) = &self.group {
                group.set_phase(&self.id, Phase::Starting);
            }
            let booted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                booted = self.boot(turn) => booted,
            };
            turn = Turn::Again;
            let crash = match booted {
                Err(crash) => crash,
                Ok(guest) => match self.serve(guest).await {
                    Some(crash) => crash,
                    None => return,
                },
            };
            let wait = self.crashed(crash);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
            self.fleet.change(self.place, Change::Starting);
        }
    }

    /// From nothing to a ready guest.
    async fn boot(&mut self, turn: Turn) -> Result<Guest, Crash> {
        let (id, process) = (&self.id, &self.spec.process);
        if let (None, Some(group)) = (&self.seat, &self.group) {
            let seat = Seat::open(&self.around, group, id, process.shape.is_http());
            let seat = seat.ok_or_else(|| Crash::early(Code::R22, "no port is free on this node"))?;
            self.fleet.set_port(self.place, seat.port());
            self.seat = Some(seat);
        }
        let loaded = self.around.artefacts.loaded(&id.app, process).await;
        let loaded = loaded.map_err(|error| Crash::early(error.code, error.message))?;
        self.around.starts.admit(turn, 1).await;
        let port = self.seat.as_ref().map(Seat::port);
        let config = self.spec.instance(self.place, port);
        if process.shape.is_http() || process.shape.takes_jobs() {
            let instance = HttpInstance::start(&loaded, config).await;
            let instance = instance.map_err(|error| Crash::early(error.code, error.message))?;
            return Ok(Guest::Http(Arc::new(instance)));
        }
        let instance = CommandInstance::start(&loaded, config);
        let instance = Arc::new(instance.map_err(|error| Crash::early(error.code, error.message))?);
        self.ready(&instance, port).await?;
        Ok(Guest::Command(instance))
    }

    /// Waits until a command is ready: its port answers, or it has lived for a moment.
    async fn ready(&self, instance: &CommandInstance, port: Option<u16>) -> Result<(), Crash> {
        let boot_max = Duration::from_millis(self.spec.process.limits.boot_ms_max);
        let ready = async {
            match port {
                Some(port) => answers(port).await,
                None => sleep(SETTLE).await,
            }
        };
        tokio::select! {
            biased;
            reason = instance.wait() => Err(Crash::exited(&reason, Duration::ZERO)),
            ready = timeout(boot_max, ready) => ready.map_err(|_| {
                let (port, ms) = (port.unwrap_or_default(), boot_max.as_millis());
                Crash::early(Code::R10, format!("nothing listens on PORT {port} after {ms} ms"))
            }),
        }
    }

    /// A ready guest until its end: by itself, which is a crash, or by a stop.
    async fn serve(&mut self, guest: Guest) -> Option<Crash> {
        let since = Instant::now();
        let id = &self.id;
        let seat = self.group.as_ref().zip(self.seat.as_ref());
        let backend = seat.map(|(group, seat)| {
            let limits = &self.spec.process.limits;
            let backend = match &guest {
                Guest::Http(instance) => Backend::http(id.clone(), instance.clone()),
                Guest::Command(_) => Backend::tcp(id.clone(), seat.port(), limits),
            };
            group.join(&backend);
            seat.door.set(Some(backend.clone()));
            backend
        });
        if let (None, Guest::Http(instance)) = (&self.group, &guest) {
            let worker = Worker {
                instance: instance.clone(),
                log: self.spec.log.clone(),
                label: self.spec.label(self.place),
            };
            let at_once = self.spec.process.limits.concurrency_max;
            self.around.jobs.join(id, self.queue(), worker, at_once);
        }
        let changes = [Change::Booted(guest.clone()), Change::Running];
        self.fleet.change_each(changes.map(|change| (self.place, change)));
        self.say(&format!("{} is running", id.release));
        let crash = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            reason = ended(&guest) => Some(Crash::exited(&reason, since.elapsed())),
        };
        let Some(crash) = crash else {
            self.leave();
            self.finish(&guest, backend.as_deref()).await;
            return None;
        };
        Some(crash)
    }

    /// The queue of one that takes jobs.
    fn queue(&self) -> QueueName {
        self.spec.process.jobs.queue_of(&self.id.process)
    }

    /// The instance gets no further requests, or jobs.
    fn leave(&self) {
        match &self.group {
            Some(group) => group.leave(&self.id),
            None => self.around.jobs.leave(&self.id, self.queue()),
        }
        if let Some(seat) = &self.seat {
            seat.door.set(None);
        }
    }

    /// Ends a guest in order: requests in flight first, within its exit time.
    async fn finish(&self, guest: &Guest, backend: Option<&Backend>) {
        let deadline = Instant::now() + Duration::from_millis(self.spec.process.limits.exit_ms_max);
        let mut is_late = match backend {
            Some(backend) => timeout_at(deadline, backend.drain()).await.is_err(),
            None => false,
        };
        match guest {
            Guest::Http(instance) => {
                if !is_late {
                    let linger = deadline.min(Instant::now() + LINGER_MAX);
                    let _ = timeout_at(linger, instance.drain()).await;
                }
                instance.kill();
            }
            Guest::Command(instance) => {
                let rest = deadline.saturating_duration_since(Instant::now());
                let reason = instance.stop(rest).await;
                is_late |= reason
                    == ExitReason::Killed {
                        code: Some(Code::R12),
                    };
            }
        }
        if is_late {
            let ms = self.spec.process.limits.exit_ms_max;
            let text = format!("{} {}: not done after {ms} ms", Code::R12, Code::R12.title());
            self.say(&self.spec.hinted(&text, Some(Code::R12), ""));
        }
    }

    /// Takes note of a crash, and gives the wait before the next start.
    fn crashed(&mut self, crash: Crash) -> Duration {
        let id = &self.id;
        let wait = self.backoff.crashed(crash.ran, entropy::jitter());
        // Started again at once, it is worth a request's wait.
        let phase = if wait.is_zero() {
            Phase::Starting
        } else {
            Phase::Crashed
        };
        if let Some(group) = &self.group {
            group.suspend(id, phase);
        }
        if let Some(seat) = &self.seat {
            seat.door.set(None);
        }
        self.say(&format!(
            "{} crashed: {}",
            id.release,
            self.spec.crash_text(&crash)
        ));
        self.say(&format!(
            "{} starts again in {:.1} s",
            id.release,
            wait.as_secs_f64()
        ));
        let now = Timestamp::now();
        let failure = Failure {
            code: crash.code,
            message: crash.message,
            at: now,
        };
        let retry_at = now.checked_add(wait).unwrap_or(now);
        let failure = Arc::new(failure);
        self.fleet
            .change(self.place, Change::Crashed { failure, retry_at });
        wait
    }

    /// Writes a remark about the instance into its app's log.
    fn say(&self, text: &str) {
        let label = self.spec.label(self.place);
        write_lines(&self.spec.log, &label, LogStream::Platform, text);
    }
}

/// Waits for a guest's end; http instances do not end by themselves.
async fn ended(guest: &Guest) -> ExitReason {
    match guest {
        Guest::Http(_) => std::future::pending().await,
        Guest::Command(instance) => instance.wait().await,
    }
}

/// Waits until a port of the loopback address accepts connections.
async fn answers(port: u16) {
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        sleep(PROBE_INTERVAL).await;
    }
}

impl LogSink for AppLog {
    fn write(&self, label: &str, entry: LogEntry) {
        match entry.stream {
            EntryStream::Stdout => self.write(label, LogStream::Stdout, entry.text),
            EntryStream::Stderr => self.write(label, LogStream::Stderr, entry.text),
            EntryStream::Platform(code) => {
                let text = format!("{code} {}", entry.text);
                write_lines(self, label, LogStream::Platform, &text);
            }
        }
    }
}

pub(super) fn write_lines(log: &AppLog, source: &str, stream: LogStream, text: &str) {
    for line in text.lines().take(MESSAGE_LINES_MAX) {
        log.write(source, stream, line.to_owned());
    }
}
