//! Which cluster a command speaks to, and what is said when there is none.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
};

use crate::env::Env;

#[test]
fn without_a_cluster_the_way_to_one_is_shown() {
    let env = Env::new();
    let want = "error: no cluster is known\nhint: gilliam up starts one on this machine\n";
    env.run(&["apps"]).refused(1, want);
    assert_eq!(
        env.run(&["clusters"]).stderr,
        "no cluster is known\nhint: gilliam up starts one on this machine\n"
    );
}

#[test]
fn a_platform_that_does_not_run_is_named_with_its_address() {
    let env = Env::with_dead_cluster();
    let want = "error: no gilliam answers at http://127.0.0.1:9\nhint: is gilliam up running?\n";
    for args in [
        &["apps"][..],
        &["status"],
        &["ps", "-a", "x"],
        &["create", "x"],
        &["logs", "-f", "-a", "x"],
    ] {
        env.run(args).refused(1, want);
    }
    assert!(
        !env.work().join(".gilliam.app").exists(),
        "a failed create leaves nothing"
    );
    env.run(&["version"])
        .printed(concat!("gilliam ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn clusters_are_added_listed_used_and_removed() {
    let env = Env::with_cluster("http://127.0.0.1:1/");
    assert_eq!(
        env.run_with_input(&["clusters:add", "far", "http://far:7788"], "gil_b\n")
            .code,
        Some(0)
    );
    env.run(&["clusters"])
        .printed("   far    http://far:7788\n*  local  http://127.0.0.1:1\n");
    assert_eq!(env.run(&["clusters", "use", "far"]).code, Some(0));
    let json = env.run(&["clusters", "--json"]);
    json.printed(
        "[{\"name\":\"far\",\"api\":\"http://far:7788\",\"current\":true},\
         {\"name\":\"local\",\"api\":\"http://127.0.0.1:1\",\"current\":false}]\n",
    );
    env.run(&["clusters", "use", "gone"]).refused(
        1,
        "error: no cluster is named \"gone\"\nhint: gilliam clusters lists them\n",
    );
    env.run(&["apps", "--cluster", "gone"]).refused(
        1,
        "error: no cluster is named \"gone\"\nhint: known: far, local\n",
    );
    assert_eq!(env.run(&["clusters", "remove", "far"]).code, Some(0));
    // The only one left is meant without being named.
    assert!(env.run(&["apps"]).stderr.contains("http://127.0.0.1:1\n"));
}

#[test]
fn an_address_or_a_token_that_cannot_be_used_is_refused_before_it_is_kept() {
    let env = Env::new();
    let refused = env.run_with_input(&["clusters", "add", "x", "ftp://far"], "gil_b\n");
    assert!(
        refused.stderr.contains("the scheme is ftp, not http or https"),
        "{}",
        refused.stderr
    );
    let refused = env.run_with_input(&["clusters", "add", "x", "http://far"], "\n");
    assert!(
        refused.stderr.contains("no token on the input"),
        "{}",
        refused.stderr
    );
    let refused = env.run_with_input(&["clusters", "add", "a/b", "http://far"], "gil_b\n");
    assert!(refused.stderr.contains("cluster name"), "{}", refused.stderr);
    assert!(!env.home().join("credentials.json").exists());
}

#[test]
fn a_credential_that_others_can_read_is_refused() {
    let env = Env::with_dead_cluster();
    let path = env.home().join("credentials.json");
    assert_eq!(
        fs::metadata(&path).expect("file").permissions().mode() & 0o777,
        0o600
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    let shown = path.display();
    env.run(&["apps"]).refused(
        1,
        &format!(
            "error: {shown} can be read by other users of this machine (mode 640)\nhint: chmod 600 {shown}\n"
        ),
    );
    // With a token of its own, the file is not needed.
    let env = env.set("GILLIAM_TOKEN", "gil_x");
    assert!(env.run(&["apps"]).stderr.contains("no gilliam answers"));
}

#[test]
fn a_file_that_is_not_ours_is_named() {
    let env = Env::with_dead_cluster();
    fs::write(env.home().join("clusters.json"), "{").expect("write");
    let ran = env.run(&["apps"]);
    assert!(
        ran.stderr.contains("clusters.json is not as gilliam writes it"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code, Some(1));
}

#[test]
fn a_saved_token_is_not_sent_to_another_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let api = format!("http://{}", listener.local_addr().expect("address"));
    let env = Env::with_dead_cluster().set("GILLIAM_API", &api);
    let want = format!("error: there is no token for {api}\n");
    assert!(env.run(&["apps"]).stderr.starts_with(&want));

    let env = env.set("GILLIAM_TOKEN", "gil_own");
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("connection");
        let mut asked = [0; 4096];
        let n = connection.read(&mut asked).expect("request");
        connection
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]")
            .expect("answer");
        String::from_utf8_lossy(&asked[..n]).to_ascii_lowercase()
    });
    env.run(&["apps", "--json"]).printed("[]\n");
    assert!(
        server
            .join()
            .expect("server")
            .contains("authorization: bearer gil_own\r\n")
    );
}
