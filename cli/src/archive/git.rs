//! The git repository of a folder, through the `git` program.
//!
//! Invariant: no hook and no monitor of the repository runs, and what is deployed has passed none of its
//! filters.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
};

use crate::git_child::Received;

/// Variables of a surrounding git (in a hook, say) that would point ours at another repository.
const REDIRECTING: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_EXTERNAL_DIFF",
    "GIT_PREFIX",
];
/// Longest header that `cat-file --batch` writes before an object.
const OBJECT_HEADER_BYTES_MAX: u64 = 4 << 10;
/// Most files of a commit that are looked at: five times what is built. A tree of trees can name more files than
/// there are atoms in a few kilobytes.
pub(crate) const TREE_FILES_MAX: usize = 100_000;
/// Longest line of a tree: paths of Linux have 4,096 bytes.
const TREE_LINE_BYTES_MAX: u64 = 8 << 10;

/// Where objects are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The repository that a folder is the top of, and those of its submodules.
    Folder(&'a Checkout),
    /// What was just pushed, on a server.
    Received(&'a Received),
}

impl Source<'_> {
    fn command(self) -> Command {
        match self {
            Source::Folder(checkout) => {
                let mut command = git(&checkout.dir);
                if !checkout.modules.is_empty() {
                    command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &checkout.modules);
                }
                command
            }
            Source::Received(received) => received.command(),
        }
    }
}

/// Most folders below `.git/modules` that are looked at.
const MODULE_FOLDERS_MAX: usize = 1_000;

/// A folder that is the top of a repository.
#[derive(Debug)]
pub(crate) struct Checkout {
    pub(crate) dir: PathBuf,
    /// Where git keeps the objects of submodules that were fetched, joined by colons.
    modules: OsString,
}

impl Checkout {
    pub(crate) fn at(dir: &Path) -> Self {
        let common = output(git(dir).args(["rev-parse", "--path-format=absolute", "--git-common-dir"]));
        let modules = match common {
            Ok(Ok(common)) => object_folders(&Path::new(&common).join("modules")),
            _ => Vec::new(),
        };
        // A colon separates, a quote begins a quoted one.
        let is_plain = |path: &&PathBuf| {
            !path
                .as_os_str()
                .as_bytes()
                .iter()
                .any(|b| matches!(b, b':' | b'"'))
        };
        let plain: Vec<&PathBuf> = modules.iter().filter(is_plain).collect();
        Self {
            dir: dir.to_path_buf(),
            modules: std::env::join_paths(plain).unwrap_or_default(),
        }
    }
}

/// The folders of objects below one of submodules' repositories, which have their own submodules below them.
fn object_folders(modules: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![modules.to_path_buf()];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        looked_at += 1;
        if looked_at > MODULE_FOLDERS_MAX {
            break;
        }
        let (objects, own) = (folder.join("objects"), folder.join("modules"));
        if folder.join("HEAD").is_file() && objects.is_dir() {
            found.push(objects);
            folders.push(own);
            continue;
        }
        let inside = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(inside.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    found
}

/// What a folder is to git.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not the top of a repository, or there is no git.
    NoTop,
    /// The top of a repository that has no commit yet.
    NoCommit,
    /// The top of a repository; the id of HEAD.
    Head { commit: String },
    /// git refuses the repository.
    Refused { reason: String },
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeFile {
    pub(crate) mode: String,
    pub(crate) id: String,
    /// None for a submodule.
    pub(crate) bytes: Option<u64>,
    /// Relative to the top, as git has it.
    pub(crate) path: Vec<u8>,
}

fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.args([
        "--no-optional-locks",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.hooksPath=/dev/null",
    ]);
    command.arg("-C").arg(dir);
    for name in REDIRECTING {
        command.env_remove(name);
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1");
    command.stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> io::Result<Result<String, String>> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output()?;
    Ok(match status.success() {
        true => Ok(String::from_utf8_lossy(&stdout).trim_end().to_string()),
        false => Err(String::from_utf8_lossy(&stderr)
            .lines()
            .next()
            .unwrap_or("git failed")
            .to_string()),
    })
}

/// The URL of a remote; none without git, a repository or the remote.
pub(crate) fn remote_url(dir: &Path, remote: &str) -> Option<String> {
    let key = format!("remote.{remote}.url");
    output(git(dir).args(["config", "--get", &key]))
        .ok()?
        .ok()
        .filter(|url| !url.is_empty())
}

/// Changes a setting of the repository around `dir`; an error is git's own words.
pub(crate) fn configure(dir: &Path, how: &str, key: &str, value: &str) -> Result<(), String> {
    match output(git(dir).args(["config", "--local", how, key, value])) {
        Ok(done) => done.map(drop),
        Err(error) => Err(format!("git cannot be run: {error}")),
    }
}

/// Whether any folder from `dir` upward is a repository's top.
pub(crate) fn is_inside_repository(dir: &Path) -> bool {
    dir.ancestors().any(|folder| folder.join(".git").exists())
}

/// What `dir` is to git.
pub(crate) fn standing(dir: &Path) -> Standing {
    if !dir.join(".git").exists() {
        return Standing::NoTop;
    }
    match output(git(dir).args(["rev-parse", "--show-toplevel"])) {
        Err(_) => return Standing::NoTop,
        Ok(Err(reason)) => return Standing::Refused { reason },
        Ok(Ok(top)) => {
            let is_top = |top: &Path| Some(top.canonicalize().ok()? == dir.canonicalize().ok()?);
            if is_top(&PathBuf::from(top)) != Some(true) {
                return Standing::NoTop;
            }
        }
    }
    match output(git(dir).args(["rev-parse", "--quiet", "--verify", "HEAD^{commit}"])) {
        Ok(Ok(commit)) => Standing::Head { commit },
        _ => Standing::NoCommit,
    }
}

/// The commit's id and first line, as people read them.
pub(crate) fn subject(source: Source<'_>, commit: &str) -> Option<String> {
    let form = [
        "log",
        "-1",
        "--no-show-signature",
        "--no-mailmap",
        "--format=%h %s",
        commit,
    ];
    output(source.command().args(form)).ok()?.ok()
}

/// Paths of the working tree that differ from HEAD or that git does not know.
pub(crate) fn uncommitted(dir: &Path) -> Option<Vec<String>> {
    let status = output(git(dir).args(["status", "--porcelain=v1", "-z", "--ignore-submodules=all"]))
        .ok()?
        .ok()?;
    Some(
        status
            .split('\0')
            .filter_map(|entry| entry.get(3..))
            .map(str::to_string)
            .collect(),
    )
}

/// Whether a commit is at hand.
pub(crate) fn has_commit(source: Source<'_>, id: &str) -> bool {
    let asked = output(
        source
            .command()
            .args(["cat-file", "-e", &format!("{id}^{{commit}}")]),
    );
    matches!(asked, Ok(Ok(_)))
}

/// What a commit says of its submodules: the URL of each path.
pub(crate) fn submodule_urls(source: Source<'_>, commit: &str) -> Vec<(String, String)> {
    let mut command = source.command();
    command.args(["config", "-z", "--blob", &format!("{commit}:.gitmodules")]);
    command.args(["--get-regexp", r"^submodule\..*\.(path|url)$"]);
    let text = output(&mut command).ok().and_then(Result::ok).unwrap_or_default();
    let mut modules: std::collections::BTreeMap<&str, (Option<&str>, Option<&str>)> = Default::default();
    for (key, value) in text.split('\0').filter_map(|line| line.split_once('\n')) {
        let Some((name, field)) = key.rsplit_once('.') else {
            continue;
        };
        let module = modules.entry(name).or_default();
        match field {
            "path" => module.0 = Some(value),
            _ => module.1 = Some(value),
        }
    }
    let both = |(path, url): (Option<&str>, Option<&str>)| Some((path?.to_string(), url?.to_string()));
    modules.into_values().filter_map(both).collect()
}

/// Every file of the commit; none when there are too many.
pub(crate) fn tree(source: Source<'_>, commit: &str) -> io::Result<Option<Vec<TreeFile>>> {
    let mut child = source
        .command()
        .args(["ls-tree", "-r", "-z", "-l", "--full-tree", commit])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let listing = child.stdout.take().map(BufReader::new);
    let mut listing = listing.ok_or_else(|| io::Error::other("git has no output"))?;
    let mut files = Vec::new();
    loop {
        let mut line = Vec::new();
        (&mut listing)
            .take(TREE_LINE_BYTES_MAX)
            .read_until(0, &mut line)?;
        if line.is_empty() {
            break;
        }
        if files.len() >= TREE_FILES_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        let file = line.strip_suffix(&[0]).and_then(tree_file);
        files.push(file.ok_or_else(|| io::Error::other("git ls-tree wrote an unknown form"))?);
    }
    let ended = child.wait_with_output()?;
    match ended.status.success() {
        true => Ok(Some(files)),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&ended.stderr).trim().to_string(),
        )),
    }
}

/// Parses `100644 blob ID    SIZE\tPATH`.
fn tree_file(line: &[u8]) -> Option<TreeFile> {
    let tab = line.iter().position(|b| *b == b'\t')?;
    let mut words = std::str::from_utf8(&line[..tab]).ok()?.split_ascii_whitespace();
    let (mode, _kind, id, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(TreeFile {
        mode: mode.to_string(),
        id: id.to_string(),
        bytes: size.parse().ok(),
        path: line[tab + 1..].to_vec(),
    })
}

/// Reads objects one after another, as they are stored: no filter of the repository sees them.
#[derive(Debug)]
pub(crate) struct Objects {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Objects {
    pub(crate) fn open(source: Source<'_>) -> io::Result<Self> {
        let mut child = source
            .command()
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let ask = child
            .stdin
            .take()
            .ok_or_else(|| io::Error::other("git has no input"))?;
        let answers = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("git has no output"))?;
        Ok(Self {
            child,
            ask,
            answers: BufReader::new(answers),
        })
    }

    /// Gives the content of an object to `take` and returns what it makes of it.
    pub(crate) fn read<T>(
        &mut self,
        id: &str,
        take: impl FnOnce(&mut dyn Read, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        writeln!(self.ask, "{id}")?;
        self.ask.flush()?;
        let mut header = String::new();
        (&mut self.answers)
            .take(OBJECT_HEADER_BYTES_MAX)
            .read_line(&mut header)?;
        let bytes = header
            .trim_end()
            .strip_prefix(id)
            .and_then(|rest| rest.strip_prefix(" blob "))
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| io::Error::other(format!("git cannot read object {id}: {}", header.trim_end())))?;
        let mut content = (&mut self.answers).take(bytes);
        let taken = take(&mut content, bytes)?;
        // What was not taken, and the line end behind it.
        io::copy(&mut content, &mut io::sink())?;
        self.answers.read_exact(&mut [0; 1])?;
        Ok(taken)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_tree_is_parsed() {
        let file = tree_file(b"100644 blob abc      12\ta b.txt").expect("file");
        assert_eq!(
            (file.mode.as_str(), file.id.as_str(), file.bytes),
            ("100644", "abc", Some(12))
        );
        assert_eq!(file.path, b"a b.txt");
        assert_eq!(
            tree_file(b"160000 commit abc       -\tsub")
                .expect("submodule")
                .bytes,
            None
        );
        assert_eq!(tree_file(b"nonsense"), None);
    }
}
