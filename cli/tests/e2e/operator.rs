//! What operators do to a platform, or let happen to it.

use crate::{
    client::{get, wait_ok},
    platform::{Platform, wait},
};

/// An upgrade renames a new file over the program while `up` runs from the old one. Its children were then
/// started from a path that ended in " (deleted)": no node ever came back.
#[test]
fn a_platform_whose_program_was_replaced_still_starts_its_children() {
    let platform = Platform::start_copy();
    let project = platform.deploy("guestbook", "guestbook", &["web=1"]);
    let program = platform.program();
    let next = program.with_extension("next");
    std::fs::copy(program, &next).expect("the new program");
    std::fs::rename(&next, program).expect("replace it");

    let old = platform.node_pid().expect("a node");
    platform.kill_node();
    wait("another node process", || {
        platform.node_pid().filter(|pid| *pid != old)
    });
    wait_ok(&platform, "guestbook", "/");
    platform.run_in(&project, &["deploy", "-m", "second"]).ok();
    assert_eq!(get(&platform, "guestbook", "/").status, 200);
}

/// hyper drops a body after the last byte that its head announces, which looked like a client that went away.
#[test]
fn the_line_of_a_finished_request_has_no_code() {
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=1"]);
    for _ in 0..20 {
        assert_eq!(get(&platform, "guestbook", "/").status, 200);
    }
    let lines = wait("the lines of 20 requests", || {
        let log = platform
            .run(&["logs", "--app", "guestbook", "-n", "200", "router"])
            .ok();
        let lines: Vec<String> = log
            .lines()
            .filter(|l| l.contains("status=200"))
            .map(str::to_string)
            .collect();
        (lines.len() >= 20).then_some(lines)
    });
    let coded: Vec<&String> = lines.iter().filter(|line| line.contains("code=")).collect();
    assert!(coded.is_empty(), "{coded:#?}");
}

/// The next `up` took the record of the node before for that of the node that was just starting, watched a
/// process that was dead, and then started one node after the other in vain, for the first held the folder.
#[test]
fn an_up_that_is_killed_while_its_node_starts_is_taken_over_by_the_next() {
    let platform = Platform::start();
    platform.deploy("guestbook", "guestbook", &["web=1"]);
    for round in 0..5 {
        platform.kill_up();
        platform.kill_node();
        let mut up = platform.spawn_up();
        wait("a node to hold the folder", || {
            gilliam_runtime::is_running(&platform.data()).then_some(())
        });
        up.kill().expect("kill");
        up.wait().expect("wait");
        platform.up();
        wait_ok(&platform, "guestbook", "/");
        assert!(platform.node_pid().is_some(), "round {round}");
    }
}
