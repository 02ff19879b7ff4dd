//! What a Procfile may hold, by example, and that no bytes make the reader panic.

use gilliam_builder::procfile::{self, Entry, ProcfileError};
use proptest::prelude::*;

#[track_caller]
fn entries(text: &str) -> Vec<Entry> {
    procfile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, message: &str, hint: Option<&str>) {
    let error = procfile::parse(text.as_ref()).expect_err("must be refused");
    assert_eq!(error.to_string(), message);
    assert_eq!(error.hint().as_deref(), hint);
}

const WRITE: Option<&str> = Some("write NAME: COMMAND, such as web: web.wasm");

#[test]
fn a_procfile_names_processes_and_their_words() {
    let entries =
        entries("# what runs\n\nweb: web.wasm\r\n  worker:worker.wasm --name 'a b'  \n\tclock-1:\tc.wasm");
    let seen: Vec<_> = entries
        .iter()
        .map(|e| (e.name.as_str(), e.line, e.command.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("web", 3, "web.wasm"),
            ("worker", 4, "worker.wasm --name 'a b'"),
            ("clock-1", 5, "c.wasm"),
        ]
    );
    assert_eq!(entries[1].words, ["worker.wasm", "--name", "a b"]);
}

#[test]
fn only_the_first_colon_divides_a_line() {
    assert_eq!(
        entries("web: web.wasm --listen 0.0.0.0:80")[0].words,
        ["web.wasm", "--listen", "0.0.0.0:80"]
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    assert_eq!(entries("\u{feff}web: web.wasm")[0].name.as_str(), "web");
}

#[test]
fn a_line_without_its_parts_is_shown_with_its_number() {
    refused(
        "a: a.wasm\n\nweb web.wasm",
        "Procfile line 3: \"web web.wasm\" has no colon",
        WRITE,
    );
    refused("web:", "Procfile line 1: \"web:\" has no command", WRITE);
    refused("web: ''", "Procfile line 1: \"web: ''\" has no command", WRITE);
    let long = "x".repeat(1 << 15);
    refused(
        &long,
        &format!("Procfile line 1: \"{}…\" has no colon", "x".repeat(80)),
        WRITE,
    );
}

#[test]
fn a_name_must_be_a_process_name() {
    for (text, start) in [
        ("Web: web.wasm", "Procfile line 1: process name \"Web\" "),
        (": web.wasm", "Procfile line 1: process name \"\" "),
        ("web : web.wasm", "Procfile line 1: process name \"web \" "),
        ("../web: web.wasm", "Procfile line 1: process name \"../web\" "),
    ] {
        let error = procfile::parse(text.as_bytes()).expect_err(text);
        assert!(error.to_string().starts_with(start), "{error}");
        assert_eq!(
            error.hint().as_deref(),
            Some("name the process like web or worker")
        );
    }
}

#[test]
fn two_processes_of_one_name_are_refused() {
    refused(
        "web: a.wasm\nweb: b.wasm",
        "Procfile line 2: web is there already, on line 1",
        Some("give each process a name of its own"),
    );
}

#[test]
fn an_open_quote_is_refused_with_its_line() {
    let hint = Some("close the quote, or put a backslash before it");
    refused(
        "web: web.wasm 'a b",
        "Procfile line 1: \"web: web.wasm 'a b\" has a ' without its pair",
        hint,
    );
    refused(
        "web: web.wasm \"a",
        "Procfile line 1: \"web: web.wasm \\\"a\" has a \" without its pair",
        hint,
    );
    refused(
        "web: web.wasm \\",
        "Procfile line 1: \"web: web.wasm \\\\\" ends in a backslash",
        hint,
    );
}

#[test]
fn nothing_to_run_is_refused_with_an_example() {
    let hint = Some("name each process and its component in a file called Procfile, such as web: web.wasm");
    refused("", "the Procfile names no process", hint);
    refused("# only this\n\n", "the Procfile names no process", hint);
}

#[test]
fn sizes_and_counts_end_somewhere() {
    let many = |n: usize| (0..n).map(|i| format!("p{i}: a.wasm\n")).collect::<String>();
    assert_eq!(entries(&many(64)).len(), 64);
    refused(
        many(65),
        "Procfile line 65: 64 processes are the most that an app can have",
        None,
    );
    refused(
        many(10_000),
        "the Procfile has 138890 bytes; at most 65536 are read",
        None,
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    refused(
        b"web: web.wasm\nb: \xff",
        "Procfile line 2 is not UTF-8 text",
        None,
    );
    refused(
        "web: web.wasm \u{1b}[2J",
        "Procfile line 1: \"web: web.wasm \\u{1b}[2J\" has a control character",
        None,
    );
    refused(
        "web: web.wasm \0",
        "Procfile line 1: \"web: web.wasm \\0\" has a control character",
        None,
    );
}

#[test]
fn shell_syntax_is_data_and_is_pointed_out() {
    let entries = entries("web: web.wasm $PORT '$HOME' $5 a$ && $(rm -rf /) \"${X:-1}\"");
    assert_eq!(entries[0].words.len(), 10);
    assert_eq!(
        entries[0].unexpanded().collect::<Vec<_>>(),
        ["$PORT", "$HOME", "&&", "$(rm", "${X:-1}"]
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = procfile::parse(&bytes);
    }

    #[test]
    fn no_text_makes_it_panic_and_what_is_taken_is_usable(text in "[a-c:# '\"\\\\\r\n$.\u{e9}]{0,200}") {
        match procfile::parse(text.as_bytes()) {
            Ok(entries) => {
                prop_assert!(!entries.is_empty());
                for entry in entries {
                    prop_assert!(!entry.words.is_empty() && !entry.words[0].is_empty());
                    prop_assert!(entry.words.iter().all(|word| !word.contains('\n')));
                }
            }
            Err(ProcfileError::TooLong { .. }) => prop_assert!(false, "it is short"),
            Err(_) => {}
        }
    }
}
