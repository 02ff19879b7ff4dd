//! A build on this machine: the same child process that a server starts, with a cache of this user's own.
//!
//! In flow the archive of a project and the flags, out flow the image in a layout that goes when it is dropped, and
//! the build's output.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use gilliam_builder::layout::digest_of;
use gilliam_model::{api::BuildOutcome, digest::Digest, image::Image};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
};

use crate::{
    archive::Archive,
    builds_flag::BuildsFlags,
    context::Context,
    failure::{CommandError, CommandResult},
};

/// All that a build finds in its environment, as on a server.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Largest outcome: an image of 64 process types with their limits and hosts stays far below.
const OUTCOME_BYTES_MAX: u64 = 1 << 20;

/// An image that was built here.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) digest: Digest,
    pub(super) image: Image,
    layout: PathBuf,
    _folder: tempfile::TempDir,
}

impl Built {
    /// The image layout that holds it.
    pub(super) fn layout(&self) -> &Path {
        &self.layout
    }
}

/// Builds an archive of the project in `project`.
pub(super) async fn build(
    context: &Context<'_>,
    flags: &BuildsFlags,
    project: &Path,
    mut archive: Archive,
    clean: bool,
) -> CommandResult<Built> {
    let folder = tempfile::tempdir().map_err(|e| CommandError::file("cannot make a temporary folder", &e))?;
    let (layout, sources) = (folder.path().join("images"), folder.path().join("project.tar"));
    let copied = std::fs::File::create(&sources).and_then(|mut to| std::io::copy(&mut archive.file, &mut to));
    copied.map_err(|e| CommandError::file("cannot write the archive", &e))?;
    let data = context.environment.data.clone().ok_or_else(|| {
        CommandError::failed("there is no home folder to keep what builds leave").hinted("set HOME")
    })?;
    flags.warn(context.ui);
    let command = flags.command(&context.environment, &data);
    let (program, args) = command.split_first().expect("the command names this program");
    let mut child = Command::new(program);
    child
        .args(args)
        .arg("--blobs")
        .arg(&layout)
        .arg("--archive")
        .arg(&sources);
    child
        .arg("--cache")
        .arg(data.join("local-builds"))
        .args(["--app", &key(project)]);
    child.args(clean.then_some("--clean"));
    child.env_clear().env("PATH", PATH).kill_on_drop(true);
    child
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (digest, image) = outcome(context, child).await?;
    Ok(Built {
        digest,
        image,
        layout,
        _folder: folder,
    })
}

async fn outcome(context: &Context<'_>, mut command: Command) -> CommandResult<(Digest, Image)> {
    let failed = |error: std::io::Error| CommandError::file("the build cannot be run", &error);
    let mut child = command.spawn().map_err(failed)?;
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let stdout = child.stdout.take().expect("piped");
    let shown = async {
        while let Ok(Some(line)) = lines.next_line().await {
            context.ui.note(&line);
        }
    };
    let read = async {
        let mut text = Vec::new();
        stdout
            .take(OUTCOME_BYTES_MAX)
            .read_to_end(&mut text)
            .await
            .map(|_| text)
    };
    let (text, ()) = tokio::join!(read, shown);
    let status = child.wait().await.map_err(failed)?;
    match serde_json::from_slice(&text.map_err(failed)?) {
        Ok(BuildOutcome::Sealed { digest, image }) => Ok((digest, image)),
        Ok(BuildOutcome::Refused { error }) => Err(CommandError::refused(&error)),
        Err(_) => Err(
            CommandError::failed(format!("the build ended with {status} and no result"))
                .hinted("it may have used too much memory or time; look at the last lines of its output"),
        ),
    }
}

/// The name of a project's cache: one for each folder.
fn key(project: &Path) -> String {
    let whole = project.canonicalize().unwrap_or_else(|_| project.to_path_buf());
    format!(
        "local.{}",
        digest_of(whole.as_os_str().as_encoded_bytes()).short()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_has_a_cache_of_its_own() {
        let folder = tempfile::tempdir().expect("folder");
        let key_of = |path: &str| key(&folder.path().join(path));
        assert_eq!(key_of("."), key(folder.path()));
        assert_ne!(key_of("a"), key_of("b"));
        assert!(key_of("a").starts_with("local."));
    }
}
