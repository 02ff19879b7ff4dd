//! What users and operators ask a cluster of a test, and what its apps answer.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::Cluster,
    platform::{Ran, wait},
};

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest wait for what `ps` should show.
const PS_MAX: Duration = Duration::from_secs(45);

impl Cluster {
    /// Runs a verb.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with_input(args, "")
    }

    #[track_caller]
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gilliam");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("input");
        drop(stdin);
        let output = child.wait_with_output().expect("gilliam");
        Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status,
        }
    }

    /// Runs a verb and takes its data as JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let stdout = self.run(&[args, &["--json"]].concat()).ok();
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
    }

    /// Deploys the sample `hello-p3` as app `hello` and runs so many of it.
    #[track_caller]
    pub(crate) fn deploy(&self, count: u32) {
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../samples/hello-p3");
        let project = self.path("project");
        std::fs::create_dir_all(&project).expect("project");
        for file in ["Procfile", "web.wasm"] {
            let built = from.join(file);
            assert!(built.exists(), "{} is missing; run make samples", built.display());
            std::fs::copy(built, project.join(file)).expect("copy");
        }
        let project = project.display().to_string();
        self.run(&["apps:create", "hello"]).ok();
        self.run(&["deploy", "--app", "hello", "-m", "first", &project])
            .ok();
        self.run(&["scale", "--app", "hello", "v1", &format!("web={count}")])
            .ok();
    }

    /// The rows of `ps` of `hello`.
    #[track_caller]
    pub(crate) fn ps(&self) -> Vec<Value> {
        let rows = self.json(&["ps", "--app", "hello"]);
        rows["instances"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until `ps` satisfies `check`.
    #[track_caller]
    pub(crate) fn wait_ps(&self, what: &str, check: impl Fn(&[Value]) -> bool) {
        let begun = Instant::now();
        wait(what, || {
            let ran = self.run(&["ps", "--app", "hello", "--json"]);
            let value: Value = serde_json::from_str(&ran.stdout).ok()?;
            let holds = check(value["instances"].as_array()?);
            // Who waits in vain wants to know what there is instead.
            let is_late = begun.elapsed() > PS_MAX;
            assert!(holds || !is_late, "waited in vain for {what}: {value:#}");
            holds.then_some(())
        });
    }

    /// Waits until `ps` lists so many instances, each slot once, and all of them run on these nodes.
    #[track_caller]
    pub(crate) fn wait_all_run(&self, count: usize, nodes: &[&str]) {
        let what = format!("{count} instances on {nodes:?}");
        self.wait_ps(&what, |rows| all_run(rows, count, nodes));
    }

    /// Has so many instances run, through one of the servers.
    #[track_caller]
    pub(crate) fn scale_at(&self, server: &str, count: usize) {
        let count = format!("web={count}");
        self.run_at(server, &["scale", "--app", "hello", "v1", &count])
            .ok();
    }

    /// The doors of the instances that run on a node: each has a port of its own.
    #[track_caller]
    pub(crate) fn doors(&self, node: &str) -> Vec<String> {
        let url = self.http(node);
        let host = url.trim_start_matches("http://").split(':').next().expect("host");
        let rows = self.ps();
        let here = rows.iter().filter(|row| row["node"] == node);
        here.map(|row| format!("http://{host}:{}/", row["report"]["port"]))
            .collect()
    }

    /// Waits until the ingress of a node answers for the app.
    #[track_caller]
    pub(crate) fn wait_answer(&self, name: &str) {
        wait(name, || (get(&self.http(name)) == Ok(200)).then_some(()));
    }

    /// Runs a verb through one of the servers.
    #[track_caller]
    pub(crate) fn run_at(&self, server: &str, args: &[&str]) -> Ran {
        self.run(&[args, &["--cluster", server]].concat())
    }

    /// Waits until so many nodes are ready, as this server sees them.
    #[track_caller]
    pub(crate) fn wait_ready_at(&self, server: &str, count: usize) {
        wait(&format!("{count} nodes to be ready at {server}"), || {
            let ran = self.run_at(server, &["nodes", "--json"]);
            let nodes: Value = serde_json::from_str(&ran.stdout).ok()?;
            let ready = nodes.as_array()?.iter().filter(|node| node["state"] == "ready");
            (ready.count() == count).then_some(())
        });
    }

    /// Waits until `nodes` satisfies `check`.
    #[track_caller]
    pub(crate) fn wait_nodes(&self, what: &str, check: impl Fn(&[Value]) -> bool) {
        wait(what, || {
            let ran = self.run(&["nodes", "--json"]);
            let value: Value = serde_json::from_str(&ran.stdout).ok()?;
            check(value.as_array()?).then_some(())
        });
    }
}

/// Whether `ps` lists so many instances, each slot once, and all of them run on these nodes.
pub(crate) fn all_run(rows: &[Value], count: usize, nodes: &[&str]) -> bool {
    let slots: BTreeSet<String> = rows.iter().map(|row| row["name"].to_string()).collect();
    let runs_there = |row: &Value| {
        let node = row["node"].as_str().unwrap_or_default();
        row["state"] == "running" && nodes.contains(&node)
    };
    (rows.len(), slots.len()) == (count, count) && rows.iter().all(runs_there)
}

/// How many instances of `ps` run on a node.
pub(crate) fn on(rows: &[Value], node: &str) -> usize {
    let is_here = |row: &&Value| row["node"] == node && row["state"] == "running";
    rows.iter().filter(is_here).count()
}

/// `GET` of a URL for the app `hello`: the status, or why there was no answer.
pub(crate) fn get(url: &str) -> Result<u16, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let client = crate::platform::client_builder()
            .no_proxy()
            .timeout(ANSWER_MAX)
            .build();
        let request = client.expect("client").get(url).header("host", "hello.localhost");
        request
            .send()
            .await
            .map(|a| a.status().as_u16())
            .map_err(|e| format!("{e:?}"))
    })
}
