//! The life of one instance: booted, serving, crashed and booted again, until it is told to stop.
//!
//! Invariant: a request finds the instance only between `join` and `leave`; a stop leaves first, then waits
//! for requests in flight, then ends the guest.

use std::{sync::Arc, time::Duration};

use gilliam_engine::{
    CommandInstance, EntryStream, ExitReason, HttpInstance, InstanceConfig, LogEntry, LogSink, ProcessConfig,
};
use gilliam_model::{
    Timestamp,
    assignment::AssignedProcess,
    code::Code,
    config::Config,
    image::Process,
    instance::{Failure, InstanceId},
    log::LogStream,
    name::NodeName,
    route::WEB,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Surroundings, seat::Seat};
use crate::{
    backoff::Backoff,
    board::{Change, Guest},
    entropy,
    ingress::{Backend, Phase},
    logs::AppLog,
};

/// A command that has no port to be looked at counts as ready when it has lived this long.
const SETTLE: Duration = Duration::from_millis(150);
/// Between two looks at whether a command's port answers.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// A guest may go on after its last response has ended; it is given this long at a stop.
const LINGER_MAX: Duration = Duration::from_secs(10);
/// Lines of one message in a log: a wasm backtrace fits.
const MESSAGE_LINES_MAX: usize = 25;

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) id: InstanceId,
    pub(crate) process: Process,
    config: Config,
    node: NodeName,
}

impl Spec {
    pub(crate) fn new(id: InstanceId, assigned: &AssignedProcess, node: &NodeName) -> Self {
        let (process, config) = (assigned.process.clone(), assigned.config.clone());
        Self {
            id,
            process,
            config,
            node: node.clone(),
        }
    }

    fn takes_http(&self) -> bool {
        self.process.shape.is_http() || self.id.process.as_str() == WEB
    }

    /// What all instances of the process type have in common.
    fn process_config(&self, log: Arc<AppLog>) -> ProcessConfig {
        ProcessConfig {
            app: self.id.app.to_string(),
            args: self.process.args.clone(),
            env: self.env(),
            limits: self.process.limits.clone(),
            outbound: self.process.allowed_outbound_hosts.clone(),
            log,
        }
    }

    fn own_env(&self, port: Option<u16>) -> Vec<(String, String)> {
        let port = port.map(|port| ("PORT".to_owned(), port.to_string()));
        let mut env: Vec<_> = port.into_iter().collect();
        env.push(("GILLIAM_INSTANCE".to_owned(), self.id.label()));
        env
    }

    fn env(&self) -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = self
            .config
            .0
            .iter()
            .map(|(key, value)| (key.to_string(), value.clone()))
            .collect();
        let mut set = |key: &str, value: String| {
            env.retain(|(other, _)| other != key);
            env.push((key.to_owned(), value));
        };
        set("GILLIAM_APP", self.id.app.to_string());
        set("GILLIAM_RELEASE", self.id.release.to_string());
        set("GILLIAM_PROCESS", self.id.process.to_string());
        set("GILLIAM_NODE", self.node.to_string());
        env
    }
}

/// Runs an instance until `stop`, and to its end.
pub(super) async fn run(around: Arc<Surroundings>, spec: Spec, stop: CancellationToken) {
    let log = around.logs.app(&spec.id.app);
    let mut life = Life {
        around,
        spec,
        stop,
        log,
        seat: None,
        backoff: Backoff::default(),
    };
    life.live().await;
    if let Some(seat) = life.seat.take() {
        seat.leave(&life.spec.id);
        seat.close(Duration::from_millis(life.spec.process.limits.exit_ms_max))
            .await;
    }
    life.say(&format!("{} stopped", life.spec.id.release));
}

struct Life {
    around: Arc<Surroundings>,
    spec: Spec,
    stop: CancellationToken,
    log: Arc<AppLog>,
    /// The port and the door, for instances that take HTTP; kept over restarts.
    seat: Option<Seat>,
    backoff: Backoff,
}

/// How far a crash comes after its instance was ready.
struct Crash {
    ran: Duration,
    code: Option<Code>,
    message: String,
}

impl Crash {
    fn early(code: Code, message: impl Into<String>) -> Self {
        Self {
            ran: Duration::ZERO,
            code: Some(code),
            message: message.into(),
        }
    }

    fn exited(reason: &ExitReason, ran: Duration) -> Self {
        match reason {
            ExitReason::Trap { code, message } => Self {
                ran,
                code: Some(*code),
                message: message.clone(),
            },
            ExitReason::Killed { code } => Self {
                ran,
                code: *code,
                message: reason.to_string(),
            },
            ExitReason::Ok | ExitReason::ExitCode(_) => Self {
                ran,
                code: None,
                message: reason.to_string(),
            },
        }
    }
}

impl Life {
    async fn live(&mut self) {
        let stop = self.stop.clone();
        loop {
            if let Some(seat) = &self.seat {
                seat.group.set_phase(&self.spec.id, Phase::Starting);
            }
            let booted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                booted = self.boot() => booted,
            };
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
            self.around.board.change(&self.spec.id, Change::Starting);
        }
    }

    /// From nothing to a ready guest.
    async fn boot(&mut self) -> Result<Guest, Crash> {
        let Spec { id, process, .. } = &self.spec;
        if self.spec.takes_http() && self.seat.is_none() {
            let seat = Seat::open(&self.around, id, process.shape.is_http());
            let seat = seat.ok_or_else(|| Crash::early(Code::R22, "no port is free on this node"))?;
            seat.group.set_phase(id, Phase::Starting);
            self.around.board.set_port(id, seat.port());
            self.seat = Some(seat);
        }
        let loaded = self.around.artefacts.loaded(&id.app, process).await;
        let loaded = loaded.map_err(|error| Crash::early(error.code, error.message))?;
        let port = self.seat.as_ref().map(Seat::port);
        let config = InstanceConfig {
            process: Arc::new(self.spec.process_config(self.log.clone())),
            label: id.label(),
            own_env: self.spec.own_env(port),
            listen_port: port.filter(|_| !process.shape.is_http()),
        };
        if process.shape.is_http() {
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
        let id = &self.spec.id;
        let backend = self.seat.as_ref().map(|seat| {
            let limits = &self.spec.process.limits;
            let backend = match &guest {
                Guest::Http(instance) => Backend::http(id.clone(), instance.clone(), limits),
                Guest::Command(_) => Backend::tcp(id.clone(), seat.port(), limits),
            };
            seat.group.join(&backend);
            seat.door.set(Some(backend.clone()));
            backend
        });
        self.around.board.change(id, Change::Running(guest.clone()));
        self.say(&format!("{} is running", id.release));
        let crash = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            reason = ended(&guest) => Some(Crash::exited(&reason, since.elapsed())),
        };
        let Some(crash) = crash else {
            if let Some(seat) = &self.seat {
                seat.leave(id);
            }
            self.finish(&guest, backend.as_deref()).await;
            return None;
        };
        Some(crash)
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
            self.say(&format!(
                "{} {}: not done after {ms} ms",
                Code::R12,
                Code::R12.title()
            ));
        }
    }

    /// Takes note of a crash, and gives the wait before the next start.
    fn crashed(&mut self, crash: Crash) -> Duration {
        let id = &self.spec.id;
        let wait = self.backoff.crashed(crash.ran, entropy::jitter());
        if let Some(seat) = &self.seat {
            // Started again at once, it is worth a request's wait.
            let phase = if wait.is_zero() {
                Phase::Starting
            } else {
                Phase::Crashed
            };
            seat.suspend(id, phase);
        }
        let code = crash
            .code
            .map(|code| format!("{code} {}: ", code.title()))
            .unwrap_or_default();
        self.say(&format!("{} crashed: {code}{}", id.release, crash.message));
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
        self.around
            .board
            .change(id, Change::Crashed { failure, retry_at });
        wait
    }

    /// Writes a remark about the instance into its app's log.
    fn say(&self, text: &str) {
        write_lines(&self.log, &self.spec.id.label(), LogStream::Platform, text);
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

fn write_lines(log: &AppLog, source: &str, stream: LogStream, text: &str) {
    for line in text.lines().take(MESSAGE_LINES_MAX) {
        log.write(source, stream, line.to_owned());
    }
}
