//! A real registry for one test: Debian's `docker-registry`, on a free port, in a folder of its own.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

/// A running registry, ended with the test.
pub(crate) struct Registry {
    folder: tempfile::TempDir,
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
}

/// The hash (bcrypt) of "open sesame".
const PASSWORD_HASH: &str = "$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";

impl Registry {
    /// One that anybody may use.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// One that knows `aladdin`, whose password is `open sesame`.
    pub(crate) fn with_password() -> Self {
        Self::start_with("auth:\n  htpasswd:\n    realm: cave\n    path: htpasswd\n")
    }

    fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n{more}",
            folder.path().join("data").display()
        );
        std::fs::write(folder.path().join("config.yml"), config).expect("config");
        let password = format!("aladdin:{PASSWORD_HASH}\n");
        std::fs::write(folder.path().join("htpasswd"), password).expect("htpasswd");
        let mut child = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(folder.path())
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry, which scripts/setup installs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mark = "listening on ";
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(mark));
        let line = line.expect("the registry says where it listens");
        let host = line.split(mark).nth(1).and_then(|rest| rest.split('"').next());
        let host = host.expect("an address").to_string();
        // What it logs must not fill its pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { folder, child, host }
    }

    /// How many blobs it keeps.
    pub(crate) fn blobs(&self) -> usize {
        let folder = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        let prefixes = std::fs::read_dir(folder).into_iter().flatten().flatten();
        prefixes
            .map(|prefix| std::fs::read_dir(prefix.path()).map_or(0, Iterator::count))
            .sum()
    }

    /// Changes the content of a blob on its disk.
    pub(crate) fn spoil(&self, digest: &str) {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let blob = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        let blob = blob.join(&hex[..2]).join(hex).join("data");
        let mut bytes = std::fs::read(&blob).expect("the blob");
        *bytes.last_mut().expect("a byte") ^= 1;
        std::fs::write(blob, bytes).expect("spoilt");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
