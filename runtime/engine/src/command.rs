//! Instances that run a command to its end: workers, one-off runs, servers of their own.
//!
//! In flows a configuration, out flows one exit reason. A command runs on the guest threads for as long as
//! it likes: its fuel is metered without bound, its CPU share and memory are limited.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use gilliam_model::code::Code;
use pin_project_lite::pin_project;
use wasmtime::Store;
use wasmtime_wasi::{WasiView as _, p2, p3};

use crate::{
    attached::Attached,
    config::InstanceConfig,
    failure::{self, Failure, StartError},
    guest::{self, Guest, Shared},
    internal::Leaving,
    load::{Loaded, Pre},
    signals::Signals,
    slots::Slot,
    stdio::{Stdio, StopNotice},
    threads::GuestTask,
    throttle::{Metered, Panicked},
    usage::Usage,
};

/// Why a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It returned, or exited with 0.
    Ok,
    /// It returned an error (1) or exited with this code.
    ExitCode(u8),
    /// A trap, a limit or a failure of the platform ended it.
    Trap {
        /// R14, R21, R22, R23 or R99.
        code: Code,
        /// What happened, with the wasm backtrace.
        message: String,
    },
    /// It was stopped before it ended by itself.
    Killed {
        /// R12 when it had notice and did not end in time; none when it could not be given notice, or was
        /// killed outright.
        code: Option<Code>,
    },
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::Ok => f.write_str("exited with code 0"),
            ExitReason::ExitCode(code) => write!(f, "exited with code {code}"),
            ExitReason::Trap { code, message } => write!(f, "{code} {}: {message}", code.title()),
            ExitReason::Killed { code: Some(code) } => write!(f, "killed: {code} {}", code.title()),
            ExitReason::Killed { code: None } => f.write_str("killed"),
        }
    }
}

/// Called with the reason of a command's end, once, on a thread of the guests: it must not wait.
pub type OnExit = Box<dyn FnOnce(ExitReason) + Send>;

/// What a command finds in its standard input.
#[derive(Debug)]
enum Input {
    /// Nothing, until it is asked to end.
    Notice,
    /// Its end.
    Ended,
    /// What somebody sends.
    Held(Attached),
}

/// A running command. Dropping it kills it.
pub struct CommandInstance {
    shared: Arc<Shared>,
    signals: Arc<Signals>,
    task: GuestTask<Result<(), Panicked>>,
}

impl fmt::Debug for CommandInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandInstance")
            .field("label", &self.shared.label())
            .field("exit", &self.signals.exit())
            .finish_non_exhaustive()
    }
}

impl CommandInstance {
    /// Starts the command on the guest threads. Fails with A422 for a bad configuration; whatever happens
    /// in the guest, its instantiation included, is an exit reason.
    pub fn start(loaded: &Loaded, config: InstanceConfig) -> Result<Self, StartError> {
        Self::start_with(loaded, config, None, Input::Notice)
    }

    /// Starts a command whose end is told to `on_exit`, perhaps before this returns.
    pub fn start_and_tell(
        loaded: &Loaded,
        config: InstanceConfig,
        on_exit: OnExit,
    ) -> Result<Self, StartError> {
        Self::start_with(loaded, config, Some(on_exit), Input::Notice)
    }

    /// Starts a command whose standard input is at its end: one-off work, which nobody talks to.
    pub fn start_run(loaded: &Loaded, config: InstanceConfig) -> Result<Self, StartError> {
        Self::start_with(loaded, config, None, Input::Ended)
    }

    /// Starts a command whose standard streams somebody holds. Its lines go to the log too.
    pub fn start_attached(
        loaded: &Loaded,
        config: InstanceConfig,
        attached: Attached,
    ) -> Result<Self, StartError> {
        Self::start_with(loaded, config, None, Input::Held(attached))
    }

    fn start_with(
        loaded: &Loaded,
        config: InstanceConfig,
        on_exit: Option<OnExit>,
        input: Input,
    ) -> Result<Self, StartError> {
        let shared = Shared::new(loaded.engines(), config)?;
        let slots = loaded.slots();
        let tenant = shared.tenant();
        let idle = || Some(loaded.warm().evict()?.into_slot()?.passed_to(tenant));
        let slot = slots.try_take(tenant).or_else(idle).ok_or_else(|| {
            let message = format!("all {} slots of the node are taken", slots.total());
            Failure::new(Code::R22, message)
        })?;
        let signals = Arc::new(Signals::default());
        let stdio = match input {
            Input::Notice => Some(Stdio::Notice(StopNotice::new(signals.clone()))),
            Input::Ended => None,
            Input::Held(attached) => Some(Stdio::attached(attached, signals.clone())),
        };
        let guest = run(loaded.clone(), shared.clone(), stdio, slot);
        let task = Run {
            guest: Metered::new(guest, shared.cpu.clone(), None),
            end: End {
                shared: shared.clone(),
                reason: ExitReason::Killed { code: None },
                signals: signals.clone(),
                on_exit,
            },
        };
        let task = loaded.engines().threads().adopt(&shared.cpu, task);
        Ok(Self {
            shared,
            signals,
            task,
        })
    }

    /// Waits for its end.
    pub async fn wait(&self) -> ExitReason {
        self.signals.wait().await
    }

    /// Gives notice by ending its standard input, and waits up to `grace` for it to end; then kills it,
    /// with R12. One that does not listen to its standard input cannot hear the notice and is killed at
    /// once.
    pub async fn stop(&self, grace: Duration) -> ExitReason {
        let heard = self.notice();
        let grace = if heard { grace } else { Duration::ZERO };
        if let Ok(reason) = tokio::time::timeout(grace, self.wait()).await {
            return reason;
        }
        self.kill();
        match self.wait().await {
            ExitReason::Killed { code: None } if heard => ExitReason::Killed {
                code: Some(Code::R12),
            },
            reason => reason,
        }
    }

    /// Gives notice by ending its standard input, without waiting. False when it does not listen there and
    /// cannot hear it.
    pub fn notice(&self) -> bool {
        self.signals.ask_to_stop();
        self.signals.is_heard()
    }

    /// Kills it without notice.
    pub fn kill(&self) {
        self.task.cancel();
    }

    /// What it uses and has used. Fuel is exact once it has ended; until then it is as of when the guest
    /// last waited.
    pub fn usage(&self) -> Usage {
        self.shared.usage()
    }
}

fn trap(Failure { code, message }: Failure) -> ExitReason {
    ExitReason::Trap { code, message }
}

pin_project! {
    /// A guest's run to its end, which is told also when it is cut off. Small, and never within another future:
    /// each has one for as long as it lives, and what is moved into an `async` block is there twice.
    struct Run<F> {
        // Goes before its end is told.
        #[pin]
        guest: Metered<F>,
        end: End,
    }
}

impl<F: Future<Output = ExitReason>> Future for Run<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.end.reason = match ready!(this.guest.poll(cx)) {
            Ok(reason) => reason,
            Err(panicked) => trap(Failure::panicked(&panicked)),
        };
        Poll::Ready(())
    }
}

/// Tells the end of a command when it is dropped.
struct End {
    shared: Arc<Shared>,
    reason: ExitReason,
    signals: Arc<Signals>,
    on_exit: Option<OnExit>,
}

impl Drop for End {
    fn drop(&mut self) {
        if let ExitReason::Trap { code, message } = &self.reason {
            self.shared.trapped(&Failure::new(*code, message.clone()));
        }
        let is_stopped = self.signals.is_asked() || matches!(self.reason, ExitReason::Killed { .. });
        self.shared.leave(match is_stopped {
            true => Leaving::Stopped,
            false => Leaving::Ended,
        });
        self.shared.log.settle();
        self.signals.ended(self.reason.clone());
        if let Some(on_exit) = self.on_exit.take() {
            on_exit(self.reason.clone());
        }
    }
}

/// A command's store, which books its fuel when it goes.
struct Running {
    store: Store<Guest>,
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        book(&self.shared, self.store.get_fuel().unwrap_or(u64::MAX));
    }
}

/// A command starts with all the fuel there is: what is gone of it was burnt.
fn book(shared: &Shared, fuel_left: u64) {
    shared.counters.fuel.fetch_max(u64::MAX - fuel_left, Relaxed);
}

async fn run(loaded: Loaded, shared: Arc<Shared>, stdio: Option<Stdio>, _slot: Slot) -> ExitReason {
    let open = match loaded.open().await {
        Ok(open) => open,
        Err(failure) => return trap(failure),
    };
    let mut store = guest::store(loaded.engine(), &shared, stdio);
    // Made here and not when the guest first asks, on its own stack: that would touch more pages of it.
    store.data_mut().ctx();
    let probed = shared.clone();
    store.data_mut().fuel_probe = Some(Box::new(move |left| book(&probed, left)));
    let mut running = Running { store, shared };
    let store = &mut running.store;
    let result = match store.set_fuel(u64::MAX) {
        Ok(()) => match &open.value {
            Pre::CommandP2(pre) => run_p2(pre, store).await,
            // Thrice as large.
            Pre::CommandP3(pre) => Box::pin(run_p3(pre, store)).await,
            Pre::HttpP2(_) | Pre::HttpP3(_) | Pre::Job(_) => Err(wasmtime::format_err!(
                "what is called for each request or job is no command"
            )),
        },
        Err(error) => Err(error),
    };
    match result {
        Ok(Ok(())) => ExitReason::Ok,
        Ok(Err(())) => ExitReason::ExitCode(1),
        Err(error) => match failure::exit_code(&error) {
            Some(0) => ExitReason::Ok,
            Some(code) => ExitReason::ExitCode(code),
            None => trap(Failure::of(&error, running.store.data().memory.refused())),
        },
    }
}

/// What a command itself says of its end.
type Ran = wasmtime::Result<Result<(), ()>>;

async fn run_p2(pre: &p2::bindings::CommandPre<Guest>, store: &mut Store<Guest>) -> Ran {
    let command = pre.instantiate_async(&mut *store).await?;
    command.wasi_cli_run().call_run(store).await
}

async fn run_p3(pre: &p3::bindings::CommandPre<Guest>, store: &mut Store<Guest>) -> Ran {
    let command = pre.instantiate_async(&mut *store).await?;
    let run = store.run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await);
    run.await?
}
