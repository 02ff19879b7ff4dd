//! The same requests to gilliam's ingress and to its peers, one after another, in one run.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
};

use anyhow::Context as _;

use crate::{
    figure::Figures,
    load::{Load, Seen, as_f64},
    platform::{Platform, cpu_us, pinned, wait},
};

/// What to compare.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) gilliam: &'a Path,
    pub(crate) wasmtime: Option<&'a Path>,
    pub(crate) samples: &'a Path,
    pub(crate) load: Load,
}

/// Sample, the WASI it is built on, and the path that costs its guest the least: the way is measured, not the guest.
const SAMPLES: [(&str, &str, &str); 2] = [("guestbook", "0.2", "/ok"), ("hello-p3", "0.3", "/")];

/// A server to load.
struct Target<'a> {
    address: SocketAddr,
    host: &'a str,
    path: &'a str,
    pid: i32,
}

/// A process that is ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Requests per second, latency and CPU per request of each.
pub(crate) fn http(plan: &Plan<'_>, figures: &mut Figures) -> anyhow::Result<()> {
    let platform = Platform::start(plan.gilliam)?;
    let mut shares = Vec::new();
    let mut body = Vec::new();
    for (name, label, path) in SAMPLES {
        let label = format!("gilliam {label}");
        let project = platform.deploy(plan.samples, name)?;
        platform.run(&project, &["scale", "web=1"])?;
        let host = format!("{name}.localhost");
        body = platform.body(name, path)?;
        let target = Target {
            address: platform.http,
            host: &host,
            path,
            pid: platform.node_pid()?,
        };
        let seen = measure(plan, &target, &label, figures)?;
        shares.push((label, seen.per_second()));
        platform.run(&project, &["scale", "web=0"])?;
    }
    let (server, address) = native(&body)?;
    let target = Target {
        address,
        host: "localhost",
        path: "/",
        pid: i32::try_from(server.0.id())?,
    };
    let native = measure(plan, &target, "native hyper", figures)?.per_second();
    drop(server);
    let Some(wasmtime) = plan.wasmtime else {
        eprintln!("wasmtime serve is left out: name its binary with --wasmtime");
        return ratios(&shares, native, figures);
    };
    for (name, label, path) in SAMPLES {
        let label = format!("wasmtime serve {label}");
        let (server, address) = wasmtime_serve(
            wasmtime,
            &plan.samples.join(name).join("web.wasm"),
            name == "hello-p3",
        )?;
        let target = Target {
            address,
            host: "localhost",
            path,
            pid: i32::try_from(server.0.id())?,
        };
        let seen = measure(plan, &target, &label, figures)?;
        shares.push((label, seen.per_second()));
    }
    ratios(&shares, native, figures)
}

fn ratios(shares: &[(String, f64)], native: f64, figures: &mut Figures) -> anyhow::Result<()> {
    for (label, per_second) in shares {
        figures.add(
            "http",
            format!("{label} share of native"),
            100.0 * per_second / native,
            "%",
        );
    }
    Ok(())
}

fn measure(plan: &Plan<'_>, target: &Target<'_>, label: &str, figures: &mut Figures) -> anyhow::Result<Seen> {
    let warm = Load {
        duration: plan.load.duration / 4,
        ..plan.load
    };
    warm.run(target.address, target.host, target.path)
        .with_context(|| format!("{label} does not answer"))?;
    let before = cpu_us(target.pid)?;
    let seen = plan.load.run(target.address, target.host, target.path)?;
    let cpu = as_f64(cpu_us(target.pid)? - before) / as_f64(seen.requests.max(1));
    figures.add("http", format!("{label} requests"), seen.per_second(), "1/s");
    figures.add(
        "http",
        format!("{label} p50"),
        as_f64(seen.latency_us.value_at_quantile(0.5)) / 1e3,
        "ms",
    );
    figures.add(
        "http",
        format!("{label} p99"),
        as_f64(seen.latency_us.value_at_quantile(0.99)) / 1e3,
        "ms",
    );
    figures.add("http", format!("{label} CPU per request"), cpu, "us");
    Ok(seen)
}

/// hyper answering `body`, in a process of its own.
fn native(body: &[u8]) -> anyhow::Result<(Server, SocketAddr)> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), body)?;
    let mut command = pinned(&std::env::current_exe()?);
    command.arg("native").arg(file.path()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start the native server")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
    Ok((
        Server(child),
        line.trim().parse().context("the native server's address")?,
    ))
}

fn wasmtime_serve(wasmtime: &Path, component: &Path, p3: bool) -> anyhow::Result<(Server, SocketAddr)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    drop(listener);
    let mut command = pinned(wasmtime);
    command.args(["serve", "-S", "cli=y", "--addr", &address.to_string()]);
    if p3 {
        command.args(["-W", "component-model-async=y", "-S", "p3=y"]);
    }
    let child = command
        .arg(component)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Server(child.with_context(|| format!("cannot start {}", wasmtime.display()))?);
    wait("wasmtime serve", || {
        std::net::TcpStream::connect(address).ok().map(drop)
    })?;
    Ok((server, address))
}
