//! Plans by example: `tests/scripts/*.txt` hold commands, each with what it prints, indented, below it.
//!
//! `UPDATE=1 cargo test -p gilliam-plan --test scripts` writes what is printed now into the files.
//!
//! ```text
//! node a b [slots=N] [ports=N] [memory=MIB] [cpu=MILLIS] [zone=…]   nodes that join; what else has a = is a label
//! drain|lose|return|unhear NODE        policy [cpu_overcommit=N] [rebalance=SKEW] [rebalance_slots=N]
//! rules PROCESS require|spread|anti_affinity|max_per_node|none …, rules PROCESS rank WEIGHT …    of releases to come
//! app APP · delete APP                 release APP web[=MIB] … [no-migrate]     the app's next release
//! scale APP [vN] web=2                 restart APP [web[.1]]           wait SECONDS
//! run [APP vN web.1 …]                 all that is placed runs, or these only
//! crash APP vN web.1                   it ends by itself
//! what-if [scale APP] …                what a change would do
//! turn                                 migrations are looked at, then planned; show: what is placed
//! ```

mod cluster;
mod printed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use gilliam_model::{
    Timestamp,
    api::ScalePatch,
    code::Code,
    instance::{Failure, InstanceId, InstanceReport, InstanceState},
    label::Labels,
    name::{AppName, NodeName, ProcessName},
    placement::Placement,
    release::ReleaseId,
    report::{ProcessKey, ProcessReport, fold},
    rules::PlacementRules,
    scale::parse_count,
};
use gilliam_plan::{
    AppState, Availability, MigrationStep, MigrationView, NodeState, Observed, RestartTarget, Snapshot,
    finished, given_up, migration, released, restart, scale_target, scaled, what_if,
};
use printed::{describe, plan_lines, record};

/// The end of a script without a limit on a node.
const PLENTY: u32 = 1_000_000;

#[test]
fn scripts_print_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("scripts")
        .map(|f| f.expect("file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut different = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("script");
        let now = Script::new().run(&text);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &now).expect("update");
        } else if let Some((n, (want, got))) = text
            .lines()
            .zip(now.lines())
            .enumerate()
            .find(|(_, (a, b))| a != b)
        {
            different.push(format!(
                "{}:{}\n  want {want}\n  got  {got}\n\n{now}",
                file.display(),
                n + 1
            ));
        } else if text != now {
            different.push(format!("{}: the end is different\n\n{now}", file.display()));
        }
    }
    assert!(
        different.is_empty(),
        "\n{}\nUPDATE=1 rewrites the scripts",
        different.join("\n")
    );
}

struct Script {
    snapshot: Snapshot,
    reports: BTreeMap<InstanceId, InstanceReport>,
    start: Timestamp,
    now: Timestamp,
    /// Of releases to come.
    rules: BTreeMap<ProcessName, PlacementRules>,
    out: String,
}

impl Script {
    fn new() -> Self {
        let start: Timestamp = "2026-11-21T09:00:00Z".parse().expect("time");
        Self {
            snapshot: Snapshot::default(),
            reports: BTreeMap::new(),
            start,
            now: start,
            rules: BTreeMap::new(),
            out: String::new(),
        }
    }

    fn run(mut self, text: &str) -> String {
        for line in text.lines().filter(|line| !line.starts_with("  ")) {
            writeln!(self.out, "{line}").expect("a String");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [word, ..] if word.starts_with('#') => {}
                ["node", rest @ ..] => self.node(rest),
                ["policy", rest @ ..] => self.policy(rest),
                ["rules", process, rule, rest @ ..] => self.rule(process, rule, rest),
                ["drain", name] => self.set(name, Availability::Draining),
                ["lose", name] => self.set(name, Availability::Lost),
                ["return", name] => self.set(name, Availability::Ready),
                ["unhear", name] => self.snapshot.nodes.retain(|node| node.name.as_str() != *name),
                ["release", app, rest @ ..] => self.release(app, rest),
                ["app", app] => drop(self.app(app).app.name.clone()),
                ["delete", app] => self.snapshot.apps.retain(|state| state.app.name.as_str() != *app),
                ["scale", app, rest @ ..] => self.scale(app, rest),
                ["restart", app, rest @ ..] => self.restart(app, rest.first().copied()),
                ["wait", seconds] => self.wait(seconds.parse().expect("seconds")),
                ["run"] => self.report_all(),
                ["run", app, release, labels @ ..] => {
                    self.report(app, release, labels, InstanceState::Running)
                }
                ["crash", app, release, labels @ ..] => {
                    self.report(app, release, labels, InstanceState::Crashed)
                }
                ["what-if", "scale", app, rest @ ..] => {
                    self.what_if(Some(app), &format!("scale {}", rest.join(" ")))
                }
                ["what-if", rest @ ..] => self.what_if(None, &rest.join(" ")),
                ["turn"] => self.turn(),
                ["show"] => self.show(),
                _ => panic!("no such command: {line}"),
            }
        }
        self.out
    }

    fn say(&mut self, line: impl AsRef<str>) {
        writeln!(self.out, "  {}", line.as_ref()).expect("a String");
    }

    fn node(&mut self, words: &[&str]) {
        let option = |name: &str| {
            words
                .iter()
                .find_map(|word| word.split_once('=').filter(|(key, _)| *key == name))
                .map(|(_, value)| value)
        };
        let slots = option("slots").map_or(PLENTY, |n| n.parse().expect("slots"));
        let ports = option("ports").map_or(u32::MAX, |n| n.parse().expect("ports"));
        let memory = option("memory").map_or(1 << 30, |n| n.parse().expect("MiB"));
        let cpu_millis = option("cpu").map_or(4_000, |n| n.parse().expect("thousandths"));
        let is_label = |word: &&&str| {
            let key = word.split_once('=').map(|(key, _)| key);
            key.is_some_and(|key| !["slots", "ports", "memory", "cpu"].contains(&key))
        };
        let labels = words.iter().filter(is_label).copied();
        let labels = Labels::parse(labels).expect("labels");
        for name in words.iter().filter(|word| !word.contains('=')) {
            self.snapshot.nodes.push(NodeState {
                ports_max: ports,
                cpu_millis,
                labels: labels.clone(),
                ..cluster::node(name, slots, memory)
            });
        }
    }

    fn policy(&mut self, words: &[&str]) {
        let policy = &mut self.snapshot.policy;
        for (key, value) in words.iter().filter_map(|word| word.split_once('=')) {
            let number: u32 = value.parse().expect("a number");
            match key {
                "cpu_overcommit" => policy.cpu_overcommit = Some(number),
                "rebalance" => policy.rebalance.get_or_insert_default().skew_max = number,
                "rebalance_slots" => policy.rebalance.get_or_insert_default().slots_max = number,
                _ => panic!("no such policy: {key}"),
            }
        }
    }

    fn rule(&mut self, process: &str, rule: &str, words: &[&str]) {
        let rules = self.rules.entry(process.parse().expect("name")).or_default();
        let text = words.join(" ");
        match (rule, words) {
            ("none", []) => *rules = PlacementRules::default(),
            ("require", _) => rules.require.push(text.parse().expect("a requirement")),
            ("rank", [weight, rest @ ..]) => {
                let requirement = rest.join(" ").parse().expect("a requirement");
                rules.rank.insert(requirement, weight.parse().expect("a weight"));
            }
            ("spread", _) => rules.spread = text.parse().expect("a label"),
            ("anti_affinity", _) => drop(rules.anti_affinity.insert(text.parse().expect("name"))),
            ("max_per_node", _) => rules.max_per_node = Some(text.parse().expect("a number")),
            _ => panic!("no such rule: {rule}"),
        }
    }

    fn set(&mut self, name: &str, state: Availability) {
        let node = self
            .snapshot
            .nodes
            .iter_mut()
            .find(|node| node.name.as_str() == name)
            .expect("a node");
        node.state = state;
        self.observe();
    }

    fn app(&mut self, name: &str) -> &mut AppState {
        let apps = &mut self.snapshot.apps;
        if let Some(i) = apps.iter().position(|state| state.app.name.as_str() == name) {
            return Arc::make_mut(&mut apps[i]);
        }
        apps.push(Arc::new(AppState {
            app: cluster::app(name),
            images: BTreeMap::new(),
        }));
        apps.last_mut().map(Arc::make_mut).expect("just made")
    }

    fn release(&mut self, app: &str, words: &[&str]) {
        let now = self.now;
        let migrate = !words.contains(&"no-migrate");
        let processes = words.iter().filter(|word| **word != "no-migrate");
        let processes = processes.map(|word| word.split_once('=').unwrap_or((word, "128")));
        let mut image = cluster::image(processes.map(|(name, mib)| (name, mib.parse().expect("MiB"))));
        for (name, process) in &mut image.processes {
            process.placement = self.rules.get(name).cloned().unwrap_or_default();
        }
        let state = self.app(app);
        let release = state.app.next_release();
        state.app = released(&state.app, release, &image, migrate, now);
        state.images.insert(release, Arc::new(image));
        let line = describe(&state.app);
        self.say(line);
    }

    fn scale(&mut self, app: &str, words: &[&str]) {
        let (release, counts) = match words {
            [first, rest @ ..] if !first.contains('=') => (Some(first.parse().expect("release")), rest),
            rest => (None, rest),
        };
        let counts = counts
            .iter()
            .map(|word| parse_count(word).expect("PROCESS=COUNT"))
            .collect();
        let state = self.app(app);
        let patch = ScalePatch { release, counts };
        let result = scale_target(&state.app, release)
            .and_then(|target| scaled(&state.app, &patch, &state.images[&target]));
        let line = match result {
            Ok(after) => {
                state.app = after;
                describe(&state.app)
            }
            Err(refusal) => format!("refused: {refusal} (hint: {})", refusal.hint()),
        };
        self.say(line);
    }

    fn restart(&mut self, app: &str, target: Option<&str>) {
        let name: AppName = app.parse().expect("name");
        let mine: Vec<Placement> = self
            .snapshot
            .placements
            .iter()
            .filter(|p| p.app == name)
            .collect();
        let epoch = self.snapshot.epoch.next();
        let changed = target
            .map_or(Ok(RestartTarget::All), str::parse)
            .and_then(|target| restart(&mine, &target, epoch));
        match changed {
            Err(refusal) => self.say(format!("refused: {refusal}")),
            Ok(placements) => {
                self.snapshot.epoch = epoch;
                for placement in placements {
                    self.snapshot.placements.set(&placement);
                    self.say(record(&placement));
                }
                self.observe();
            }
        }
    }

    fn wait(&mut self, seconds: i64) {
        let then = self.now.as_second() + seconds;
        self.now = Timestamp::from_second(then).expect("in this century");
    }

    fn report_all(&mut self) {
        cluster::run_all(&mut self.snapshot);
        let mut running = self.placed();
        running.retain(|id| self.snapshot.observed.is_running(id));
        for id in running {
            self.set_state(id, InstanceState::Running);
        }
        self.observe();
    }

    fn report(&mut self, app: &str, release: &str, labels: &[&str], state: InstanceState) {
        let release: ReleaseId = release.parse().expect("release");
        for label in labels {
            let named =
                |id: &InstanceId| id.app.as_str() == app && id.release == release && id.label() == **label;
            let id = self.placed().into_iter().find(named);
            let id = id.unwrap_or_else(|| panic!("{app} {release} {label} is not placed"));
            self.set_state(id, state);
        }
        self.observe();
    }

    fn placed(&self) -> Vec<InstanceId> {
        let placements = self.snapshot.placements.iter();
        placements
            .flat_map(|p| p.instances().collect::<Vec<_>>())
            .collect()
    }

    fn set_state(&mut self, id: InstanceId, state: InstanceState) {
        let now = self.now;
        let report = self
            .reports
            .entry(id.clone())
            .or_insert_with(|| new_report(id, now));
        let was = std::mem::replace(&mut report.state, state);
        if state == InstanceState::Crashed {
            // Started again since the last crash.
            report.restarts += u32::from(report.last_failure.is_some());
            let message = "unreachable executed".to_string();
            report.last_failure = Some(Failure {
                code: Some(Code::R23),
                message,
                at: now,
            });
        } else if was == InstanceState::Running {
            return;
        }
        report.since = now;
    }

    /// What runs and is still placed, on nodes that are alive, is observed.
    fn observe(&mut self) {
        let placed: BTreeSet<InstanceId> = self.placed().into_iter().collect();
        self.reports.retain(|id, _| placed.contains(id));
        let running = self
            .reports
            .values()
            .filter(|report| report.state == InstanceState::Running);
        self.snapshot.observed = running.map(|report| &report.id).collect::<Observed>();
    }

    /// What each node reports, by process type.
    fn process_reports(&self) -> BTreeMap<(NodeName, ProcessKey), ProcessReport> {
        let mut nodes: BTreeMap<NodeName, Vec<InstanceReport>> = BTreeMap::new();
        for placement in self.snapshot.placements.iter() {
            let here = placement
                .instances()
                .filter_map(|id| self.reports.get(&id).cloned());
            nodes.entry(placement.node.clone()).or_default().extend(here);
        }
        let of_node = |(node, reports): (NodeName, Vec<InstanceReport>)| {
            fold(reports, &[])
                .into_iter()
                .map(move |report| ((node.clone(), report.key()), report))
        };
        nodes.into_iter().flat_map(of_node).collect()
    }

    fn turn(&mut self) {
        let mut lines = Vec::new();
        let reports = self.process_reports();
        let placements: Vec<Placement> = self.snapshot.placements.iter().collect();
        for state in self
            .snapshot
            .apps
            .iter_mut()
            .filter(|state| state.app.migration.is_some())
        {
            let view = MigrationView {
                app: &state.app,
                images: &state.images,
                placements: &placements,
                report: &|node, key| reports.get(&(node.clone(), key.clone())),
                watching_since: self.start,
                now: self.now,
            };
            let after = match migration(&view) {
                MigrationStep::Continue => continue,
                MigrationStep::Done => finished(&state.app),
                MigrationStep::GiveUp { reason } => given_up(&state.app, reason, self.now),
            };
            Arc::make_mut(state).app = after;
            lines.push(describe(&state.app));
        }
        let plan = cluster::turn(&mut self.snapshot);
        lines.extend(plan_lines(&plan));
        if lines.is_empty() {
            lines.push("nothing changes".to_string());
        }
        lines.iter().for_each(|line| self.say(line));
        self.observe();
    }

    fn what_if(&mut self, app: Option<&str>, change: &str) {
        let app: Option<AppName> = app.map(|app| app.parse().expect("name"));
        let change = change.parse().expect("a change");
        match what_if(&self.snapshot, app.as_ref(), &change) {
            Ok(difference) => printed::difference(&difference)
                .iter()
                .for_each(|line| self.say(line)),
            Err(refusal) => self.say(format!("refused: {refusal}")),
        }
    }

    fn show(&mut self) {
        let lines: Vec<String> = self.snapshot.placements.iter().map(|p| record(&p)).collect();
        lines.iter().for_each(|line| self.say(line));
        if lines.is_empty() {
            self.say("nothing is placed");
        }
    }
}

fn new_report(id: InstanceId, since: Timestamp) -> InstanceReport {
    InstanceReport {
        id,
        state: InstanceState::Starting,
        since,
        port: None,
        memory_bytes: 0,
        memory_bytes_peak: 0,
        memory_bytes_max: 0,
        fuel_per_s: 0,
        restarts: 0,
        last_failure: None,
        retry_at: None,
    }
}
