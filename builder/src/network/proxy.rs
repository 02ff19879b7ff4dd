//! The outer end: an HTTP proxy that knows one method, CONNECT (RFC 9110, 9.3.6), and the listed hosts.
//!
//! In flow connections of a sandbox, which may say anything; out flow connections to listed hosts, and lines for
//! people about what was refused.
//!
//! Invariant: whatever a build sends, this holds a bounded number of connections, threads and bytes.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream, ToSocketAddrs as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{CONNECTIONS_MAX, Host};

/// Bytes that a build fetches: the dependencies of a large project, several times.
const DOWN_BYTES_MAX: u64 = 2 << 30;
/// Bytes that it sends: requests, and no copy of what it was given.
const UP_BYTES_MAX: u64 = 64 << 20;
/// A request's head: a name, and what tools tell of themselves.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a request's head, or a host's answer to a connection, may take.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// Silence after which a connection ends.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Different hosts whose refusal is told.
const REFUSALS_MAX: usize = 20;
/// A thread here copies bytes, and resolves a name.
const STACK_BYTES: usize = 256 << 10;
const CHUNK_BYTES: usize = 16 << 10;

/// A proxy that runs; dropped, it takes no more connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    listener: UnixListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hosts: Vec<Host>,
    open: AtomicUsize,
    down: AtomicU64,
    up: AtomicU64,
    said: Mutex<Said>,
}

/// Lines for people.
#[derive(Debug, Default)]
struct Said {
    once: BTreeSet<String>,
    new: Vec<String>,
}

impl Proxy {
    /// Listens at `socket`, for whoever can reach that file.
    pub(crate) fn start(socket: &Path, hosts: &[Host]) -> io::Result<Self> {
        let listener = bind(socket)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
        let shared = Arc::new(Shared {
            hosts: hosts.to_vec(),
            open: AtomicUsize::new(0),
            down: AtomicU64::new(DOWN_BYTES_MAX),
            up: AtomicU64::new(UP_BYTES_MAX),
            said: Mutex::default(),
        });
        let (accepting, for_all) = (listener.try_clone()?, shared.clone());
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || accept(&accepting, &for_all))?;
        Ok(Self { listener, shared })
    }

    /// What there is to say since the last time.
    pub(crate) fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.said.lock().expect("no holder panics").new)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Whoever waits for a connection then gets an error.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// Binds a socket in the file system, however long its path.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    let parent = fs::File::open(socket.parent().unwrap_or(Path::new(".")))?;
    let name = socket
        .file_name()
        .ok_or_else(|| io::Error::other("a socket without a name"))?;
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name))
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    while let Ok((near, _)) = listener.accept() {
        if shared.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            shared.open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let own = shared.clone();
        let started = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // An error says that one side is gone, and who is near has seen it.
            let _ = serve(&near, &own);
            own.open.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_err() {
            shared.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    /// Says something once, as long as not too much was said.
    fn say(&self, line: String) {
        let mut said = self.said.lock().expect("no holder panics");
        if said.once.len() < REFUSALS_MAX && said.once.insert(line.clone()) {
            said.new.push(line);
        }
    }
}

/// Serves one connection to its end.
fn serve(near: &UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    let host = match head(near)?.as_deref().map(asked) {
        Some(Ok(host)) => host,
        Some(Err(answer)) => return refuse(near, answer),
        None => return refuse(near, "400 Bad Request"),
    };
    if !shared.hosts.contains(&host) {
        shared.say(format!("network: {host} refused: not in --build-registries"));
        return refuse(near, "403 Forbidden");
    }
    let far = match connect(&host) {
        Ok(far) => far,
        Err(error) => {
            shared.say(format!("network: {host} cannot be reached: {error}"));
            return refuse(near, "502 Bad Gateway");
        }
    };
    (&*near).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    far.set_read_timeout(Some(IDLE_MAX))?;
    far.set_write_timeout(Some(IDLE_MAX))?;
    near.set_read_timeout(Some(IDLE_MAX))?;
    near.set_write_timeout(Some(IDLE_MAX))?;
    let (near_out, far_in, own) = (near.try_clone()?, far.try_clone()?, shared.clone());
    let down = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let _ = pump(&far_in, &near_out, &own.down, &own, "fetched", DOWN_BYTES_MAX);
        let _ = near_out.shutdown(Shutdown::Both);
    })?;
    let _ = pump(near, &far, &shared.up, shared, "sent", UP_BYTES_MAX);
    let _ = far.shutdown(Shutdown::Write);
    let _ = down.join();
    Ok(())
}

/// Reads a request's head, byte by byte: what follows it is not ours.
fn head(mut near: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + CONNECT_MAX;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now());
        if head.len() >= HEAD_BYTES_MAX || left.is_zero() {
            return Ok(None);
        }
        near.set_read_timeout(Some(left))?;
        let mut byte = [0];
        near.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(Some(head))
}

/// The host that a request asks for, or the status that answers it.
fn asked(head: &[u8]) -> Result<Host, &'static str> {
    let text = std::str::from_utf8(head).map_err(|_| "400 Bad Request")?;
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        // Its target always has a port.
        (Some("CONNECT"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) if target.contains(':') => {
            target.parse().map_err(|_| "400 Bad Request")
        }
        (Some(_), Some(_), Some("HTTP/1.1" | "HTTP/1.0"), None) => Err("405 Method Not Allowed"),
        _ => Err("400 Bad Request"),
    }
}

fn refuse(mut near: &UnixStream, status: &str) -> io::Result<()> {
    near.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
}

fn connect(host: &Host) -> io::Result<TcpStream> {
    let mut last = io::Error::other("it has no address");
    for address in host.address().to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(far) => return Ok(far),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Copies bytes until their end or until all connections together have had theirs.
fn pump(
    mut from: impl io::Read,
    mut to: impl io::Write,
    budget: &AtomicU64,
    shared: &Shared,
    what: &str,
    most: u64,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = from.read(&mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        let spend = |left: u64| left.checked_sub(n as u64);
        if budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_err()
        {
            shared.say(format!(
                "network: stopped: more than {} MiB were {what}",
                most >> 20
            ));
            return Err(io::Error::other("the budget is spent"));
        }
        to.write_all(&chunk[..n])?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn one_method_is_known() {
        for (head, want) in [
            (
                "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
                Ok("example.com:443"),
            ),
            (
                "CONNECT Example.COM:8443 HTTP/1.0\r\n\r\n",
                Ok("example.com:8443"),
            ),
            (
                "CONNECT example.com HTTP/1.1\r\n\r\n",
                Err("405 Method Not Allowed"),
            ),
            (
                "CONNECT user@example.com:443 HTTP/1.1\r\n\r\n",
                Err("400 Bad Request"),
            ),
            ("CONNECT [::1]:443 HTTP/1.1\r\n\r\n", Err("400 Bad Request")),
            (
                "CONNECT  example.com:443 HTTP/1.1\r\n\r\n",
                Err("400 Bad Request"),
            ),
            (
                "GET http://example.com/ HTTP/1.1\r\n\r\n",
                Err("405 Method Not Allowed"),
            ),
            ("\r\n\r\n", Err("400 Bad Request")),
        ] {
            let host = asked(head.as_bytes()).map(|host| host.to_string());
            assert_eq!(host.as_deref().map_err(|status| *status), want, "{head:?}");
        }
    }

    /// A proxy for a listener that answers each connection with `hello`.
    fn proxy(folder: &Path) -> (Proxy, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = listener.local_addr().expect("address").port();
        thread::spawn(move || {
            for mut near in listener.incoming().flatten() {
                let _ = near.write_all(b"hello");
            }
        });
        let host = format!("127.0.0.1:{port}").parse().expect("a host");
        (
            Proxy::start(&folder.join("socket"), &[host]).expect("proxy"),
            port,
        )
    }

    fn ask(folder: &Path, request: &str) -> String {
        let mut near = UnixStream::connect(folder.join("socket")).expect("connect");
        near.write_all(request.as_bytes()).expect("write");
        let mut answer = String::new();
        near.read_to_string(&mut answer).expect("read");
        answer
    }

    #[test]
    fn listed_hosts_are_reached_and_others_are_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (proxy, port) = proxy(folder.path());
        let answer = ask(
            folder.path(),
            &format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n"),
        );
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nhello"),
            "{answer}"
        );
        assert_eq!(proxy.said(), Vec::<String>::new());
        for _ in 0..2 {
            let answer = ask(folder.path(), "CONNECT example.com:443 HTTP/1.1\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        }
        assert_eq!(
            proxy.said(),
            ["network: example.com:443 refused: not in --build-registries"]
        );
        assert_eq!(proxy.said(), Vec::<String>::new());
        let answer = ask(folder.path(), &"x".repeat(HEAD_BYTES_MAX));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }

    #[test]
    fn what_is_told_of_refusals_is_bounded() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (proxy, _) = proxy(folder.path());
        for number in 0..REFUSALS_MAX + 5 {
            ask(
                folder.path(),
                &format!("CONNECT h{number}.example:443 HTTP/1.1\r\n\r\n"),
            );
        }
        assert_eq!(proxy.said().len(), REFUSALS_MAX);
    }

    #[test]
    fn bytes_are_bounded_over_all_connections() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (proxy, _) = proxy(folder.path());
        let budget = AtomicU64::new(10);
        let copy = |bytes: &[u8]| {
            let mut copied = Vec::new();
            let done = pump(bytes, &mut copied, &budget, &proxy.shared, "sent", 64 << 20);
            (done.is_ok(), copied.len())
        };
        assert_eq!(copy(&[0; 8]), (true, 8));
        assert_eq!(copy(&[0; 8]), (false, 0));
        assert_eq!(proxy.said(), ["network: stopped: more than 64 MiB were sent"]);
    }
}
