//! What the binary does as a child of `bench`: behind `gilliam internal`.

use std::{convert::Infallible, ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Signal, set_parent_process_death_signal};

/// Becomes the program that the arguments name, pinned and ending with the process that started it:
/// `first|all PROGRAM …`.
pub fn attached(args: Vec<OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (Some(cores), Some(program)) = (args.next(), args.next()) else {
        return ExitCode::from(2);
    };
    // Terminate, not kill: a platform that is measured has a node to end.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let mut set = rustix::thread::CpuSet::new();
    match cores.to_str() {
        Some("first") => set.set(0),
        _ => (0..rustix::thread::CpuSet::MAX_CPU).for_each(|core| set.set(core)),
    }
    // A machine that refuses still measures, with more noise.
    let _ = rustix::thread::sched_setaffinity(None, &set);
    let error = std::process::Command::new(&program).args(args).exec();
    eprintln!("error: cannot run {}: {error}", program.display());
    ExitCode::FAILURE
}

/// The yardstick: hyper answering the bytes of a file on one thread, with nothing in between. Serves until it
/// is ended; the address is its first line of output.
pub fn native(args: &[OsString]) -> ExitCode {
    let served = args.first().context("no file").and_then(|file| {
        let body = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serve(body)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(body: Vec<u8>) -> anyhow::Result<()> {
    let body = Bytes::from(body);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            let service = service_fn(move |_request| {
                let response = Response::builder()
                    .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                    .body(Full::new(body.clone()));
                async move { Ok::<_, Infallible>(response.expect("a valid header")) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    })
}
