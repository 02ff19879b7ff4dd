//! Starts compile children, few at a time, and reads how they ended.

use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gilliam_engine::Artefact;
use gilliam_model::{code::Code, name::AppName};
use tokio::{io::AsyncReadExt as _, process::Command, sync::Semaphore};

use super::ArtefactError;
use crate::compile_child::EXIT_COMPONENT;

/// Children at once: each uses all cores and up to gigabytes.
const CHILDREN_MAX: usize = 1;
/// Wall time of a child; its CPU time has a limit of its own, and a busy machine takes longer.
const WALL_MAX: Duration = Duration::from_secs(300);
/// Bytes of a child's message that are kept.
const MESSAGE_BYTES_MAX: u64 = 4 << 10;

#[derive(Debug)]
pub(super) struct Compiler {
    command: Vec<OsString>,
    key: PathBuf,
    places: Semaphore,
    turns: Mutex<Turns>,
}

/// Who may wait for a place: one component of each app, so that nobody waits behind all that another app
/// brings.
type Turns = HashMap<AppName, Arc<tokio::sync::Mutex<()>>>;

impl Compiler {
    pub(super) fn new(command: Vec<OsString>, key: PathBuf) -> Self {
        Self {
            command,
            key,
            places: Semaphore::new(CHILDREN_MAX),
            turns: Mutex::default(),
        }
    }

    fn turn(&self, app: &AppName) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(app.clone()).or_default().clone()
    }

    /// Compiles the component in `blob`, which `app` was the first to want, into the sealed file `out`.
    pub(super) async fn compile(
        &self,
        app: &AppName,
        artefact: &Artefact,
        blob: &Path,
        out: &Path,
    ) -> Result<(), ArtefactError> {
        let turn = self.turn(app);
        let _turn = turn.lock().await;
        let _place = self
            .places
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let cannot = |error: std::io::Error| {
            ArtefactError::new(Code::R99, format!("cannot run the compiler: {error}"))
        };
        let mut child = self.child(artefact, blob, out).spawn().map_err(cannot)?;
        let stderr = child.stderr.take();
        let mut message = Vec::new();
        let run = async {
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr)
                    .take(MESSAGE_BYTES_MAX)
                    .read_to_end(&mut message)
                    .await;
                // The rest is read away, so that the child does not wait for a reader.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            child.wait().await
        };
        let status = match tokio::time::timeout(WALL_MAX, run).await {
            Ok(status) => status.map_err(cannot)?,
            Err(_) => {
                let _ = child.kill().await;
                let message = format!("compiling took longer than {} s", WALL_MAX.as_secs());
                return Err(ArtefactError::new(Code::B10, message));
            }
        };
        judge(status, String::from_utf8_lossy(&message).trim())
    }

    fn child(&self, artefact: &Artefact, blob: &Path, out: &Path) -> Command {
        let (program, first) = self
            .command
            .split_first()
            .expect("the node was given a compile command");
        let mut child = Command::new(program);
        child.args(first);
        child.arg("--shape").arg(artefact.shape.as_str());
        child.arg("--engine").arg(artefact.engine.name());
        child.arg("--component").arg(blob);
        child.arg("--digest").arg(artefact.digest.to_string());
        child.arg("--key").arg(&self.key);
        child.arg("--out").arg(out);
        // Nothing of the node's environment is the compiler's business.
        child
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        child.process_group(0).kill_on_drop(true);
        child
    }
}

fn judge(status: ExitStatus, message: &str) -> Result<(), ArtefactError> {
    if status.success() {
        return Ok(());
    }
    let code = match status.code() {
        Some(code) if code == i32::from(EXIT_COMPONENT) => Code::B12,
        Some(_) => Code::R99,
        // A signal: out of CPU time or of address space.
        None => Code::B10,
    };
    let message = match message {
        "" => format!("the compiler ended with {status}"),
        message => message.to_owned(),
    };
    Err(ArtefactError::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compiler whose children write a line each, and take a moment.
    fn slow(list: &Path) -> Compiler {
        let script = format!("echo compiled >> {}; sleep 0.05", list.display());
        let command = ["/bin/sh", "-c", &script, "sh"].map(OsString::from).to_vec();
        Compiler::new(command, PathBuf::from("key"))
    }

    #[tokio::test]
    async fn an_app_with_many_components_lets_others_have_their_turn() {
        let folder = tempfile::tempdir().expect("folder");
        let list = folder.path().join("list");
        let compiler = slow(&list);
        let artefact = Artefact {
            shape: gilliam_model::image::Shape::CommandP2,
            engine: gilliam_engine::EngineKind::SlabP2,
            digest: gilliam_model::digest::Digest::from_sha256([0; 32]),
        };
        let compile = |app: &'static str| {
            let (compiler, artefact) = (&compiler, &artefact);
            async move {
                let (app, blob) = (app.parse().expect("name"), Path::new("blob"));
                let compiled = compiler
                    .compile(&app, artefact, blob, Path::new(app.as_str()))
                    .await;
                compiled.expect("compiled");
            }
        };
        let greedy = futures::future::join_all((0..6).map(|_| compile("greedy")));
        let quiet = async {
            let written = || std::fs::read_to_string(&list).unwrap_or_default();
            while written().is_empty() {
                tokio::task::yield_now().await;
            }
            compile("quiet").await;
            written().lines().count()
        };
        let (_, before_quiet) = tokio::join!(greedy, quiet);
        assert!(before_quiet <= 3, "{before_quiet} of seven were compiled first");
    }
}
