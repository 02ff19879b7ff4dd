//! `bench builds`: what it costs to build a project from its sources, in each language that is ready here.
//!
//! The projects are those of `gilliam init`, on a platform of their own, whose caches are empty at first. The change
//! of one line is another greeting, so the time from `git push` to the first answer of the new release is that of
//! a user who waits to see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    account,
    child::Cores,
    figure::{Figure, Report},
    load::as_f64,
    platform::{Platform, get},
    session::Session,
};

const BENCH: &str = "builds";
/// A build of a large runtime takes its time on a slow machine.
const ANSWER_WAIT: Duration = Duration::from_secs(300);
/// Between two looks at the memory of a build's processes.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Changes of one line that are pushed, one after another.
const PUSHES: (usize, usize) = (1, 3);
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn run(session: &Session<'_>, report: &mut Report) -> anyhow::Result<()> {
    for language in ready(session, report)? {
        session.check()?;
        measure(session, report, &language).with_context(|| language.clone())?;
    }
    Ok(())
}

/// The languages whose tools are there; of the others the report says what they lack.
fn ready(session: &Session<'_>, report: &mut Report) -> anyhow::Result<Vec<String>> {
    let mut command = Command::new(&session.options.gilliam);
    let listed = command.args(["packs", "--json"]).output()?;
    ensure!(
        listed.status.success(),
        "gilliam packs: {}",
        String::from_utf8_lossy(&listed.stderr).trim_end()
    );
    let packs: Vec<Value> = serde_json::from_slice(&listed.stdout).context("what gilliam packs said")?;
    let mut languages = Vec::new();
    for pack in &packs {
        let language = pack["language"].as_str().context("a pack without a language")?;
        match pack["ready"].as_bool() {
            Some(true) => languages.push(language.to_owned()),
            _ => report.note(format!(
                "builds: {language} is left out; gilliam packs install {language} makes it ready \
                 (GILLIAM_TOOLS says where)"
            )),
        }
    }
    Ok(languages)
}

fn measure(session: &Session<'_>, report: &mut Report, language: &str) -> anyhow::Result<()> {
    session.note(&format!("builds: {language}"));
    let platform = Platform::start(session, Cores::All)?;
    let project = project(&platform, language)?;
    let deploy = |args: &[&str]| -> anyhow::Result<f64> {
        let start = Instant::now();
        let args = [&["deploy", "--no-migrate", "-m", "bench"], args].concat();
        platform.run(&project, &args)?;
        Ok(start.elapsed().as_secs_f64())
    };
    let (cold, memory) = with_peak_memory(platform.up_pid(), || deploy(&[]));
    let cold = cold?;
    let unchanged = deploy(&[])?;
    let add = |report: &mut Report, name: &str, value: f64, unit| {
        report.add(Figure::new(BENCH, format!("{language}: {name}"), value, unit));
    };
    add(report, "deploy, nothing cached", cold, "s");
    add(report, "deploy, unchanged", unchanged, "s");
    pushes(session, report, &platform, language, &project)?;
    add(report, "deploy --clean", deploy(&["--clean"])?, "s");
    let images: Value = serde_json::from_str(&platform.run(&project, &["images", "--json"])?)?;
    let bytes = images[0]["bytes"].as_f64().context("an image without a size")?;
    add(report, "components of web and worker", bytes / MIB, "MiB");
    let compiled = compiled_bytes(&platform.data().join("node"))?;
    add(report, "compiled code of web", as_f64(compiled) / MIB, "MiB");
    add(report, "most memory of a build", as_f64(memory) / MIB, "MiB");
    Ok(())
}

/// A new project, committed, and its app.
fn project(platform: &Platform<'_>, language: &str) -> anyhow::Result<PathBuf> {
    let projects = platform.folder("projects")?;
    platform.run(&projects, &["init", "--lang", language, language])?;
    let project = projects.join(language);
    platform.git(&project, &["init", "-q", "-b", "main"])?;
    commit(platform, &project)?;
    platform.run(&project, &["create", language])?;
    Ok(project)
}

fn commit(platform: &Platform<'_>, project: &Path) -> anyhow::Result<()> {
    platform.git(project, &["add", "-A"])?;
    let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
    platform.git(project, &[&who[..], &["commit", "-q", "-m", "bench"]].concat())
}

/// From a push of another greeting to its first answer.
fn pushes(
    session: &Session<'_>,
    report: &mut Report,
    platform: &Platform<'_>,
    language: &str,
    project: &Path,
) -> anyhow::Result<()> {
    platform.scale(project, "web=1")?;
    let host = format!("{language}.localhost");
    let answer = || get(platform.http, &host, "/").ok();
    session.wait_for(&host, ANSWER_WAIT, answer)?;
    let (source, text) = greeting(project)?;
    let mut pushed = Vec::new();
    let mut answered = Vec::new();
    for n in 0..session.pick(PUSHES.0, PUSHES.1) {
        session.check()?;
        let word = format!("Greeting{n}");
        std::fs::write(&source, replaced(&text, &word))?;
        commit(platform, project)?;
        let start = Instant::now();
        platform.git(project, &["push", "-q", "gilliam", "main"])?;
        pushed.push(start.elapsed().as_secs_f64());
        let is_new = |body: Vec<u8>| String::from_utf8_lossy(&body).contains(&word).then_some(());
        session.wait_for(&host, ANSWER_WAIT, || answer().and_then(is_new))?;
        answered.push(start.elapsed().as_secs_f64());
    }
    for (name, seconds) in [
        ("git push of one line", &pushed),
        ("git push to first answer", &answered),
    ] {
        report.add(Figure::median(BENCH, format!("{language}: {name}"), seconds, "s"));
    }
    Ok(())
}

/// What a greeting in a new project begins with.
const GREETINGS: [&str; 4] = ["\"Hello", "\"hello", "'Hello", "'hello"];

/// A source file with another greeting.
fn replaced(text: &str, word: &str) -> String {
    let other = |text: String, greeting: &&str| text.replace(*greeting, &format!("{}{word}", &greeting[..1]));
    GREETINGS.iter().fold(text.to_owned(), other)
}

/// The source file of the web process that greets, and what is in it.
fn greeting(project: &Path) -> anyhow::Result<(PathBuf, String)> {
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    let mut folders = vec![project.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let is_hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden || path.extension().is_some_and(|end| end == "md") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path)
                && GREETINGS.iter().any(|greeting| text.contains(greeting))
            {
                found.push((path, text));
            }
        }
    }
    let of_worker = |(path, _): &(PathBuf, String)| path.to_string_lossy().contains("worker");
    found.sort_by_key(of_worker);
    found
        .into_iter()
        .next()
        .context("no source file of the new project greets")
}

/// The largest compiled component that the node keeps.
fn compiled_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut most = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            most = most.max(compiled_bytes(&path)?);
        } else if path.extension().is_some_and(|end| end == "cwasm") {
            most = most.max(entry.metadata()?.len());
        }
    }
    Ok(most)
}

/// Does something, and says how many bytes the processes of builds below `up` had for themselves at most.
///
/// Sampled: what came and went between two looks is not seen.
fn with_peak_memory<T>(up: i32, work: impl FnOnce() -> T) -> (T, u64) {
    let (is_done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Relaxed) {
                most.fetch_max(build_bytes(up), Relaxed);
                std::thread::park_timeout(LOOK_INTERVAL);
            }
        });
        let done = work();
        is_done.store(true, Relaxed);
        done
    });
    (done, most.into_inner())
}

/// Memory of all descendants of the sandboxes that run below a process.
fn build_bytes(up: i32) -> u64 {
    let mut parents: BTreeMap<i32, i32> = BTreeMap::new();
    let mut sandboxes: BTreeSet<i32> = BTreeSet::new();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return 0;
    };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let file = |name: &str| std::fs::read(process.path().join(name)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&file("stat")).into_owned();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        let Some(parent) = parent else { continue };
        parents.insert(pid, parent);
        let words: Vec<u8> = file("cmdline");
        if words.split(|byte| *byte == 0).any(|word| word == b"sandbox") {
            sandboxes.insert(pid);
        }
    }
    let above = |pid: i32| std::iter::successors(Some(pid), |at| parents.get(at).copied());
    let is_build =
        |pid: &&i32| above(**pid).any(|at| at == up) && above(**pid).any(|at| sandboxes.contains(&at));
    parents
        .keys()
        .filter(is_build)
        .filter_map(|pid| account::unshared_bytes(*pid).ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_project_greets_in_its_web_process_with_another_word() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("src/.git")).expect("folders");
        for name in ["README.md", "src/.git/x", "src/worker.c", "src/web.c"] {
            std::fs::write(at(name), "puts(\"Hello from C\")").expect("file");
        }
        let (file, text) = greeting(folder.path()).expect("found");
        assert_eq!(file, at("src/web.c"));
        assert_eq!(replaced(&text, "Moin"), "puts(\"Moin from C\")");
        std::fs::remove_dir_all(at("src")).expect("removed");
        assert!(greeting(folder.path()).is_err());
    }

    #[test]
    fn memory_of_builds_is_that_of_sandboxes_below_a_server() {
        let me = std::process::id().cast_signed();
        assert_eq!(build_bytes(me), 0);
        let ((), most) = with_peak_memory(me, || ());
        assert_eq!(most, 0);
    }
}
