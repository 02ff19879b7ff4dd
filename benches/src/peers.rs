//! Servers of others that answer the same bytes: native hyper, `wasmtime serve`, nginx.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, ensure};

use crate::{
    child::{self, Child, Cores},
    session::Session,
};

/// Requests that one instance of `wasmtime serve` may answer when it is told to reuse: without bound.
const REUSE: &str = "1000000000";

/// A server of somebody else; ended when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// How `wasmtime serve` is told to run a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serve {
    Default,
    Reuse,
    P3,
}

impl Peer {
    /// The process that works; nginx's is a child of the one that was started.
    pub(crate) fn pid(&self) -> i32 {
        let pid = self.child.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let worker = children
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok());
        worker.unwrap_or(pid)
    }

    /// hyper answering `body` on one thread.
    pub(crate) fn native(session: &Session<'_>, body: &[u8]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("body");
        std::fs::write(&file, body)?;
        let gilliam = &session.options.gilliam;
        let mut command = child::command(gilliam, Cores::First, gilliam);
        command
            .args(["internal", "native"])
            .arg(&file)
            .stdout(Stdio::piped());
        let mut child = Child::start(&mut command, "the native server")?;
        let mut line = String::new();
        BufReader::new(child.stdout().context("piped")?).read_line(&mut line)?;
        Ok(Self {
            address: line.trim().parse().context("the native server's address")?,
            child,
            _folder: folder,
        })
    }

    /// `wasmtime serve` on the same component.
    pub(crate) fn wasmtime(
        session: &Session<'_>,
        wasmtime: &Path,
        component: &[u8],
        how: Serve,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("app.wasm");
        std::fs::write(&file, component)?;
        let address = free_address()?;
        let mut command = child::command(&session.options.gilliam, Cores::First, wasmtime);
        command.args(["serve", "-S", "cli=y", "--addr", &address.to_string()]);
        match how {
            Serve::Default => {}
            Serve::Reuse => {
                command.args(["--max-instance-reuse-count", REUSE]);
            }
            Serve::P3 => {
                command.args(["-W", "component-model-async=y", "-S", "p3=y"]);
            }
        }
        command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = Child::start(&mut command, "wasmtime serve")?;
        Self::ready(session, child, address, folder, "wasmtime serve")
    }

    /// nginx answering `body` from a file, with one worker.
    pub(crate) fn nginx(session: &Session<'_>, nginx: &Path, body: &[u8]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let root = folder.path().display();
        std::fs::write(folder.path().join("index.html"), body)?;
        let config = format!(
            "worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log crit;
            events {{ worker_connections 1024; }}
            http {{
              access_log off; keepalive_requests 1000000000; sendfile on; tcp_nodelay on; etag off;
              open_file_cache max=16; default_type \"text/plain; charset=utf-8\";
              client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
              uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
              server {{ listen {address} backlog=1024; root {root}; }}
            }}"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        open_to_all(folder.path())?;
        let mut command = child::command(&session.options.gilliam, Cores::First, nginx);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = Child::start(&mut command, "nginx")?;
        Self::ready(session, child, address, folder, "nginx")
    }

    fn ready(
        session: &Session<'_>,
        mut child: Child,
        address: SocketAddr,
        folder: tempfile::TempDir,
        what: &str,
    ) -> anyhow::Result<Self> {
        let connected = session.wait(what, || match TcpStream::connect(address) {
            Ok(_) => Some(true),
            Err(_) => child.has_ended().then_some(false),
        })?;
        ensure!(connected, "{what} ended at once");
        Ok(Self {
            child,
            address,
            _folder: folder,
        })
    }
}

/// nginx started by root reads its files as another user.
fn open_to_all(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// An address of this machine where nobody listens now.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
