//! Every guest of `samples/hostile/`: each gets what its file says, and the host is as it was before.

mod support;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use gilliam_engine::{CommandInstance, ExitReason, HttpInstance, LoadError, Loaded, compile, inspect};
use gilliam_model::limits::Limits;
use http_body_util::BodyExt as _;
use support::{ANSWER, DEADLINE, command_guest, config, fetch, get, guest, guestbook, loaded, start, usage};

/// What the heap and pools may keep after all guests are gone.
const RSS_SLACK_BYTES: u64 = 64 << 20;

/// A body that has not ended by then is one that never ends.
const STREAM_MAX: Duration = Duration::from_secs(1);
/// A command that has not ended by then goes on for ever.
const RUN_MAX: Duration = Duration::from_millis(300);

/// A guest's file: the remarks at its head, and the text below them.
struct Hostile {
    name: String,
    remarks: BTreeMap<String, String>,
    text: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/hostile")
}

fn all() -> Vec<Hostile> {
    let mut all: Vec<Hostile> = std::fs::read_dir(folder())
        .expect("samples/hostile")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wat"))
        .map(|path| Hostile::read(&path))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!all.is_empty());
    all
}

impl Hostile {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a guest");
        let remarks = text
            .lines()
            .map_while(|line| line.strip_prefix(";; ")?.split_once(": "))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        Self { name, remarks, text }
    }

    fn remark(&self, key: &str) -> &str {
        let value = self.remarks.get(key);
        value.unwrap_or_else(|| panic!("{} says nothing of {key:?}", self.name))
    }

    fn component(&self) -> Vec<u8> {
        match self.remark("world") {
            "component" => wat::parse_str(&self.text).expect("a component"),
            "module" => {
                // wit-component would refuse it as well: it goes into a component as it is.
                let module = self.text.replacen("(module", "(core module", 1);
                wat::parse_str(format!("(component {module})")).expect("a component")
            }
            world => guest(world, &self.text.replace(";;@answer", ANSWER)),
        }
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let settings = self.remarks.get("limits").map_or("", String::as_str);
        for setting in settings.split_whitespace() {
            let (name, value) = setting.split_once('=').expect("NAME=VALUE");
            let value = amount(value);
            let narrow = || u32::try_from(value).expect("a small value");
            match name {
                "fuel" => limits.fuel_per_request_max = value,
                "memory" => limits.memory_bytes_max = value / 1_000_000 * (1 << 20),
                "request_ms" => limits.request_ms_max = value,
                "boot_ms" => limits.boot_ms_max = value,
                "cpu" => limits.cpu_millis = narrow(),
                other => panic!("{}: no limit {other:?}", self.name),
            }
        }
        limits.validate().expect("limits in range");
        limits
    }

    /// The row of the table in the folder's README.
    fn row(&self) -> String {
        let [case, does, gets] = ["case", "does", "gets"].map(|key| self.remark(key));
        format!("| [{0}]({0}.wat) | {case} | {does} | {gets} |", self.name)
    }
}

fn amount(text: &str) -> u64 {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().expect("a number");
    number
        * match &text[digits.len()..] {
            "" => 1,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            unit => panic!("no unit {unit:?}"),
        }
}

/// What became of a guest, in the words of the files.
async fn outcome(hostile: &Hostile) -> String {
    let component = hostile.component();
    let Ok(shape) = inspect(&component) else {
        // Nothing to run in it; the engine's own word on the code counts.
        let shape = gilliam_model::image::Shape::CommandP2;
        let refused = compile(
            shape,
            gilliam_engine::EngineKind::SlabP2,
            gilliam_engine::Tier::Optimised,
            &component,
        )
        .is_err();
        return if refused { "refused" } else { "compiled" }.to_owned();
    };
    let loaded = match support::try_load(&support::engines(), shape, &component) {
        Ok(loaded) => loaded,
        Err(LoadError::Link(_)) => return "unlinked".to_owned(),
        Err(LoadError::TooLarge(_)) => return "too large".to_owned(),
        Err(error) => return format!("not loaded: {error}"),
    };
    if shape.is_http() {
        serve(&loaded, hostile.limits()).await
    } else {
        run(&loaded, hostile.limits()).await
    }
}

async fn serve(loaded: &Loaded, limits: Limits) -> String {
    let (config, _log) = config(limits);
    let instance = match HttpInstance::start(loaded, config).await {
        Ok(instance) => instance,
        Err(error) => return format!("start {}: {}", error.code, error.message),
    };
    let gets = match instance.call(get("/")).await {
        Err(error) => format!("call {}: {}", error.code, error.message),
        Ok(response) => {
            let (status, usage) = (response.status(), usage(&response));
            match tokio::time::timeout(STREAM_MAX, response.into_body().collect()).await {
                Ok(Ok(_)) => format!("answers {}", status.as_u16()),
                Ok(Err(_)) => match usage.finished().await.failure {
                    Some(code) => format!("breaks {code}"),
                    None => "breaks".to_owned(),
                },
                // The body is dropped, as when a client leaves.
                Err(_) => "streams".to_owned(),
            }
        }
    };
    support::until("the lane ends", || instance.usage().in_flight == 0).await;
    gets
}

async fn run(loaded: &Loaded, limits: Limits) -> String {
    let (config, _log) = config(limits);
    let command = match CommandInstance::start(loaded, config) {
        Ok(command) => command,
        Err(error) => return format!("start {}", error.code),
    };
    match tokio::time::timeout(RUN_MAX, command.wait()).await {
        Ok(ExitReason::Trap { code, message }) => format!("exit {code}: {message}"),
        Ok(reason) => reason.to_string(),
        Err(_) => {
            command.kill();
            match command.wait().await {
                ExitReason::Killed { .. } => "runs".to_owned(),
                reason => format!("does not die: {reason}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hostile_guest_gets_what_its_file_says_and_the_host_is_as_before() {
    let (quiet, _log) = start(&guestbook(), Limits::default()).await;
    // Run once before, so that what the first use of everything costs is not counted.
    let warm = loaded(&command_guest("", "(i32.const 0)"));
    run(&warm, Limits::default()).await;
    let before = (support::rss_bytes(), support::descriptors());
    let mut wrong = String::new();
    for hostile in all() {
        let got = match tokio::time::timeout(DEADLINE, outcome(&hostile)).await {
            Ok(got) => got,
            Err(_) => format!("nothing within {DEADLINE:?}"),
        };
        // The rest of what it got is the message.
        if got.split(": ").next() != Some(hostile.remark("gets")) {
            let Hostile { name, .. } = &hostile;
            writeln!(wrong, "{name}: {got}, not {}", hostile.remark("gets")).expect("a string");
        }
        let answer = fetch(&quiet, "/").await.expect("the neighbour answers");
        assert_eq!(answer.status, 200, "beside {}", hostile.name);
    }
    assert!(wrong.is_empty(), "{wrong}");
    let after = (support::rss_bytes(), support::descriptors());
    assert!(
        after.0 < before.0 + RSS_SLACK_BYTES,
        "RSS {before:?}, then {after:?}"
    );
    assert!(after.1 <= before.1 + 2, "descriptors {before:?}, then {after:?}");
}

#[test]
fn the_table_of_hostile_guests_lists_each_with_what_it_gets() {
    let readme = std::fs::read_to_string(folder().join("README.md")).expect("README");
    let listed: Vec<&str> = readme.lines().filter(|line| line.starts_with("| [")).collect();
    let rows: Vec<String> = all().iter().map(Hostile::row).collect();
    assert_eq!(listed, rows, "the table is to be:\n{}", rows.join("\n"));
}
