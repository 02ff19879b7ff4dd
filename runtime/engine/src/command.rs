//! Instances that run a command to its end: workers, one-off runs, servers of their own.
//!
//! In flows a configuration, out flows one exit reason. A command runs on the guest threads for as long as
//! it likes: its fuel is metered without bound, its CPU share and memory are limited.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use gilliam_model::code::Code;
use tokio::sync::watch;
use wasmtime::Store;
use wasmtime_wasi::WasiView as _;

use crate::{
    config::InstanceConfig,
    failure::{self, Failure, StartError},
    guest::{self, Guest, Shared},
    load::{Loaded, Pre},
    stdio::StopNotice,
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

/// A running command. Dropping it kills it.
pub struct CommandInstance {
    shared: Arc<Shared>,
    notice: StopNotice,
    stop: watch::Sender<bool>,
    task: GuestTask<Result<(), Panicked>>,
    exit: watch::Receiver<Option<ExitReason>>,
}

impl fmt::Debug for CommandInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandInstance")
            .field("label", &self.shared.label())
            .field("exit", &*self.exit.borrow())
            .finish_non_exhaustive()
    }
}

impl CommandInstance {
    /// Starts the command on the guest threads. Fails with A422 for a bad configuration; whatever happens
    /// in the guest, its instantiation included, is an exit reason.
    pub fn start(loaded: &Loaded, config: InstanceConfig) -> Result<Self, StartError> {
        Self::start_with(loaded, config, None)
    }

    /// Starts a command whose end is told to `on_exit`, perhaps before this returns.
    pub fn start_and_tell(
        loaded: &Loaded,
        config: InstanceConfig,
        on_exit: OnExit,
    ) -> Result<Self, StartError> {
        Self::start_with(loaded, config, Some(on_exit))
    }

    fn start_with(
        loaded: &Loaded,
        config: InstanceConfig,
        on_exit: Option<OnExit>,
    ) -> Result<Self, StartError> {
        let shared = Shared::new(loaded.engines(), config)?;
        let slots = loaded.slots();
        let tenant = shared.tenant();
        let idle = || Some(loaded.warm().evict()?.into_slot()?.passed_to(tenant));
        let slot = slots.try_take(tenant).or_else(idle).ok_or_else(|| {
            let message = format!("all {} slots of the node are taken", slots.total());
            Failure::new(Code::R22, message)
        })?;
        let (stop, stopped) = watch::channel(false);
        let (exited, exit) = watch::channel(None);
        let notice = StopNotice::new(stopped);
        let run = {
            let (loaded, shared, notice) = (loaded.clone(), shared.clone(), notice.clone());
            async move {
                let reason = run(&loaded, &shared, notice).await;
                drop(slot);
                reason
            }
        };
        let run = Metered::new(run, shared.cpu.clone(), None);
        let ended = Ended {
            shared: shared.clone(),
            reason: ExitReason::Killed { code: None },
            exited,
            on_exit,
        };
        let task = async move {
            let reason = match run.await {
                Ok(reason) => reason,
                Err(panicked) => trap(Failure::panicked(&panicked)),
            };
            // Cut off, it tells its end as it is dropped, after the guest: in the order of their first use.
            ended.with(reason);
        };
        let task = loaded.engines().threads().adopt(&shared.cpu, task);
        Ok(Self {
            shared,
            notice,
            stop,
            task,
            exit,
        })
    }

    /// Waits for its end.
    pub async fn wait(&self) -> ExitReason {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(ExitReason::Killed { code: None }),
            Err(_) => ExitReason::Killed { code: None },
        }
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
        self.stop.send_replace(true);
        self.notice.heard()
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

/// Reports the end, also when the task is dropped with its runtime.
struct Ended {
    shared: Arc<Shared>,
    reason: ExitReason,
    exited: watch::Sender<Option<ExitReason>>,
    on_exit: Option<OnExit>,
}

impl Ended {
    fn with(mut self, reason: ExitReason) {
        if let ExitReason::Trap { code, message } = &reason {
            self.shared.trapped(&Failure::new(*code, message.clone()));
        }
        self.reason = reason;
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.log.settle();
        self.exited.send_replace(Some(self.reason.clone()));
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

async fn run(loaded: &Loaded, shared: &Arc<Shared>, notice: StopNotice) -> ExitReason {
    let open = match loaded.open().await {
        Ok(open) => open,
        Err(failure) => return trap(failure),
    };
    let mut store = guest::store(loaded.engine(), shared, Some(notice));
    // Made here and not when the guest first asks, on its own stack: that would touch more pages of it.
    store.data_mut().ctx();
    let probed = shared.clone();
    store.data_mut().fuel_probe = Some(Box::new(move |left| book(&probed, left)));
    let mut running = Running {
        store,
        shared: shared.clone(),
    };
    let store = &mut running.store;
    let result = async {
        store.set_fuel(u64::MAX)?;
        match &open.value {
            Pre::CommandP2(pre) => {
                let command = pre.instantiate_async(&mut *store).await?;
                command.wasi_cli_run().call_run(&mut *store).await
            }
            Pre::CommandP3(pre) => {
                let command = pre.instantiate_async(&mut *store).await?;
                store
                    .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
                    .await?
            }
            Pre::HttpP2(_) | Pre::HttpP3(_) => wasmtime::bail!("an http component is no command"),
        }
    };
    match result.await {
        Ok(Ok(())) => ExitReason::Ok,
        Ok(Err(())) => ExitReason::ExitCode(1),
        Err(error) => match failure::exit_code(&error) {
            Some(0) => ExitReason::Ok,
            Some(code) => ExitReason::ExitCode(code),
            None => trap(Failure::of(&error, running.store.data().memory.refused())),
        },
    }
}
