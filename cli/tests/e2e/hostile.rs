//! Every guest of `samples/hostile/`, deployed as a user would: each gets its code, the node lives, and a quiet
//! app on the same node fails nothing.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    client::{Load, try_get_at},
    guests::{ANSWER, guest},
    platform::{Platform, wait},
};

/// One guest's file.
struct Hostile {
    name: String,
    remarks: BTreeMap<String, String>,
    component: Vec<u8>,
}

fn all() -> Vec<Hostile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/hostile");
    let paths = std::fs::read_dir(folder).expect("samples/hostile");
    let mut paths: Vec<PathBuf> = paths.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wat"));
    paths.sort();
    paths.iter().map(|path| Hostile::read(path)).collect()
}

impl Hostile {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a guest");
        let remarks: BTreeMap<String, String> = text
            .lines()
            .map_while(|line| line.strip_prefix(";; ")?.split_once(": "))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let component = match remarks["world"].as_str() {
            "component" | "module" => wat::parse_str(&text).expect("WebAssembly"),
            world => guest(world, &text.replace(";;@answer", ANSWER)),
        };
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        Self {
            name,
            remarks,
            component,
        }
    }

    /// What it gets, and the code or status of that.
    fn gets(&self) -> (&str, &str) {
        let gets = self.remarks["gets"].as_str();
        gets.split_once(' ').unwrap_or((gets, ""))
    }

    fn is_refused(&self) -> bool {
        matches!(self.gets().0, "refused" | "unlinked" | "too")
    }

    /// Its section of `gilliam.toml`.
    fn section(&self) -> String {
        let mut section = format!("[process.{}]\n", self.name);
        let settings = self.remarks.get("limits").map_or("", String::as_str);
        for setting in settings.split_whitespace() {
            let (name, value) = setting.split_once('=').expect("NAME=VALUE");
            let line = match name {
                "fuel" => format!("fuel_per_request = \"{value}\""),
                "memory" => format!("memory = \"{value}iB\""),
                "request_ms" => format!("request_timeout = \"{value}ms\""),
                "boot_ms" => format!("boot_timeout = \"{value}ms\""),
                "cpu" => format!("cpu = 0.{value:0>3}"),
                other => panic!("{}: no limit {other:?}", self.name),
            };
            writeln!(section, "{line}").expect("a string");
        }
        section
    }
}

/// A project with these guests, each a process type of its own.
fn project(platform: &Platform, name: &str, guests: &[&Hostile]) -> PathBuf {
    let folder = platform.root().join("projects").join(name);
    std::fs::create_dir_all(&folder).expect("folder");
    let (mut procfile, mut toml) = (String::new(), String::new());
    for guest in guests {
        writeln!(procfile, "{0}: {0}.wasm", guest.name).expect("a string");
        toml.push_str(&guest.section());
        std::fs::write(folder.join(format!("{}.wasm", guest.name)), &guest.component).expect("component");
    }
    std::fs::write(folder.join("Procfile"), procfile).expect("Procfile");
    std::fs::write(folder.join("gilliam.toml"), toml).expect("gilliam.toml");
    platform.run_in(&folder, &["create", name]).ok();
    folder
}

#[test]
fn hostile_components_are_refused_at_the_deploy_with_their_code() {
    let platform = Platform::start();
    let all = all();
    for hostile in all.iter().filter(|hostile| hostile.is_refused()) {
        let folder = project(&platform, &hostile.name, &[hostile]);
        let refused = platform.run_in(&folder, &["deploy"]).refused();
        let codes = ["(B10)", "(B11)", "(B12)"];
        assert!(
            codes.iter().any(|code| refused.contains(code)),
            "{}: {refused}",
            hostile.name
        );
    }
}

#[test]
fn hostile_processes_get_their_codes_while_a_quiet_app_fails_nothing() {
    let platform = Platform::start();
    platform.deploy("quiet", "guestbook", &["web=1"]);
    let node = platform.node_pid();
    let all = all();
    let running: Vec<&Hostile> = all.iter().filter(|hostile| !hostile.is_refused()).collect();
    let folder = project(&platform, "hostile", &running);
    platform.run_in(&folder, &["deploy"]).ok();
    let load = Load::start(&platform, "quiet", "/", 1);
    let scale: Vec<String> = running.iter().map(|h| format!("{}=1", h.name)).collect();
    let scale: Vec<&str> = scale.iter().map(String::as_str).collect();
    platform
        .run_in(&folder, &[&["scale", "--no-wait"], &scale[..]].concat())
        .ok();

    let mut wrong = String::new();
    for hostile in &running {
        if let Err(got) = check(&platform, hostile) {
            writeln!(wrong, "{}: {got}, not {}", hostile.name, hostile.remarks["gets"]).expect("a string");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let (sent, failures) = load.finish();
    assert_eq!(
        failures,
        Vec::<String>::new(),
        "of {sent} requests to the quiet app"
    );
    assert_eq!(platform.node_pid(), node, "the node lived through all of it");
}

/// Whether a deployed guest got what its file says; else what it got.
fn check(platform: &Platform, hostile: &Hostile) -> Result<(), String> {
    let (what, code) = hostile.gets();
    let state = |wanted: &str| {
        wait(&format!("{} to be {wanted}", hostile.name), || {
            let rows = platform.ps("hostile");
            let row = rows
                .into_iter()
                .find(|row| row["process"] == hostile.name.as_str())?;
            (row["state"] == wanted).then_some(row)
        })
    };
    match what {
        "start" | "exit" => {
            let row = state("crashed");
            let failure = &row["report"]["last_failure"]["code"];
            (failure == code).then_some(()).ok_or_else(|| failure.to_string())
        }
        "runs" => {
            state("running");
            Ok(())
        }
        _ => {
            let row = state("running");
            let port = row["report"]["port"].as_u64().expect("a port");
            let answer = try_get_at(&format!("http://127.0.0.1:{port}/"));
            match (what, answer) {
                ("answers", Ok(answer)) if answer.status.to_string() == code => Ok(()),
                // Its head was sent and its body was not: nothing whole arrives.
                ("breaks" | "streams", Err(_)) => Ok(()),
                // What it sent before was whole.
                ("breaks", Ok(answer)) if answer.body.is_empty() => in_the_log(platform, hostile, code),
                ("call", Ok(answer)) if answer.code.is_some() => in_the_log(platform, hostile, code),
                (_, answer) => Err(format!("{answer:?}")),
            }
        }
    }
}

/// Waits for the code in the lines of the guest's own instance.
fn in_the_log(platform: &Platform, hostile: &Hostile, code: &str) -> Result<(), String> {
    let label = format!("{}.1", hostile.name);
    wait(&format!("{code} in the log of {label}"), || {
        let lines = platform.run(&["logs", "--app", "hostile", "-n", "1500"]).stdout;
        let found = lines
            .lines()
            .any(|line| line.contains(&label) && line.contains(code));
        found.then_some(())
    });
    Ok(())
}
