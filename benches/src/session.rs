//! What every scenario of one run needs to know.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::Options;

/// Longest wait for a state of a server.
const DEADLINE: Duration = Duration::from_secs(120);
/// Between two looks at a state.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Asks a run to end; what was measured until then is kept.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks.
    pub fn request(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// One run.
pub(crate) struct Session<'a> {
    pub(crate) options: &'a Options,
    pub(crate) stop: &'a Stop,
    progress: &'a dyn Fn(&str),
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("options", self.options)
            .finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(options: &'a Options, stop: &'a Stop, progress: &'a dyn Fn(&str)) -> Self {
        Self {
            options,
            stop,
            progress,
        }
    }

    /// Says what is being done.
    pub(crate) fn note(&self, text: &str) {
        (self.progress)(text);
    }

    /// The first when the run is a quick one, else the second.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.options.is_quick { quick } else { full }
    }

    /// Length of one measurement under load.
    pub(crate) fn load_time(&self) -> Duration {
        let by_mode = self.pick(Duration::from_millis(400), Duration::from_secs(3));
        self.options.load.unwrap_or(by_mode)
    }

    /// Ends what is being done when the run is to end.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.stop.is_requested() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// The value of `what` as soon as it has one.
    pub(crate) fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        self.wait_for(what, DEADLINE, look)
    }

    /// The same, with a deadline of its own.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        while start.elapsed() < deadline {
            self.check()?;
            if let Some(value) = look() {
                return Ok(value);
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
        bail!("waited {deadline:?} in vain for {what}")
    }

    /// Waits for a while that belongs to the measurement.
    pub(crate) fn pass(&self, time: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.check()?;
            std::thread::park_timeout(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// The wasmtime to compare with.
    pub(crate) fn wasmtime(&self) -> Option<PathBuf> {
        self.options.wasmtime.clone().or_else(|| self.on_path("wasmtime"))
    }

    /// The nginx to compare with.
    pub(crate) fn nginx(&self) -> Option<PathBuf> {
        let debian = Path::new("/usr/sbin/nginx");
        let found = self.options.nginx.clone().or_else(|| self.on_path("nginx"));
        found.or_else(|| debian.is_file().then(|| debian.to_owned()))
    }

    /// The etcd that keeps the state of a cluster.
    pub(crate) fn etcd(&self) -> Option<PathBuf> {
        self.on_path("etcd")
    }

    fn on_path(&self, program: &str) -> Option<PathBuf> {
        let path = self.options.search_path.as_ref()?;
        std::env::split_paths(path)
            .map(|folder| folder.join(program))
            .find(|file| file.is_file())
    }
}
