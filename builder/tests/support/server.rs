//! A server's folders, and builds in them as a deploy starts them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use gilliam_model::{
    api::{ApiError, BuildOutcome},
    image::Image,
};

/// The languages' tools, which `scripts/setup` puts together once for all tests.
pub fn tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    cache
        .unwrap_or_else(|| home().join(".cache"))
        .join("gilliam/tools")
}

/// A server's folders, with a pack for the language `sh`, whose programs are the scripts that build them.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub open: bool,
    /// The key of the app that it builds, whose cache it then uses.
    pub app: Option<String>,
    /// Whether that cache is dropped first.
    pub clean: bool,
    /// Who builds may reach.
    pub registries: String,
}

/// How a build ended.
pub struct Built {
    pub outcome: BuildOutcome,
    pub output: String,
}

impl Built {
    #[track_caller]
    pub fn image(self) -> Image {
        match self.outcome {
            BuildOutcome::Sealed { image, .. } => image,
            BuildOutcome::Refused { error } => panic!("{error:?}\n{}", self.output),
        }
    }

    #[track_caller]
    pub fn error(self) -> ApiError {
        match self.outcome {
            BuildOutcome::Refused { error } => error,
            BuildOutcome::Sealed { .. } => panic!("sealed\n{}", self.output),
        }
    }
}

impl Server {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let server = Self {
            folder,
            open: false,
            app: None,
            clean: false,
            registries: "tools".to_string(),
        };
        fs::create_dir(server.path("tmp")).expect("folder");
        server.pack("shell", "sh", "shift; . ./\"$1\"");
        server
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a pack whose `build` is this script.
    pub fn pack(&self, name: &str, words: &str, build: &str) {
        let folder = self.path("packs").join(name);
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("words"), words).expect("words");
        let file = folder.join("build");
        fs::write(&file, format!("#!/bin/bash\n{build}\n")).expect("build");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("mode");
    }

    pub fn build(&self, files: &[(&str, &[u8])]) -> Built {
        let archive = self.path("tmp/upload.tar");
        super::write_archive(&archive, files);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .arg("build-child")
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        for (name, folder) in [
            ("--blobs", "images"),
            ("--archive", "tmp/upload.tar"),
            ("--packs", "packs"),
        ] {
            command.arg(name).arg(self.path(folder));
        }
        command.arg("--tools").arg(tools());
        if let Some(app) = &self.app {
            command
                .arg("--cache")
                .arg(self.path("cache"))
                .args(["--app", app]);
        }
        command.args(["--registries", &self.registries]);
        command.args(self.clean.then_some("--clean"));
        command.args(self.open.then_some("--unsandboxed-builds"));
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("start");
        let output = String::from_utf8_lossy(&stderr).into_owned();
        assert!(status.success(), "{status} {output}");
        let left: Vec<_> = fs::read_dir(self.path("tmp"))
            .expect("folder")
            .flatten()
            .collect();
        assert_eq!(left.len(), 1, "{left:?}");
        Built {
            outcome: serde_json::from_slice(&stdout).expect("an outcome"),
            output,
        }
    }

    /// Builds `web` with a script, beside a component that the script may take.
    pub fn script(&self, script: &str) -> Built {
        let component = super::wasm(&super::command("0.2.0", ""));
        self.build(&[
            ("Procfile", b"web: sh web.sh"),
            ("web.sh", script.as_bytes()),
            ("given.wasm", &component),
        ])
    }
}
