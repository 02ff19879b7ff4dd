//! The story of the README, as a newcomer lives it.

use crate::{
    client::{get, wait_ok},
    platform::Platform,
};

#[test]
fn a_procfile_of_components_is_deployed_scaled_served_configured_and_destroyed() {
    let platform = Platform::start();
    let project = platform.sample("guestbook");
    let gilliam = |args: &[&str]| platform.run_in(&project, args);

    gilliam(&["create", "guestbook"]).ok();
    let deployed = gilliam(&["deploy", "-m", "first"]);
    assert!(
        deployed
            .stderr
            .contains("hint: nothing runs yet; gilliam scale v1 web=2 worker=1"),
        "{}",
        deployed.stderr
    );
    assert_eq!(deployed.ok(), "v1 released\n");
    assert!(
        gilliam(&["ps"]).ok().is_empty(),
        "the first release starts nothing"
    );

    let scaled = gilliam(&["scale", "v1", "web=2", "worker=1"]);
    assert!(
        scaled.stderr.contains("done, v1 web=2 worker=1 in "),
        "{}",
        scaled.stderr
    );
    scaled.ok();
    assert_eq!(gilliam(&["scale"]).ok(), "v1 web=2 worker=1\n");
    let ps = gilliam(&["ps"]).ok();
    let rows: Vec<&str> = ps.lines().collect();
    assert_eq!(rows.len(), 3, "{ps}");
    for (row, name) in rows.iter().zip(["web.1", "web.2", "worker.1"]) {
        assert!(
            row.starts_with(name) && row.contains("v1") && row.contains("running"),
            "{row}"
        );
        assert!(row.contains("MiB / 128"), "{row}");
    }
    assert!(rows[0].contains(" port "), "{ps}");

    assert!(get(&platform, "guestbook", "/").body.contains("v1"));
    assert_eq!(gilliam(&["config"]).ok(), "");
    assert_eq!(gilliam(&["config", "POOL_SIZE=64"]).ok(), "v2 released\n");
    assert_eq!(gilliam(&["config"]).ok(), "POOL_SIZE=64\n");
    assert_eq!(gilliam(&["scale"]).ok(), "v2 web=2 worker=1\n");
    let env = get(&platform, "guestbook", "/env").body;
    for line in [
        "POOL_SIZE=64",
        "GILLIAM_APP=guestbook",
        "GILLIAM_RELEASE=v2",
        "GILLIAM_PROCESS=web",
    ] {
        assert!(env.lines().any(|l| l == line), "{line} is not in\n{env}");
    }
    assert!(
        !env.contains("HOME="),
        "nothing of the host's environment is inherited:\n{env}"
    );

    let releases = gilliam(&["releases"]).ok();
    assert!(
        releases.contains("v2") && releases.contains("v1") && releases.contains("first"),
        "{releases}"
    );
    get(&platform, "guestbook", "/log?line=hello-from-a-test");
    crate::platform::wait("the line to reach the log", || {
        let logs = gilliam(&["logs", "-n", "200"]).ok();
        (logs.contains("app[web.") && logs.contains("hello-from-a-test") && logs.contains("app[worker.1]"))
            .then_some(())
    });
    assert!(gilliam(&["apps"]).ok().contains("guestbook"));
    assert!(gilliam(&["status"]).ok().contains("ready"));

    let before = platform.ps("guestbook");
    gilliam(&["restart"]).ok();
    let after = platform.ps("guestbook");
    for (old, new) in before.iter().zip(&after) {
        assert_ne!(
            old["report"]["id"], new["report"]["id"],
            "a restart makes a new instance"
        );
    }
    wait_ok(&platform, "guestbook", "/");

    assert_eq!(gilliam(&["rollback", "v1"]).ok(), "v3 released\n");
    assert_eq!(gilliam(&["config"]).ok(), "");

    gilliam(&["destroy", "--confirm", "guestbook"]).ok();
    assert_eq!(get(&platform, "guestbook", "/").code.as_deref(), Some("H81"));
    assert!(!platform.run(&["apps"]).ok().contains("guestbook"));
    assert!(
        platform.stop().expect("it ran").success(),
        "Ctrl-C ends it gracefully"
    );
}

#[test]
fn a_listening_command_and_a_p3_component_are_served_like_any_web() {
    let platform = Platform::start();
    platform.deploy("hello-p3", "hello-p3", &["web=2"]);
    assert_eq!(wait_ok(&platform, "hello-p3", "/").status, 200);
    platform.deploy("echo-tcp", "echo-tcp", &["web=1"]);
    assert_eq!(wait_ok(&platform, "echo-tcp", "/").status, 200);
}

#[test]
fn an_instance_answers_on_its_own_port_too() {
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=2"]);
    for row in platform.ps("guestbook") {
        let port = row["report"]["port"].as_u64().expect("a web instance has a port");
        let name = row["name"].as_str().expect("name");
        let mut stream =
            std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).expect("port"))).expect("connect");
        use std::io::Write as _;
        stream
            .write_all(b"GET /env HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n")
            .expect("write");
        let answer = crate::platform::text(stream);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("GILLIAM_INSTANCE={name}")), "{answer}");
    }
}
