//! Hostile programs in the build sandbox, each as a shell script that does its worst.
//!
//! It has a main of its own, because the sandbox is this program, started again.

mod support;

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use gilliam_builder::network::Network;
use gilliam_builder::sandbox::{self, Cell, Limits, Mode, SandboxError, Shown, Stop};

use support::own_main::{self, tests};

fn main() -> ExitCode {
    own_main::run(tests![
        a_program_sees_its_own_folders,
        files_of_the_host_are_not_there,
        what_is_shown_to_read_stays_as_it_is,
        there_is_no_network,
        listed_hosts_are_reached_through_the_proxy,
        nothing_gives_rights_back,
        a_fork_bomb_is_held_and_stopped,
        memory_is_bounded,
        disk_is_bounded,
        output_is_bounded,
        a_loop_is_stopped,
        a_daemon_ends_with_its_build,
        processes_outside_are_out_of_reach,
        an_ordinary_user_has_the_same_sandbox,
    ])
}

/// A sandbox with one writable folder, `/work`.
struct Bench {
    folder: tempfile::TempDir,
    limits: Limits,
    network: Option<Network>,
}

struct Ended {
    result: Result<i32, SandboxError>,
    lines: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["root", "work", "shown"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        let limits = Limits {
            wall: Duration::from_secs(60),
            ..Limits::default()
        };
        Self {
            folder,
            limits,
            network: None,
        }
    }

    fn work(&self) -> std::path::PathBuf {
        self.folder.path().join("work")
    }

    fn run(&self, script: &str) -> Ended {
        let show = |name: &str, writable| Shown {
            from: self.folder.path().join(name),
            to: Path::new("/").join(name),
            writable,
        };
        let cell = Cell {
            root: self.folder.path().join("root"),
            shown: vec![show("work", true), show("shown", false)],
            program: ["/bin/bash", "-c", script].map(str::to_string).to_vec(),
            environment: vec![("PATH".to_string(), "/usr/bin:/bin".to_string())],
            folder: "/work".into(),
            limits: self.limits,
            network: self.network.clone(),
        };
        let again: Vec<OsString> = vec![
            std::env::current_exe().expect("this program").into(),
            "sandbox".into(),
        ];
        let mut lines = Vec::new();
        let result = sandbox::run(Mode::Apart(&again), &cell, &mut |line| {
            lines.push(line.to_string())
        });
        Ended { result, lines }
    }
}

impl Ended {
    #[track_caller]
    fn stopped(self) -> Stop {
        match self.result {
            Err(SandboxError::Stopped(stop)) => stop,
            other => panic!("{other:?}: {:?}", self.lines),
        }
    }

    #[track_caller]
    fn printed(self) -> Vec<String> {
        assert!(
            matches!(self.result, Ok(0)),
            "{:?}: {:?}",
            self.result,
            self.lines
        );
        self.lines
    }
}

/// A number of seconds by which a `sleep` of this run is found.
fn mark(number: u32) -> String {
    format!("{}.{number}", 100_000 + std::process::id())
}

/// Whether a process anywhere on this machine has these bytes in its command line.
fn runs(mark: &str) -> bool {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let mut others = processes.filter(|entry| entry.file_name() != own.as_str());
    others.any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.windows(mark.len()).any(|window| window == mark.as_bytes())
    })
}

fn a_program_sees_its_own_folders() {
    let bench = Bench::new();
    fs::write(bench.work().join("in"), "given\n").expect("file");
    let ended = bench.run("cat in; echo made > out; id -u; hostname; env | sort; echo $$; exit 7");
    assert!(
        matches!(ended.result, Ok(7)),
        "{:?} {:?}",
        ended.result,
        ended.lines
    );
    let (given, rest) = ended.lines.split_first().expect("lines");
    assert_eq!(given, "given");
    assert_eq!(rest[..2], ["1000", "build"]);
    assert!(rest.iter().all(|line| !line.contains("HOME")), "{rest:?}");
    assert_eq!(
        fs::read_to_string(bench.work().join("out")).expect("made"),
        "made\n"
    );
}

fn files_of_the_host_are_not_there() {
    let bench = Bench::new();
    fs::write(bench.folder.path().join("token"), "secret-of-the-platform").expect("file");
    let script = format!(
        "cat /etc/shadow {0}/token {0}/root/x; ls /root /home /var /run /sys /boot {0}; ls -a / | tr '\\n' ' '",
        bench.folder.path().display()
    );
    let lines = bench.run(&script).printed();
    let text = lines.join("\n");
    assert!(
        !text.contains("secret-of-the-platform") && !text.contains("root:"),
        "{text}"
    );
    let names: Vec<&str> = lines.last().expect("names").split_whitespace().collect();
    let ours = [
        "work", "shown", "tmp", "proc", "dev", "etc", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32",
    ];
    for name in names {
        assert!(name.starts_with('.') || ours.contains(&name), "{name} is shown");
    }
}

fn what_is_shown_to_read_stays_as_it_is() {
    let bench = Bench::new();
    fs::write(bench.folder.path().join("shown/file"), "as it was").expect("file");
    let script = "for f in /shown/file /shown/new /usr/new /etc/passwd /etc/new /new /bin/sh \
        /proc/sys/kernel/hostname; do
        (echo x > $f) 2>/dev/null && echo \"wrote $f\"; done
        chmod 777 /shown/file 2>/dev/null && echo chmod; rm -f /shown/file 2>/dev/null && echo removed
        mount -o remount,rw /shown 2>/dev/null && echo remounted; cat /shown/file";
    assert_eq!(bench.run(script).printed(), ["as it was"]);
}

fn there_is_no_network() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = listener.local_addr().expect("address").port();
    let script = format!(
        "(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo connected
         (exec 3<>/dev/udp/192.0.2.1/53 && echo x >&3) 2>/dev/null && echo sent
         grep -c : /proc/net/dev"
    );
    assert_eq!(bench.run(&script).printed(), ["1"]);
}

/// How a shell asks a host for a package through the proxy.
fn ask(target: &str) -> String {
    format!(
        "(exec 3<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT {target} HTTP/1.1\\r\\n\\r\\nget!' >&3
         tr -d '\\r' <&3 | sed -n '1p;$p'; echo)\n"
    )
}

fn listed_hosts_are_reached_through_the_proxy() {
    let mut bench = Bench::new();
    let (port, other) = (support::registry(), support::registry());
    bench.network = Some(Network {
        socket: bench.folder.path().join("network"),
        hosts: vec![format!("127.0.0.1:{port}").parse().expect("a host")],
    });
    let script = ask(&format!("127.0.0.1:{port}"))
        + &ask(&format!("127.0.0.1:{other}"))
        + &format!(
            "(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo connected
             (exec 3<>/dev/udp/192.0.2.1/53 && echo x >&3) 2>/dev/null && echo sent
             grep -c : /proc/net/dev; echo x 2>/dev/null >/network && echo written; stat -c %F /network"
        );
    let lines = bench.run(&script).printed();
    let refused = format!("network: 127.0.0.1:{other} refused: not in --build-registries");
    let (told, rest): (Vec<String>, Vec<String>) = lines
        .into_iter()
        .filter(|line| !line.is_empty())
        .partition(|line| *line == refused);
    assert_eq!(told.len(), 1);
    assert_eq!(
        rest,
        [
            "HTTP/1.1 200 Connection established",
            "the package",
            "HTTP/1.1 403 Forbidden",
            "1",
            "socket"
        ]
    );
}

fn nothing_gives_rights_back() {
    let bench = Bench::new();
    let script = "unshare -U true 2>/dev/null && echo user namespace
        unshare -n true 2>/dev/null && echo network namespace
        mount -t tmpfs none /tmp 2>/dev/null && echo mount
        chroot / true 2>/dev/null && echo chroot
        mknod /work/disk b 8 0 2>/dev/null && echo device
        dmesg >/dev/null 2>&1 && echo log
        su -c true 2>/dev/null && echo su
        setpriv --reuid 0 true 2>/dev/null && echo root
        chown 0 /work 2>/dev/null && echo chown
        (exec 4<>/proc/1/mem) 2>/dev/null && echo memory of process 1
        cp /bin/sh /work/sh; chmod 4755 /work/sh; /work/sh -p -c 'id -u'
        grep -E '^(NoNewPrivs|Seccomp|CapEff|CapPrm|CapAmb|CapInh):' /proc/self/status | tr -d '\\t' | tr '\\n' ' '";
    let lines = bench.run(script).printed();
    let zero = "0000000000000000";
    let status = format!("CapInh:{zero} CapPrm:{zero} CapEff:{zero} CapAmb:{zero} NoNewPrivs:1 Seccomp:2 ");
    assert_eq!(lines, ["1000".to_string(), status]);
}

fn a_fork_bomb_is_held_and_stopped() {
    let mut bench = Bench::new();
    bench.limits.processes = 64;
    bench.limits.wall = Duration::from_secs(2);
    let stop = bench
        .run(&format!(
            "bomb() {{ sleep {0} & bomb | bomb & }}; bomb 2>/dev/null; sleep {0}",
            mark(1)
        ))
        .stopped();
    assert!(matches!(stop, Stop::Wall(_)), "{stop:?}");
    assert!(!runs(&mark(1)));
}

fn memory_is_bounded() {
    let mut bench = Bench::new();
    bench.limits.memory_bytes = 128 << 20;
    // One process that takes it all gets an error of its own.
    let one = bench.run("head -c 1G /dev/zero | tail -c 1G >/dev/null; echo ${PIPESTATUS[1]}");
    assert_ne!(one.printed().last().map(String::as_str), Some("0"));
    // Many, each below the bound, are stopped together.
    let stop = bench
        .run("for i in 1 2 3; do (head -c 60M /dev/zero | tail -c 60M | (sleep 50; cat >/dev/null)) & done; wait")
        .stopped();
    assert_eq!(stop, Stop::Memory(128 << 20));
    // What nobody maps is bounded too.
    bench.limits.tmp_bytes = 8 << 20;
    let tmp = bench
        .run("head -c 100M /dev/zero > /tmp/x 2>/dev/null; stat -c %s /tmp/x; head -c 100M /dev/zero > /x");
    assert_eq!(tmp.lines[0], (8 << 20).to_string());
}

fn disk_is_bounded() {
    let mut bench = Bench::new();
    bench.limits.disk_bytes = 32 << 20;
    bench.limits.file_bytes = 16 << 20;
    let fill = "i=0; while :; do head -c 20M /dev/zero > f$i; i=$((i+1)); sleep 0.1; done";
    assert_eq!(bench.run(fill).stopped(), Stop::Disk(32 << 20));
    let largest = fs::metadata(bench.work().join("f0")).expect("file").len();
    assert!(largest <= 16 << 20, "{largest}");
    let mut bench = Bench::new();
    bench.limits.disk_entries = 500;
    let many = "i=0; while :; do : > f$i; i=$((i+1)); done";
    assert_eq!(bench.run(many).stopped(), Stop::Entries(500));
}

fn output_is_bounded() {
    let mut bench = Bench::new();
    bench.limits.output_bytes = 100_000;
    let ended = bench.run("head -c 1G /dev/zero | tr '\\0' y");
    assert!(ended.lines.iter().map(String::len).sum::<usize>() <= 100_000);
    assert_eq!(ended.stopped(), Stop::Output(100_000));
}

fn a_loop_is_stopped() {
    let mut bench = Bench::new();
    bench.limits.wall = Duration::from_secs(1);
    let stop = bench
        .run("trap '' TERM INT HUP; exec >/dev/null 2>&1; while :; do :; done")
        .stopped();
    assert_eq!(stop, Stop::Wall(Duration::from_secs(1)));
    bench.limits.wall = Duration::from_secs(60);
    bench.limits.cpu_seconds = 1;
    let ended = bench.run("while :; do :; done");
    assert!(matches!(ended.result, Ok(137 | 152)), "{:?}", ended.result);
}

fn a_daemon_ends_with_its_build() {
    let bench = Bench::new();
    let lines = bench
        .run(&format!(
            "setsid nohup sleep {} >/dev/null 2>&1 & disown; echo left",
            mark(2)
        ))
        .printed();
    assert_eq!(lines, ["left"]);
    assert!(!runs(&mark(2)));
}

fn processes_outside_are_out_of_reach() {
    // Without our streams: when an assertion fails here, nobody must wait for it.
    let mut outside = Command::new("sleep")
        .arg(mark(3))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let bench = Bench::new();
    let script = format!(
        "ls /proc | grep -c '^[0-9]'; kill -9 {} 2>/dev/null && echo killed; kill -9 -1; echo on",
        outside.id()
    );
    let ended = bench.run(&script);
    let seen: usize = ended.lines[0].parse().expect("a number");
    assert!(seen < 8, "{seen} processes are seen");
    assert!(!ended.lines.contains(&"killed".to_string()));
    assert!(outside.try_wait().expect("state").is_none());
    outside.kill().expect("end");
    outside.wait().expect("end");
}

/// A server that is not root makes its namespaces in another way: all of the above once more.
fn an_ordinary_user_has_the_same_sandbox() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("copy");
    let ended = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(program)
        .env("TMPDIR", folder.path())
        .current_dir(folder.path())
        .output()
        .expect("setpriv");
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}
