//! Commands: how they end, how they are stopped, what they may reach.

mod support;

use std::time::{Duration, Instant};

use gilliam_engine::{CommandInstance, EntryStream, ExitReason, Loaded};
use gilliam_model::{code::Code, image::Shape, limits::Limits};
use support::{DEADLINE, Log, command_guest, config, core, guest, loaded, process, sample};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn start(loaded: &Loaded, args: &[&str]) -> (CommandInstance, Log) {
    let (mut config, log) = config(Limits::default());
    process(&mut config).args = args.iter().map(|arg| (*arg).to_owned()).collect();
    (CommandInstance::start(loaded, config).expect("starts"), log)
}

async fn wait(command: &CommandInstance) -> ExitReason {
    tokio::time::timeout(DEADLINE, command.wait())
        .await
        .expect("it ends in time")
}

#[tokio::test]
async fn a_command_ends_with_its_exit_code() {
    let exit = r#"(import "wasi:cli/exit@0.2.12" "exit" (func $exit (param i32)))"#;
    for (fields, run, reason) in [
        ("", "(i32.const 0)", ExitReason::Ok),
        ("", "(i32.const 1)", ExitReason::ExitCode(1)),
        (exit, "(call $exit (i32.const 0)) (i32.const 1)", ExitReason::Ok),
        (
            exit,
            "(call $exit (i32.const 1)) (i32.const 0)",
            ExitReason::ExitCode(1),
        ),
    ] {
        let (command, _log) = start(&loaded(&command_guest(fields, run)), &[]);
        assert_eq!(wait(&command).await, reason);
    }
}

#[tokio::test]
async fn an_end_is_told_once_whatever_it_is() {
    let told = |run: &str| {
        let (tell, told) = tokio::sync::oneshot::channel();
        let on_exit = Box::new(move |reason| tell.send(reason).expect("someone waits"));
        let (config, _log) = config(Limits::default());
        let command = CommandInstance::start_and_tell(&loaded(&command_guest("", run)), config, on_exit);
        (command.expect("starts"), told)
    };
    let (command, reason) = told("(i32.const 1)");
    assert_eq!(reason.await.expect("told"), ExitReason::ExitCode(1));
    assert_eq!(wait(&command).await, ExitReason::ExitCode(1));
    let (command, reason) = told("(loop (br 0)) (i32.const 0)");
    assert!(!command.notice(), "it does not listen");
    drop(command);
    assert_eq!(reason.await.expect("told"), ExitReason::Killed { code: None });
}

#[tokio::test]
async fn a_0_3_command_ends_too() {
    let component = guest(
        "command3",
        &core(
            r#"(import "[export]wasi:cli/run@0.3.0" "[task-return]run" (func $return (param i32)))"#,
            r#"(func (export "[async-lift]wasi:cli/run@0.3.0#run") (result i32)
                (call $return (i32.const 1)) (i32.const 0))
            (func (export "[callback][async-lift]wasi:cli/run@0.3.0#run")
                (param i32 i32 i32) (result i32) (i32.const 0))"#,
        ),
    );
    let loaded = loaded(&component);
    assert_eq!(loaded.artefact().shape, Shape::CommandP3);
    let (command, _log) = start(&loaded, &[]);
    assert_eq!(wait(&command).await, ExitReason::ExitCode(1));
}

#[tokio::test]
async fn a_trap_is_the_reason_with_its_code() {
    let recurse = "(func $f (param i64) (result i32) (call $f (local.get 0)))";
    for (fields, run, code) in [
        ("", "unreachable", Code::R23),
        (recurse, "(call $f (i64.const 1))", Code::R21),
        ("(memory $big 10000)", "(i32.const 0)", Code::R14),
    ] {
        let (command, mut log) = start(&loaded(&command_guest(fields, run)), &[]);
        let ExitReason::Trap { code: found, .. } = wait(&command).await else {
            panic!("{code} is a trap")
        };
        assert_eq!(found, code);
        log.platform(code).await;
        assert_eq!(command.usage().last_trap.expect("trap").code, code);
    }
}

#[tokio::test]
async fn a_worker_writes_lines_and_is_stopped() {
    let (command, mut log) = start(
        &loaded(&sample("guestbook/worker.wasm")),
        &["worker", "--interval", "0.02"],
    );
    for round in 1..=3 {
        let line = log.find(|entry| entry.stream == EntryStream::Stdout).await;
        assert!(
            line.text.ends_with(&format!("round {round}, POOL_SIZE 64")),
            "{line:?}"
        );
    }
    let usage = command.usage();
    assert!(usage.memory_bytes > 64 << 10 && usage.fuel_total > 0, "{usage:?}");
    let reason = tokio::time::timeout(DEADLINE, command.stop(Duration::from_secs(60)))
        .await
        .expect("stops");
    assert_eq!(reason, ExitReason::Killed { code: None });
    assert_eq!(command.usage().memory_bytes, 0);
}

#[tokio::test]
async fn bad_arguments_end_a_worker_with_its_message() {
    let (command, mut log) = start(
        &loaded(&sample("guestbook/worker.wasm")),
        &["worker", "--nonsense"],
    );
    let line = log.find(|entry| entry.stream == EntryStream::Stderr).await;
    assert!(line.text.contains("unknown argument --nonsense"), "{line:?}");
    assert_eq!(wait(&command).await, ExitReason::ExitCode(1));
}

const STDIN: &str = r#"
    (import "wasi:cli/stdin@0.2.12" "get-stdin" (func $stdin (result i32)))
    (import "wasi:io/streams@0.2.12" "[method]input-stream.blocking-read"
        (func $read (param i32 i64 i32)))"#;

#[tokio::test]
async fn a_command_that_reads_its_input_hears_the_notice() {
    let run = "(call $read (call $stdin) (i64.const 100) (i32.const 0)) (i32.const 0)";
    let (command, _log) = start(&loaded(&command_guest(STDIN, run)), &[]);
    let early = tokio::time::timeout(Duration::from_millis(100), command.wait());
    assert!(early.await.is_err(), "its input stays open");
    assert_eq!(command.stop(DEADLINE).await, ExitReason::Ok);
}

#[tokio::test]
async fn a_command_that_hears_the_notice_and_goes_on_is_killed() {
    let run = "(call $read (call $stdin) (i64.const 100) (i32.const 0)) (loop (br 0)) (i32.const 0)";
    let (command, _log) = start(&loaded(&command_guest(STDIN, run)), &[]);
    let early = tokio::time::timeout(Duration::from_millis(100), command.wait());
    assert!(early.await.is_err(), "its input stays open");
    let start = Instant::now();
    let reason = command.stop(Duration::from_millis(100)).await;
    assert_eq!(
        reason,
        ExitReason::Killed {
            code: Some(Code::R12)
        }
    );
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn dropping_a_command_kills_it() {
    let (command, log) = start(&loaded(&command_guest("", "(loop (br 0)) (i32.const 0)")), &[]);
    support::until("it runs", || command.usage().cpu_ns_total > 0).await;
    drop(command);
    log.close().await;
}

#[tokio::test]
async fn a_spinning_command_keeps_to_its_share() {
    let (mut config, _log) = config(Limits {
        cpu_millis: 50,
        ..Limits::default()
    });
    config.label = "worker.1".to_owned();
    let spin = loaded(&command_guest("", "(loop (br 0)) (i32.const 0)"));
    let command = CommandInstance::start(&spin, config).expect("starts");
    let early = tokio::time::timeout(Duration::from_secs(2), command.wait());
    assert!(early.await.is_err());
    let spent = Duration::from_nanos(command.usage().cpu_ns_total);
    assert!(
        spent < Duration::from_millis(150) && spent > Duration::from_millis(30),
        "{spent:?}"
    );
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}

async fn http_get(port: u16) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_web_command_listens_on_its_port() {
    let echo = loaded(&sample("echo-tcp/web.wasm"));
    let port = free_port();
    let (mut config, _log) = config(Limits::default());
    config.own_env.push(("PORT".to_owned(), port.to_string()));
    config.listen_port = Some(port);
    let command = CommandInstance::start(&echo, config).expect("starts");
    let start = Instant::now();
    let answer = loop {
        match http_get(port).await {
            Ok(answer) => break answer,
            Err(error) if start.elapsed() > DEADLINE => panic!("{error}"),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    command.kill();
    assert_eq!(wait(&command).await, ExitReason::Killed { code: None });
}

#[tokio::test]
async fn a_port_that_was_not_given_cannot_be_had() {
    let echo = loaded(&sample("echo-tcp/web.wasm"));
    for listen_port in [None, Some(free_port())] {
        let (mut config, _log) = config(Limits::default());
        config.own_env.push(("PORT".to_owned(), free_port().to_string()));
        config.listen_port = listen_port;
        let command = CommandInstance::start(&echo, config).expect("starts");
        assert!(
            matches!(wait(&command).await, ExitReason::ExitCode(_)),
            "{listen_port:?}"
        );
    }
}

#[tokio::test]
async fn a_bad_configuration_is_named() {
    let echo = loaded(&command_guest("", "(i32.const 0)"));
    let (bad, _log) = config(Limits {
        cpu_millis: 0,
        ..Limits::default()
    });
    let error = CommandInstance::start(&echo, bad).expect_err("refused");
    assert_eq!(error.code, Code::A422);
    assert!(error.message.contains("cpu = 0 is outside 0.01 to 1"), "{error}");
}

#[tokio::test]
async fn sockets_are_bounded() {
    // Makes sockets until there are no more, and exits with 1 when that was before the 1,100th.
    let fields = r#"(import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket"
        (func $create (param i32 i32)))"#;
    let run = "(local $left i32)
        (local.set $left (i32.const 1100))
        (loop
            (call $create (i32.const 0) (i32.const 8))
            (if (i32.load8_u (i32.const 8)) (then (return (i32.const 1))))
            (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (i32.const 0)";
    let (mut config, mut log) = config(Limits::default());
    config.listen_port = Some(free_port());
    let command = CommandInstance::start(&loaded(&command_guest(fields, run)), config).expect("starts");
    assert_eq!(wait(&command).await, ExitReason::ExitCode(1));
    assert!(log.platform(Code::N02).await.contains("1000 sockets"));
}
