//! What a pack needs of the machine: found by its script `tools`, put together by its script `setup`.
//!
//! Both run outside the sandbox, as the user of the server or of the operator who calls, and see neither a
//! project nor a command.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
};

use super::{LAST_LINES, PATH, Pack, PackError, shipped};

/// The scripts say that the machine lacks something, on stderr.
const EXIT_UNAVAILABLE: i32 = 69;
/// Starts a line of theirs that says what to do.
const HINT: &str = "hint: ";
/// Longest line of `setup` that is passed on.
const LINE_BYTES_MAX: u64 = 4 << 10;

/// What a pack needs of the machine, and has there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// Folders to show the build, by the names of their variables.
    pub folders: Vec<(String, PathBuf)>,
    /// The versions of the tools, for people.
    pub versions: Vec<String>,
    /// `HOST[:PORT]` from which a project's dependencies come.
    pub registries: Vec<String>,
}

impl Pack {
    /// Looks for the pack's tools on this machine; `folder` holds a folder of tools for each pack.
    pub fn tools(&self, folder: Option<&Path>) -> Result<Tools, PackError> {
        let script = self.folder.join("tools");
        if !script.is_file() {
            return Ok(Tools::default());
        }
        let mut command = Command::new(&script);
        command.env_clear().env("PATH", PATH).stdin(Stdio::null());
        command.env("GILLIAM_PACK", &self.folder).envs(home());
        command.envs(folder.map(|folder| ("GILLIAM_TOOLS", folder.join(&self.name))));
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().map_err(|source| self.broken(source))?;
        if status.success() {
            return Ok(found(&String::from_utf8_lossy(&stdout)));
        }
        let said = String::from_utf8_lossy(&stderr);
        Err(self.not_ready("tools", status, said.lines().map(str::to_string).collect()))
    }

    /// Whether there is something to set up.
    pub fn has_setup(&self) -> bool {
        self.folder.join("setup").is_file()
    }

    /// Puts the pack's tools together in its own folder below `folder`; `output` gets each line.
    ///
    /// It has the caller's environment: clients of registries are configured there.
    pub fn setup(&self, folder: &Path, output: &mut dyn FnMut(&str)) -> Result<(), PackError> {
        let own = folder.join(&self.name);
        fs::create_dir_all(&own).map_err(|source| self.broken(source))?;
        let own = own.canonicalize().map_err(|source| self.broken(source))?;
        let wit = tempfile::tempdir().map_err(|source| self.broken(source))?;
        shipped::write_wit(wit.path()).map_err(|source| self.broken(source))?;
        let mut command = Command::new(self.folder.join("setup"));
        command
            .env("GILLIAM_TOOLS", &own)
            .env("GILLIAM_PACK", &self.folder)
            .env("GILLIAM_WIT", wit.path());
        // Progress is on stderr; what its tools print elsewhere is nobody's data.
        command
            .current_dir(&own)
            .stdin(Stdio::null())
            .stdout(io::stderr());
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.broken(source))?;
        let mut last: Vec<String> = Vec::new();
        let mut said = BufReader::new(child.stderr.take().expect("stderr is piped"));
        loop {
            let mut line = Vec::new();
            let read = said.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|source| self.broken(source))? == 0 {
                break;
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_string();
            // A hint is the error's, after it.
            if !line.starts_with(HINT) {
                output(&line);
            }
            last.push(line);
            if last.len() > LAST_LINES {
                last.remove(0);
            }
        }
        let status = child.wait().map_err(|source| self.broken(source))?;
        if status.success() {
            return Ok(());
        }
        if status.code() == Some(EXIT_UNAVAILABLE) {
            // The progress before it was printed already.
            let reason = last.iter().rposition(|line| !line.starts_with(HINT));
            last.drain(..reason.unwrap_or_default());
        }
        Err(self.not_ready("setup", status, last))
    }

    fn not_ready(&self, script: &str, status: ExitStatus, said: Vec<String>) -> PackError {
        let (hints, reasons): (Vec<String>, Vec<String>) =
            said.into_iter().partition(|line| line.starts_with(HINT));
        let reason = match status.code() {
            Some(EXIT_UNAVAILABLE) => reasons.join("; "),
            _ => format!("its script {script} ended with {status}: {}", reasons.join("; ")),
        };
        PackError::NotReady {
            pack: self.name.clone(),
            reason,
            hint: hints.first().map(|hint| hint[HINT.len()..].to_string()),
        }
    }
}

/// The home folder of this user, whatever the environment says: a server's has none.
fn home() -> Option<(&'static str, PathBuf)> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()??;
    Some(("HOME", user.dir))
}

/// Reads what `tools` printed: `folder NAME PATH`, `version TEXT` and `registry HOST[:PORT]`.
fn found(text: &str) -> Tools {
    let mut tools = Tools::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("folder", rest)) => {
                if let Some((name, path)) = rest.split_once(' ') {
                    tools.folders.push((name.to_string(), path.into()));
                }
            }
            Some(("version", text)) => tools.versions.push(text.to_string()),
            Some(("registry", host)) => tools.registries.push(host.to_string()),
            _ => {}
        }
    }
    tools
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_prints_is_read_and_all_else_is_not() {
        let tools = found(
            "folder RUST /usr/lib/a b\nversion rustc 1.95\nregistry example.com:8443\nnoise\nfolder X\n",
        );
        assert_eq!(
            tools.folders,
            [("RUST".to_string(), PathBuf::from("/usr/lib/a b"))]
        );
        assert_eq!(tools.versions, ["rustc 1.95"]);
        assert_eq!(tools.registries, ["example.com:8443"]);
    }
}
