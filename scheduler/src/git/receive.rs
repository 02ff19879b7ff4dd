//! The child that reads what a push brought: the pack in, the archive of the commit out, or why not.
//!
//! It checks the objects (form, limits, that none is missing) and writes them into the push's own folder. It is in a
//! process group of its own, which ends with it, with this future, or at the limit.
//!
//! Invariant: what a client sends is counted before it is passed on; the child's environment holds nothing of ours.

use std::{ffi::OsString, io, path::Path, process::Stdio, time::Duration};

use gilliam_model::{api::ApiError, code::Code, push::ReceiveOutcome};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    build::{Group, PATH, read_outcome},
    git::{
        repository::{Incoming, Repository},
        request::ObjectId,
    },
    refusal::Refusal,
};

/// Bytes of one pack: the whole history of a project at its first push.
pub(crate) const PACK_BYTES_MAX: u64 = 512 << 20;
/// Objects of one pack: a project of many years has some hundred thousand.
pub(crate) const OBJECTS_MAX: u32 = 1_000_000;
/// Longest pause in an upload: a client that is still there sends something.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a refused push that are read all the same: git looks for the answer only when it has sent everything.
const DISCARD_BYTES_MAX: u64 = 2 << 30;
/// Longest time spent on that.
const DISCARD_MAX: Duration = Duration::from_secs(60);
/// Longest time from the last byte to the archive: the largest pack takes a minute on a small machine.
const UNPACK_MAX: Duration = Duration::from_secs(5 * 60);
/// Longest time to make one pack of many.
const REPACK_MAX: Duration = Duration::from_secs(2 * 60);
/// What a pack begins with: a word, its version, how many objects it has.
const PACK_HEAD_BYTES: usize = 12;
/// The variable by which OpenSSL, and who follows it, is told of authorities.
const AUTHORITIES: &str = "SSL_CERT_FILE";
/// Bytes copied at a time.
const COPY_BYTES: usize = 64 << 10;

/// A push that is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("git cannot be started")]
    Start(#[source] io::Error),
    #[error("the push did not arrive whole")]
    Cut(#[source] io::Error),
    #[error("the push stopped arriving for {} s", IDLE_MAX.as_secs())]
    Stopped,
    #[error("what was pushed is not a pack")]
    NoPack,
    #[error("the push has {objects} objects; at most {OBJECTS_MAX} are taken")]
    TooMany { objects: u32 },
    #[error("the push has more than {PACK_BYTES_MAX} bytes")]
    TooLarge,
    #[error("reading the push took longer than {} s", UNPACK_MAX.as_secs())]
    TooLong,
    #[error("reading the push ended without a result: {0}")]
    NoOutcome(String),
    #[error("{}", .0.message)]
    Refused(ApiError),
}

/// A commit that is ready to be built.
#[derive(Debug)]
pub(crate) struct Received {
    /// Its short id and first line.
    pub(crate) message: Option<String>,
    /// What its author may not expect.
    pub(crate) hints: Vec<String>,
}

/// A child that reads a push.
pub(crate) struct Receiving {
    child: Child,
    group: Group,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

/// Starts the child for the objects of `commit`.
pub(crate) fn start(
    command: &[OsString],
    repository: &Repository,
    incoming: &Incoming,
    commit: &ObjectId,
) -> Result<Receiving, ReceiveError> {
    let mut command = self::command(command, "receive", incoming.path()).map_err(ReceiveError::Start)?;
    command.arg("--repository").arg(repository.path());
    command.arg("--objects").arg(incoming.objects());
    command.arg("--archive").arg(incoming.archive());
    command.arg("--modules").arg(incoming.modules());
    command.args(["--commit", &commit.to_string()]);
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(ReceiveError::Start)?;
    Ok(Receiving {
        group: Group::of(&child),
        stdin: child.stdin.take().expect("stdin is piped"),
        stdout: child.stdout.take().expect("stdout is piped"),
        child,
    })
}

/// A command of the git child, its output piped.
pub(crate) fn command(command: &[OsString], role: &str, tmp: &Path) -> io::Result<Command> {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no git command is configured"))?;
    let mut command = Command::new(program);
    command.args(args).arg(role);
    command.env_clear().env("PATH", PATH).env("TMPDIR", tmp);
    // Where an operator's own authorities are: submodules are fetched by HTTPS.
    command.envs(std::env::var_os(AUTHORITIES).map(|file| (AUTHORITIES, file)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}

/// Makes one pack of many. What fails or is stopped leaves the repository as it was.
pub(crate) async fn repack(
    command: &[OsString],
    repository: &Repository,
    tmp: &Path,
) -> Result<(), ReceiveError> {
    let mut command = self::command(command, "repack", tmp).map_err(ReceiveError::Start)?;
    let child = command.arg("--repository").arg(repository.path()).spawn();
    let child = child.map_err(ReceiveError::Start)?;
    let _group = Group::of(&child);
    match tokio::time::timeout(REPACK_MAX, child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(ReceiveError::NoOutcome(output.status.to_string())),
        Ok(Err(error)) => Err(ReceiveError::NoOutcome(error.to_string())),
        Err(_) => Err(ReceiveError::TooLong),
    }
}

/// Reads on to the end and forgets, within limits.
pub(crate) async fn discard(from: &mut (impl AsyncRead + Unpin)) {
    let mut rest = from.take(DISCARD_BYTES_MAX);
    let mut nowhere = tokio::io::sink();
    let reading = tokio::io::copy(&mut rest, &mut nowhere);
    // Either way the client gets its answer next.
    let _ = tokio::time::timeout(DISCARD_MAX, reading).await;
}

impl Receiving {
    /// Passes the pack on to its end. A child that has seen enough before is no error here: it says why.
    pub(crate) async fn feed(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<(), ReceiveError> {
        let mut buffer = vec![0; COPY_BYTES];
        let mut filled = 0;
        while filled < PACK_HEAD_BYTES {
            match next(from, &mut buffer[filled..PACK_HEAD_BYTES]).await? {
                0 => return Err(ReceiveError::NoPack),
                n => filled += n,
            }
        }
        check_head(&buffer[..PACK_HEAD_BYTES])?;
        let mut bytes = 0;
        while filled > 0 {
            bytes += filled as u64;
            if bytes > PACK_BYTES_MAX {
                return Err(ReceiveError::TooLarge);
            }
            if self.stdin.write_all(&buffer[..filled]).await.is_err() {
                discard(from).await;
                break;
            }
            filled = next(from, &mut buffer).await?;
        }
        Ok(())
    }

    /// Waits for the archive.
    pub(crate) async fn finish(mut self) -> Result<Received, ReceiveError> {
        drop(self.stdin);
        let work = async {
            let ended = async {
                let status = self.child.wait().await;
                drop(self.group);
                status
            };
            tokio::join!(ended, read_outcome(self.stdout))
        };
        let (status, outcome) = tokio::time::timeout(UNPACK_MAX, work)
            .await
            .map_err(|_| ReceiveError::TooLong)?;
        let broken = |error: io::Error| ReceiveError::NoOutcome(error.to_string());
        let (status, outcome) = (status.map_err(broken)?, outcome.map_err(broken)?);
        match serde_json::from_slice(&outcome) {
            Ok(ReceiveOutcome::Archived { message, hints }) if status.success() => {
                Ok(Received { message, hints })
            }
            Ok(ReceiveOutcome::Refused { error }) => Err(ReceiveError::Refused(error)),
            _ => Err(ReceiveError::NoOutcome(status.to_string())),
        }
    }
}

async fn next(from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<usize, ReceiveError> {
    match tokio::time::timeout(IDLE_MAX, from.read(buffer)).await {
        Ok(read) => read.map_err(ReceiveError::Cut),
        Err(_) => Err(ReceiveError::Stopped),
    }
}

/// Refuses a pack for what its first bytes say.
fn check_head(head: &[u8]) -> Result<(), ReceiveError> {
    let count = head[8..].try_into().map(u32::from_be_bytes);
    match count {
        Ok(objects) if head.starts_with(b"PACK") && objects > OBJECTS_MAX => {
            Err(ReceiveError::TooMany { objects })
        }
        Ok(_) if head.starts_with(b"PACK") => Ok(()),
        _ => Err(ReceiveError::NoPack),
    }
}

impl ReceiveError {
    /// The error as it is told to whoever pushes.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            ReceiveError::Refused(error) => {
                let refusal = Refusal::new(error.code, error.message);
                error.hint.into_iter().fold(refusal, Refusal::hint)
            }
            ReceiveError::TooMany { .. } | ReceiveError::TooLarge | ReceiveError::TooLong => {
                Refusal::new(Code::B10, self.to_string())
                    .hint("gilliam deploy sends the files of one commit, without its history")
            }
            ReceiveError::Cut(_) | ReceiveError::Stopped | ReceiveError::NoPack => {
                Refusal::new(Code::B14, self.to_string()).hint("push again")
            }
            ReceiveError::Start(source) => Refusal::internal(&format!("git cannot be started: {source}")),
            ReceiveError::NoOutcome(_) => {
                tracing::error!(error = %self, "a push was not read");
                Refusal::new(Code::B13, "reading what was pushed was stopped")
                    .hint("it may need too much memory or time: gilliam deploy sends one commit without its history")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_says_at_once_when_it_is_too_much() {
        let head = |objects: u32| [b"PACK\0\0\0\x02".as_slice(), &objects.to_be_bytes()].concat();
        assert!(check_head(&head(OBJECTS_MAX)).is_ok());
        assert!(matches!(
            check_head(&head(OBJECTS_MAX + 1)),
            Err(ReceiveError::TooMany { .. })
        ));
        assert!(matches!(check_head(b"GIF89a......"), Err(ReceiveError::NoPack)));
    }
}
