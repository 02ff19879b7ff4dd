//! One test's world: a home and a working directory of its own, and nothing of this process's environment.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A home, a working directory, variables.
pub(crate) struct Env {
    root: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Ran {
    /// Exactly this on stderr, nothing on stdout, this exit code.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, stderr: &str) {
        assert_eq!(
            (self.stdout.as_str(), self.stderr.as_str(), self.code),
            ("", stderr, Some(code))
        );
    }

    /// Exactly this on stdout, and success.
    #[track_caller]
    pub(crate) fn printed(&self, stdout: &str) {
        assert_eq!(
            (self.stdout.as_str(), self.code),
            (stdout, Some(0)),
            "{}",
            self.stderr
        );
    }
}

impl Env {
    /// An empty home.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("work")).expect("folder");
        Self {
            root,
            variables: Vec::new(),
        }
    }

    /// A home that knows a cluster `local` at an address where nobody listens.
    pub(crate) fn with_dead_cluster() -> Self {
        let env = Self::new();
        // The discard service of RFC 863: reserved, and refused on any machine that does not run it.
        env.write_home("http://127.0.0.1:9");
        env
    }

    /// A home that knows a cluster `local` at `api`.
    pub(crate) fn with_cluster(api: &str) -> Self {
        let env = Self::new();
        env.write_home(api);
        env
    }

    fn write_home(&self, api: &str) {
        let added = self.run_with_input(&["clusters", "add", "local", api], "gil_id_secret\n");
        assert_eq!(added.code, Some(0), "{added:?}");
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_string(), value.to_string()));
        self
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub(crate) fn command(&self, cwd: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gilliam"));
        command
            .args(args)
            .current_dir(cwd)
            .env_clear()
            .stdin(Stdio::null());
        command
            .env("HOME", self.root.path())
            .env("GILLIAM_HOME", self.home());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_in(&self.work(), args)
    }

    pub(crate) fn run_in(&self, cwd: &Path, args: &[&str]) -> Ran {
        ran(self.command(cwd, args).output().expect("gilliam"))
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(&self.work(), args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("gilliam");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes())
            .expect("input");
        ran(child.wait_with_output().expect("gilliam"))
    }
}

fn ran(output: Output) -> Ran {
    Ran {
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
        code: output.status.code(),
    }
}

/// Runs a command against a server that answers one request with these bytes and then closes.
pub(crate) fn answered(args: &[&str], status: &str, body: &str) -> Ran {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let env = Env::with_cluster(&format!("http://{}", listener.local_addr().expect("address")));
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("connection");
        let _ = connection.read(&mut [0; 4096]);
        // The client may have had enough before the end.
        let _ = connection.write_all(answer.as_bytes());
    });
    let ran = env.run(args);
    server.join().expect("server");
    ran
}
