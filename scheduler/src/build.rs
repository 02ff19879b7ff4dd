//! One build: a child process that turns an archive into a sealed image.
//!
//! In: the command, the folder of blobs, the archive. Out: its output line by line while it runs, then the
//! image or why there is none. The child is in a process group of its own, which ends with it, with this
//! future, or at the limit.
//!
//! Invariant: what the child prints is bounded before it is kept or sent; its environment holds nothing of
//! ours.

use std::{ffi::OsString, io, path::Path, process::ExitStatus, process::Stdio, time::Duration};

use gilliam_model::{
    api::{ApiError, BuildOutcome, DeployEvent},
    code::Code,
    digest::Digest,
    image::Image,
    log::LINE_BYTES_MAX,
    text::excerpt,
};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    sync::mpsc,
};

use crate::refusal::Refusal;

/// Longest build: the first one of a large project, on a small machine.
pub(crate) const BUILD_MAX: Duration = Duration::from_secs(15 * 60);
/// Most lines of output that are passed on; more are counted.
const OUTPUT_LINES_MAX: u64 = 10_000;
/// Largest outcome: an image of 64 process types with their limits and hosts stays far below.
const OUTCOME_BYTES_MAX: u64 = 1 << 20;
/// All that a build finds in its environment.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to build, and with what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Build<'a> {
    /// The command, to which all else is added.
    pub(crate) command: &'a [OsString],
    /// The image layout that takes the result.
    pub(crate) blobs: &'a Path,
    /// The sources.
    pub(crate) archive: &'a Path,
    /// Whether the archive holds an image that was sealed elsewhere instead.
    pub(crate) is_image: bool,
    /// What earlier builds left.
    pub(crate) cache: Cache<'a>,
    /// Longest time it may take.
    pub(crate) wall_max: Duration,
}

/// Which cache a build uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cache<'a> {
    /// The folder of all.
    pub(crate) folder: &'a Path,
    /// The app's key in it.
    pub(crate) app: &'a str,
    /// Whether what is there is dropped first.
    pub(crate) clean: bool,
}

/// A build without an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("the build could not be started")]
    Start(#[source] io::Error),
    #[error("the build's output could not be read")]
    Read(#[source] io::Error),
    #[error("the build took longer than {} s and was stopped", .0.as_secs())]
    TooLong(Duration),
    #[error("the build was stopped by signal {signal}")]
    Killed { signal: i32 },
    #[error("the build ended with {status} and no result: {reason}")]
    NoOutcome { status: ExitStatus, reason: String },
    #[error("{}", .0.message)]
    Refused(ApiError),
    #[error("nobody waits for the build any more")]
    Abandoned,
}

impl BuildError {
    /// The error as its deploy answers it.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            BuildError::Refused(error) => {
                let refusal = Refusal::new(error.code, error.message);
                error.hint.into_iter().fold(refusal, Refusal::hint)
            }
            BuildError::TooLong(_) => Refusal::new(Code::B10, self.to_string()),
            BuildError::Killed { .. } => Refusal::new(Code::B13, self.to_string())
                .hint("it may have used too much memory or time; look at the last lines of its output"),
            _ => {
                let mut cause = self.to_string();
                if let Some(source) = std::error::Error::source(&self) {
                    cause = format!("{cause}: {source}");
                }
                Refusal::internal(&cause)
            }
        }
    }
}

/// Runs a build to its end; each line of its output goes to `events`.
///
/// It is abandoned when `events` closes, which is how a client that goes away stops its build.
pub(crate) async fn run(
    build: Build<'_>,
    events: &mpsc::Sender<DeployEvent>,
) -> Result<(Digest, Image), BuildError> {
    let (program, args) = build.command.split_first().ok_or_else(|| {
        BuildError::Start(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no build command is configured",
        ))
    })?;
    let mut command = Command::new(program);
    command
        .args(args)
        .arg("--blobs")
        .arg(build.blobs)
        .arg("--archive")
        .arg(build.archive)
        .args(build.is_image.then_some("--import"))
        .arg("--cache")
        .arg(build.cache.folder)
        .args(["--app", build.cache.app])
        .args(build.cache.clean.then_some("--clean"));
    command.env_clear().env("PATH", PATH);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(BuildError::Start)?;
    let group = Group::of(&child);
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let work = async {
        let ended = async {
            let status = child.wait().await;
            // What it left running would hold its pipes open.
            drop(group);
            status
        };
        tokio::join!(ended, read_outcome(stdout), forward(stderr, events))
    };
    let (status, outcome, ()) = tokio::select! {
        done = tokio::time::timeout(build.wall_max, work) => {
            done.map_err(|_| BuildError::TooLong(build.wall_max))?
        }
        () = events.closed() => return Err(BuildError::Abandoned),
    };
    judge(
        status.map_err(BuildError::Read)?,
        &outcome.map_err(BuildError::Read)?,
    )
}

fn judge(status: ExitStatus, outcome: &[u8]) -> Result<(Digest, Image), BuildError> {
    use std::os::unix::process::ExitStatusExt as _;
    match serde_json::from_slice(outcome) {
        Ok(BuildOutcome::Sealed { digest, image }) if status.success() => Ok((digest, image)),
        Ok(BuildOutcome::Refused { error }) => Err(BuildError::Refused(error)),
        parsed => match status.signal() {
            Some(signal) => Err(BuildError::Killed { signal }),
            None => {
                let reason = match parsed {
                    Err(error) => format!("{error} in {:?}", excerpt(&String::from_utf8_lossy(outcome))),
                    Ok(_) => "an image in spite of the failure".to_string(),
                };
                Err(BuildError::NoOutcome { status, reason })
            }
        },
    }
}

/// A process group that is killed when this is dropped, with everything that joined it.
#[derive(Debug)]
pub(crate) struct Group(Option<Pid>);

impl Group {
    pub(crate) fn of(child: &tokio::process::Child) -> Self {
        Self(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error says that nobody is left in it.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads a child's one line of JSON; nothing when there is far more.
pub(crate) async fn read_outcome(stdout: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut outcome = Vec::new();
    let mut stdout = stdout.take(OUTCOME_BYTES_MAX + 1);
    stdout.read_to_end(&mut outcome).await?;
    if outcome.len() as u64 > OUTCOME_BYTES_MAX {
        outcome.clear();
        tokio::io::copy(stdout.get_mut(), &mut tokio::io::sink()).await?;
    }
    Ok(outcome)
}

/// Passes lines on, cut to their limit, until the end of the output; the rest of a flood is read and counted.
async fn forward(mut stderr: impl AsyncRead + Unpin, events: &mpsc::Sender<DeployEvent>) {
    let mut splitter = Splitter::default();
    let mut chunk = [0u8; 8 << 10];
    let mut sent = 0;
    loop {
        let n = stderr.read(&mut chunk).await.unwrap_or(0);
        let ready = if n == 0 {
            splitter.finish()
        } else {
            splitter.push(&chunk[..n])
        };
        for line in ready {
            sent += 1;
            if sent <= OUTPUT_LINES_MAX && events.send(DeployEvent::Output { line }).await.is_err() {
                return;
            }
        }
        if n == 0 {
            break;
        }
    }
    if sent > OUTPUT_LINES_MAX {
        let line = format!("({} more lines of output were dropped)", sent - OUTPUT_LINES_MAX);
        // An error says that nobody waits any more.
        let _ = events.send(DeployEvent::Output { line }).await;
    }
}

/// Cuts output into lines of at most [`LINE_BYTES_MAX`] bytes; what is beyond in a line is dropped.
#[derive(Default)]
struct Splitter {
    line: Vec<u8>,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut pieces = bytes.split(|b| *b == b'\n');
        let mut lines = Vec::new();
        if let Some(first) = pieces.next() {
            self.extend(first);
        }
        for piece in pieces {
            lines.push(self.take());
            self.extend(piece);
        }
        lines
    }

    fn finish(&mut self) -> Vec<String> {
        if self.line.is_empty() {
            Vec::new()
        } else {
            vec![self.take()]
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.line);
        let mut text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
        crate::logs::cut(&mut text, LINE_BYTES_MAX);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn cache() -> Cache<'static> {
        Cache {
            folder: Path::new("/c"),
            app: "hello.1",
            clean: true,
        }
    }

    /// Runs a shell script as the build; gives its result and its lines.
    async fn build(script: &str, wall_max: Duration) -> (Result<(Digest, Image), BuildError>, Vec<String>) {
        let command: Vec<OsString> = ["/bin/sh", "-c", script, "build"].map(OsString::from).to_vec();
        let (sender, mut receiver) = mpsc::channel(16);
        let build = Build {
            command: &command,
            blobs: Path::new("/b"),
            archive: Path::new("/a.tar"),
            is_image: false,
            cache: cache(),
            wall_max,
        };
        let running = async {
            let result = run(build, &sender).await;
            drop(sender);
            result
        };
        let reading = async {
            let mut lines = Vec::new();
            while let Some(DeployEvent::Output { line }) = receiver.recv().await {
                lines.push(line);
            }
            lines
        };
        tokio::join!(running, reading)
    }

    #[tokio::test]
    async fn an_image_and_the_output_come_back() {
        let script = format!(
            r#"printf 'one\r\ntwo' >&2; echo "$@" >&2; env | grep -c HOME >&2
            echo '{{"type":"sealed","digest":"{DIGEST}","image":{{"schema_version":1,"processes":{{}}}}}}'"#
        );
        let (result, lines) = build(&script, BUILD_MAX).await;
        let (digest, image) = result.expect("sealed");
        assert_eq!((digest.to_string().as_str(), image.schema_version), (DIGEST, 1));
        assert_eq!(
            lines,
            [
                "one",
                "two--blobs /b --archive /a.tar --cache /c --app hello.1 --clean",
                "0"
            ]
        );
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_code_and_hint() {
        let script = r#"echo '{"type":"refused","error":{"code":"B11","message":"no","hint":"do"}}'; exit 1"#;
        let (result, _) = build(script, BUILD_MAX).await;
        let error = result.expect_err("refused").into_refusal().into_error();
        assert_eq!((error.code, error.hint.as_deref()), (Code::B11, Some("do")));
    }

    #[tokio::test]
    async fn a_build_that_dies_hangs_or_says_nothing_has_a_code() {
        let (killed, _) = build("kill -9 $$", BUILD_MAX).await;
        assert_eq!(
            killed.expect_err("killed").into_refusal().into_error().code,
            Code::B13
        );
        let (silent, _) = build("exit 3", BUILD_MAX).await;
        assert_eq!(
            silent.expect_err("silent").into_refusal().into_error().code,
            Code::A500
        );
        let (long, _) = build("exec sleep 600", Duration::from_millis(50)).await;
        assert_eq!(
            long.expect_err("long").into_refusal().into_error().code,
            Code::B10
        );
        let nothing = Build {
            command: &[],
            blobs: Path::new("/"),
            archive: Path::new("/"),
            is_image: false,
            cache: cache(),
            wall_max: BUILD_MAX,
        };
        let (sender, _receiver) = mpsc::channel(1);
        assert!(matches!(run(nothing, &sender).await, Err(BuildError::Start(_))));
    }

    #[tokio::test]
    async fn what_a_build_leaves_running_ends_with_it() {
        // The grandchild holds both pipes open, so the build could not end while it lives.
        let script = r#"sleep 600 & echo '{"type":"refused","error":{"code":"B12","message":"no"}}'"#;
        let (result, _) = build(script, BUILD_MAX).await;
        assert!(matches!(result, Err(BuildError::Refused(_))));
    }

    #[tokio::test]
    async fn floods_are_cut_and_counted() {
        let script = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; yes | head -n 10010 >&2; exit 1";
        let (_, lines) = build(script, BUILD_MAX).await;
        assert_eq!(lines[0].len(), LINE_BYTES_MAX);
        assert_eq!(lines.len() as u64, OUTPUT_LINES_MAX + 1);
        assert_eq!(
            lines.last().expect("note"),
            "(11 more lines of output were dropped)"
        );
    }

    proptest::proptest! {
        #[test]
        fn lines_do_not_depend_on_how_output_arrives(
            output in proptest::collection::vec(proptest::sample::select(b"ab\r\n\xc3\xa9".to_vec()), 0..200),
            cuts in proptest::collection::vec(1_usize..20, 1..40),
        ) {
            let mut whole = Splitter::default();
            let mut want = whole.push(&output);
            want.extend(whole.finish());
            let (mut pieces, mut got, mut rest) = (Splitter::default(), Vec::new(), &output[..]);
            for cut in cuts.into_iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                got.extend(pieces.push(piece));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            got.extend(pieces.finish());
            proptest::prop_assert_eq!(got, want);
        }
    }

    #[tokio::test]
    async fn a_build_nobody_waits_for_is_stopped() {
        let command: Vec<OsString> = ["/bin/sh", "-c", "exec sleep 600"].map(OsString::from).to_vec();
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let build = Build {
            command: &command,
            blobs: Path::new("/"),
            archive: Path::new("/"),
            is_image: false,
            cache: cache(),
            wall_max: BUILD_MAX,
        };
        assert!(matches!(run(build, &sender).await, Err(BuildError::Abandoned)));
    }
}
