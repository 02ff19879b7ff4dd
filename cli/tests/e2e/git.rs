//! `git push` by the real git, to the built binary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    guests::{ANSWER, guest},
    platform::{Platform, Ran, wait},
};

mod hostile;
mod refused;
mod shapes;
mod source;
mod stopped;
mod story;

/// A repository of a user, with `gilliam` on its path and a home of its own.
struct Repository<'a> {
    platform: &'a Platform,
    dir: PathBuf,
}

/// A component that answers everything with this status.
fn web(status: u16) -> Vec<u8> {
    let core = format!(
        r#"(module {ANSWER}
            (memory (export "memory") 1)
            (func (export "wasi:http/incoming-handler@0.2.12#handle") (param i32 i32)
                (call $answer (local.get 1) (i32.const {status})))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))"#
    );
    guest("http", &core)
}

impl<'a> Repository<'a> {
    /// An empty repository.
    fn new(platform: &'a Platform, name: &str) -> Self {
        let dir = platform.root().join(name);
        fs::create_dir_all(&dir).expect("folder");
        let repository = Self { platform, dir };
        repository.git(&["init", "-q", "-b", "main"]).ok();
        repository
    }

    /// One with a web process that answers with this status, committed.
    fn with_web(platform: &'a Platform, name: &str, status: u16) -> Self {
        let repository = Self::new(platform, name);
        repository.write("Procfile", b"web: web.wasm\n");
        repository.write("web.wasm", &web(status));
        repository.commit("first");
        repository
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("folders");
        fs::write(path, content).expect("file");
    }

    fn commit(&self, subject: &str) {
        self.git(&["add", "-A", "-f"]).ok();
        self.git(&["commit", "-q", "--allow-empty", "-m", subject]).ok();
    }

    fn command(&self, args: &[&str]) -> Command {
        let program = self.platform.root().join("bin");
        fs::create_dir_all(&program).expect("folder");
        let _ = std::os::unix::fs::symlink(self.platform.program(), program.join("gilliam"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]);
        command.args(args).current_dir(&self.dir).env_clear();
        command.env("PATH", format!("{}:{path}", program.display()));
        command
            .env("HOME", self.platform.root())
            .env("GILLIAM_HOME", self.platform.home());
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_HTTP_LOW_SPEED_TIME", "0").env("LC_ALL", "C");
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn git(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().expect("git");
        Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status,
        }
    }

    #[track_caller]
    fn gilliam(&self, args: &[&str]) -> Ran {
        self.platform.run_in(&self.dir, args)
    }

    /// Pushes and gives what git said, after it succeeded.
    #[track_caller]
    fn pushed(&self, args: &[&str]) -> String {
        let ran = self.git(&[&["push"], args].concat());
        assert!(ran.status.success(), "{}", ran.stderr);
        ran.stderr
    }

    /// Pushes and gives what git said, after it was refused.
    #[track_caller]
    fn push_refused(&self, args: &[&str]) -> String {
        let ran = self.git(&[&["push"], args].concat());
        assert!(!ran.status.success(), "{}", ran.stderr);
        ran.stderr
    }

    /// What the server has, as `git ls-remote` tells it.
    fn remote(&self) -> String {
        self.git(&["ls-remote", "gilliam"]).ok()
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).ok().trim().to_string()
    }
}

fn releases(platform: &Platform, app: &str) -> Vec<serde_json::Value> {
    let list = platform.json(&["releases", "--app", app]);
    list.as_array().cloned().unwrap_or_default()
}

/// Waits until nothing of pushes is left on their way.
fn wait_until_clean(platform: &Platform) {
    let incoming = platform.data().join("git/incoming");
    wait("pushes to leave nothing", || {
        (count(&incoming) == 0 && count(&platform.data().join("tmp")) == 0).then_some(())
    });
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).expect("folder").count()
}
