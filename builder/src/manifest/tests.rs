use gilliam_model::{limits::REUSE_ALWAYS, quantity::Unit};

use super::*;

fn entries() -> Vec<Entry> {
    crate::procfile::parse(b"web: web.wasm\nworker: worker.wasm").expect("Procfile")
}

#[track_caller]
fn refused(text: &str, message: &str) {
    let error = parse(text.as_bytes(), &entries()).expect_err(text);
    assert_eq!(error.to_string(), message);
}

#[test]
fn no_file_means_defaults_for_every_process() {
    let settings = parse(b"", &entries()).expect("empty").processes;
    assert_eq!(settings.len(), 2);
    assert!(settings.values().all(|settings| *settings == Settings::default()));
}

#[test]
fn every_key_reaches_its_limit() {
    let text = r#"
        allowed_outbound_hosts = ["https://api.example.com"]
        [process.web]
        memory = "64MiB"
        fuel_per_request = "2G"
        cpu = 0.25
        request_timeout = "10s"
        concurrency = 16
        backlog = 8
        boot_timeout = "5s"
        exit_timeout = "2s"
        log_lines = 10
        outbound = 3
        reuse = "always"
        idle = "2m"
        handles = 500
        header_bytes = "32KiB"
        random_bytes = "1KiB"
        hostcall_bytes = "2MiB"
        guard_pages = true
        link = ["auth.wasm", "./lib//log.wat"]
        allowed_outbound_hosts = ["http://*.example.com:8080", "http://*.example.com:8080"]
    "#;
    let settings = parse(text.as_bytes(), &entries()).expect(text).processes;
    let limits = Limits {
        memory_bytes_max: 64 << 20,
        fuel_per_request_max: 2_000_000_000,
        cpu_millis: 250,
        request_ms_max: 10_000,
        concurrency_max: 16,
        backlog_max: 8,
        boot_ms_max: 5_000,
        exit_ms_max: 2_000,
        log_lines_per_s_max: 10,
        outbound_max: 3,
        reuse_max: REUSE_ALWAYS,
        idle_ms_max: 120_000,
        handles_max: 500,
        header_bytes_max: 32 << 10,
        random_bytes_max: 1 << 10,
        hostcall_bytes_max: 2 << 20,
    };
    let host = |text: &str| text.parse::<OutboundHost>().expect(text);
    let hosts = vec![host("http://*.example.com:8080")];
    assert_eq!(
        settings["web"],
        Settings {
            limits,
            allowed_outbound_hosts: hosts,
            guard_pages: true,
            link: vec!["auth.wasm".to_string(), "lib/log.wat".to_string()],
            placement: PlacementRules::default(),
            jobs: JobTerms::default(),
            uses: Default::default(),
        }
    );
    assert_eq!(settings["worker"].limits, Limits::default());
    assert_eq!(
        settings["worker"].allowed_outbound_hosts,
        [host("https://api.example.com")]
    );
}

#[test]
fn every_limit_out_of_its_range_is_refused_with_the_range() {
    for name in LimitName::ALL {
        let (key, (min, max)) = (name.key(), name.range());
        let range = format!("is outside {} to {}", name.show(min), name.show(max));
        let beyond = [min.checked_sub(1), max.checked_add(1)];
        for value in beyond.into_iter().flatten() {
            let decimal = format!("{}.{:03}", value / 1_000, value % 1_000);
            let shown = match name.unit() {
                Unit::Bytes => format!("\"{decimal}KB\""),
                Unit::Millis => format!("\"{value}ms\""),
                Unit::CpuShare => decimal,
                Unit::Fuel | Unit::Count | Unit::Uses => value.to_string(),
            };
            let text = format!("[process.web]\n{key} = {shown}");
            let error = parse(text.as_bytes(), &entries()).expect_err(&text);
            let message = format!("{key} = {} {range}", name.show(value));
            assert!(error.to_string().ends_with(&message), "{error}");
            let hint = error.hint().expect("a hint");
            assert!(hint.starts_with("choose a value in that range"), "{hint}");
        }
    }
    refused(
        "[process.web]\nmemory = \"5GiB\"",
        "gilliam.toml line 2, column 10: memory = 5GiB is outside 64KiB to 4GiB",
    );
    refused(
        "[process.web]\nreuse = 0",
        "gilliam.toml line 2, column 9: reuse = 0 is outside 1 to always",
    );
    refused(
        "[process.web]\nlink = [\"../auth.wasm\"]",
        "gilliam.toml line 2, column 9: \"../auth.wasm\" is not a .wasm or .wat file of the project",
    );
    refused(
        "[process.web]\nlink = [\"a.wasm\", \"./a.wasm\"]",
        "gilliam.toml line 2, column 19: \"a.wasm\" is linked already",
    );
    refused(
        "[process.web]\nguard_pages = \"yes\"",
        "gilliam.toml line 2, column 15: guard_pages = \"yes\" is not true or false",
    );
}

#[test]
fn a_whole_core_may_be_written_as_an_integer() {
    let settings = parse(b"[process.web]\ncpu = 1", &entries())
        .expect("cpu")
        .processes;
    assert_eq!(settings["web"].limits.cpu_millis, 1_000);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    refused(
        "[process.web]\nmemory = \"lots\"",
        "gilliam.toml line 2, column 10: memory = \"lots\" is not a size such as 64MiB",
    );
    refused(
        "[process.web]\nmemory = 64",
        "gilliam.toml line 2, column 10: memory = 64 is not a size such as 64MiB",
    );
    refused(
        "[process.web]\nmemory = \"1KiB\"",
        "gilliam.toml line 2, column 10: memory = 1KiB is outside 64KiB to 4GiB",
    );
    refused(
        "[process.web]\ncpu = 1.5",
        "gilliam.toml line 2, column 7: cpu = 1.5 is outside 0.01 to 1",
    );
    refused(
        "[process.web]\nconcurrency = 99999999999",
        "gilliam.toml line 2, column 15: concurrency = 99999999999 is outside 1 to 10000",
    );
    refused(
        "[process.web]\nconcurrency = -1",
        "gilliam.toml line 2, column 15: concurrency = -1 is not a whole number",
    );
    refused(
        "[process.wbe]\nmemory = \"64MiB\"",
        "gilliam.toml line 1, column 10: [process.wbe] is not in the Procfile",
    );
}

#[test]
fn unknown_keys_and_bad_hosts_are_refused() {
    let error = parse(b"[process.web]\nmemry = \"64MiB\"", &entries()).expect_err("memry");
    let message = "gilliam.toml line 2, column 1: unknown key \"memry\"";
    assert_eq!(error.to_string(), message);
    let hint = error.hint().expect("a hint");
    assert!(hint.starts_with("the keys are memory, cpu, "), "{hint}");
    assert!(parse(b"[app]\n", &entries()).is_err());
    assert!(parse(b"process = 1\n", &entries()).is_err());
    let error = parse(b"allowed_outbound_hosts = [\"$api\"]", &entries()).expect_err("$api");
    let message = "gilliam.toml line 1, column 27: outbound host \"$api\" refers to a variable; \
                   write the host itself";
    assert_eq!(error.to_string(), message);
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.starts_with("write SCHEME://HOST:PORT"))
    );
}

#[test]
fn what_is_no_toml_is_refused_with_its_place() {
    let error = parse(b"a = 1\n[process.web\n", &entries()).expect_err("unclosed");
    assert!(
        error.to_string().starts_with("gilliam.toml line 2, column 13: "),
        "{error}"
    );
    refused_bytes(
        b"a = 1\nb = \xff",
        "gilliam.toml line 2, column 5: not UTF-8 text",
    );
}

#[track_caller]
fn refused_bytes(bytes: &[u8], message: &str) {
    assert_eq!(parse(bytes, &entries()).expect_err("bytes").to_string(), message);
}

#[test]
fn a_missing_section_names_those_that_exist() {
    let error = parse(b"[process.wbe]\n", &entries()).expect_err("wbe");
    assert_eq!(error.hint().as_deref(), Some("the Procfile has web, worker"));
}
