//! A guest that misbehaves gets its code; its neighbour on the same node notices nothing.

use crate::{
    client::{Load, get, try_get, wait_ok},
    platform::{Platform, wait},
};

#[test]
fn hostile_requests_get_their_codes_while_a_quiet_app_keeps_answering() {
    let platform = Platform::start();
    let hostile = platform.deploy("hostile", "guestbook", &[]);
    let toml = "[process.web]\nfuel_per_request = \"500M\"\nrequest_timeout = \"2s\"\nmemory = \"16MiB\"\n";
    std::fs::write(hostile.join("gilliam.toml"), toml).expect("gilliam.toml");
    platform.run_in(&hostile, &["deploy", "-m", "small limits"]).ok();
    platform.run_in(&hostile, &["scale", "v2", "web=1"]).ok();
    platform.deploy("quiet", "guestbook", &["web=1"]);
    let node = platform.node_pid();
    let load = Load::start(&platform, "quiet", "/", 1);

    let cases = [
        ("/spin", "H10", "R20"),
        ("/trap", "H10", "R23"),
        ("/recurse", "H10", "R21"),
        ("/sleep?ms=60000", "H12", "H12"),
    ];
    for (path, code, reason) in cases {
        let answer = get(&platform, "hostile", path);
        assert_eq!(answer.code.as_deref(), Some(code), "{path}: {answer:?}");
        wait(&format!("{reason} in the log after {path}"), || {
            let logs = platform.run(&["logs", "--app", "hostile", "-n", "500"]).stdout;
            logs.contains(reason).then_some(())
        });
    }
    let grown = try_get(&platform, "hostile", "/grow").expect("an answer");
    assert!(grown.status == 200 || grown.code.is_some(), "{grown:?}");
    let flood = try_get(&platform, "hostile", "/flood?lines=5000").expect("an answer");
    assert_eq!(flood.status, 200, "{flood:?}");
    for reason in ["R14", "L12"] {
        wait(&format!("{reason} in the log"), || {
            let logs = platform.run(&["logs", "--app", "hostile", "-n", "1500"]).stdout;
            logs.contains(reason).then_some(())
        });
    }
    let logs = platform.run(&["logs", "--app", "hostile", "-n", "1500"]).stdout;
    for hint in [
        "hint: gilliam limits web memory=32MiB",
        "hint: gilliam limits web fuel_per_request=1G",
        "hint: gilliam limits web request_timeout=4s",
        "hint: gilliam limits web log_lines=200",
    ] {
        assert!(logs.contains(hint), "{hint} is not in\n{logs}");
    }
    let ps = platform.run(&["ps", "--app", "hostile"]);
    // What failed last decides what it says.
    assert!(ps.stderr.contains("hint: "), "{}", ps.stderr);
    wait_ok(&platform, "hostile", "/");
    let (sent, failures) = load.finish();
    assert_eq!(
        failures,
        Vec::<String>::new(),
        "the quiet app failed none of {sent}"
    );
    assert_eq!(platform.node_pid(), node, "the node lived through all of it");
}
