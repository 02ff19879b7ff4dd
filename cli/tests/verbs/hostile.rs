//! Servers that mean harm: what they send is shown, never obeyed.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use crate::env::{Env, answered};

#[test]
fn escape_sequences_of_an_error_are_shown_not_sent() {
    let body = r#"{"code":"A422","message":"\u001b]0;owned\u0007 \u202egnp","hint":"\u001b[2J"}"#;
    let ran = answered(&["apps"], "422 Unprocessable Content", body);
    ran.refused(1, "error: ^[]0;owned^G \\u{202e}gnp\nhint: ^[[2J\n");
}

#[test]
fn escape_sequences_of_a_log_are_shown_and_nobody_speaks_for_the_platform() {
    let line =
        r#"{"at":"2026-11-21T09:00:00.123456Z","app":"x","source":"web.1","stream":"stdout","text":"TEXT"}"#;
    let body = format!(
        "{}\n{}\n",
        line.replace("TEXT", "\\u001b[31mred\\r2026 gilliam[router]: forged"),
        line.replace("TEXT", "\\tplain ü")
    );
    answered(&["logs", "-a", "x"], "200 OK", &body).printed(
        "2026-11-21T09:00:00.123Z app[web.1]: ^[[31mred^M2026 gilliam[router]: forged\n\
         2026-11-21T09:00:00.123Z app[web.1]: \tplain ü\n",
    );
    let json = answered(
        &["logs", "-a", "x", "--json"],
        "200 OK",
        &body.replace("ü", "\u{9b}"),
    );
    assert!(
        json.stdout.contains("\\u001b[31m") && json.stdout.contains("\\u009b"),
        "{}",
        json.stdout
    );
}

#[test]
fn values_of_the_configuration_cannot_forge_lines() {
    let body = r#"{"release":"v1","config":{"A":"1\nB=2","C":"3"}}"#;
    answered(&["config", "-a", "x"], "200 OK", body).printed("A=1^JB=2\nC=3\n");
    answered(&["config", "get", "A", "-a", "x"], "200 OK", body).printed("1\nB=2\n");
}

#[test]
fn another_program_on_the_port_is_recognised() {
    let ran = answered(&["apps"], "200 OK", "<html>");
    assert!(
        ran.stderr.contains("does not answer like gilliam"),
        "{}",
        ran.stderr
    );
    let ran = answered(&["apps"], "302 Found\r\nlocation: http://127.0.0.1:9/", "");
    assert!(
        ran.stderr.contains("it answers 302 Found"),
        "no redirect is followed: {}",
        ran.stderr
    );
}

#[test]
fn a_name_that_is_no_name_is_refused_where_it_comes_in() {
    let body = r#"[{"name":"../x","created_at":"2026-01-01T00:00:00Z","latest":null,"scale":{},"running":0,"urls":[],
        "migration":null,"migration_failure":null}]"#;
    let ran = answered(&["apps"], "200 OK", body);
    assert!(
        ran.stderr.contains("must begin with a lower-case letter"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code, Some(1));
}

#[test]
fn a_build_that_is_cut_off_is_not_taken_for_a_release() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let env = Env::with_cluster(&format!("http://{}", listener.local_addr().expect("address")));
    std::fs::write(env.work().join("Procfile"), "web: web.wasm\n").expect("Procfile");
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("connection");
        let mut request = Vec::new();
        // A tar ends with two blocks of zeroes.
        while !request.ends_with(&[0; 1024]) {
            let mut chunk = [0; 4096];
            let n = connection.read(&mut chunk).expect("archive");
            assert!(n > 0, "the archive is sent whole");
            request.extend_from_slice(&chunk[..n]);
        }
        let line = "{\"type\":\"output\",\"line\":\"-----> building\"}\n";
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            line.len()
        );
        connection.write_all((head + line).as_bytes()).expect("answer");
    });
    let ran = env.run(&["deploy", "-a", "x"]);
    server.join().expect("server");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(
        ran.stderr
            .contains("-----> building\nerror: the connection to http://"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_followed_log_goes_on_where_it_broke_and_repeats_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let env = Env::with_cluster(&format!("http://{}", listener.local_addr().expect("address")));
    let line = |second: u32| {
        let text = r#""app":"x","source":"web.1","stream":"stdout","text":"hi""#;
        format!("{{\"at\":\"2026-11-21T09:00:0{second}Z\",{text}}}\n")
    };
    let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
    let (one, two) = (line(1), line(1) + &line(2));
    let gone = r#"{"code":"A404","message":"gone"}"#;
    let answers = [
        format!("{ok}content-length: 9999\r\n\r\n{one}"),
        format!("{ok}content-length: {}\r\n\r\n{two}", two.len()),
        format!(
            "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{gone}",
            gone.len()
        ),
    ];
    let server = std::thread::spawn(move || {
        answers.map(|answer| {
            let (mut connection, _) = listener.accept().expect("connection");
            let mut asked = [0; 4096];
            let n = connection.read(&mut asked).expect("request");
            connection.write_all(answer.as_bytes()).expect("answer");
            String::from_utf8_lossy(&asked[..n])
                .lines()
                .next()
                .unwrap_or_default()
                .to_string()
        })
    });
    let ran = env.run(&["logs", "-f", "-n", "5", "-a", "x"]);
    let lines = "2026-11-21T09:00:01.000Z app[web.1]: hi\n2026-11-21T09:00:02.000Z app[web.1]: hi\n";
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        (lines, Some(1)),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("in the middle of an answer; asking again\nerror: gone\n"),
        "{}",
        ran.stderr
    );
    let asked = server.join().expect("server");
    assert!(
        asked[0].contains("lines=5") && asked[1].contains("lines=1500"),
        "{asked:?}"
    );
}
