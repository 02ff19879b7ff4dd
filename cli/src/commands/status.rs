//! `gilliam status`.

use gilliam_model::{
    Timestamp,
    api::{NodeInfo, NodeState},
};

use crate::{amounts, context::Context, failure::CommandResult};

const HEADER: &[&str] = &[
    "NODE",
    "STATE",
    "SEEN",
    "HOST",
    "INGRESS",
    "INSTANCES",
    "CPUS",
    "MEMORY",
    "VERSION",
];

/// Shows the cluster: its version, what runs, its nodes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context<'_>, _args: Args) -> CommandResult {
    let ui = context.ui;
    let client = context.client()?;
    let status = client.status().await?;
    if ui.wants_json() {
        return ui.json(&status);
    }
    ui.data(&format!("gilliam    {} at {}", status.version, client.base_url()))?;
    ui.data(&format!("apps       {}", status.apps))?;
    ui.data(&format!(
        "instances  {} of {} running",
        amounts::number(status.instances_running),
        amounts::number(status.instances_wanted)
    ))?;
    if status.nodes.is_empty() {
        ui.note("no node has joined; nothing can run");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = status.nodes.iter().map(|node| row(node, now)).collect();
    ui.data("")?;
    ui.table(HEADER, &rows)
}

fn row(node: &NodeInfo, now: Timestamp) -> Vec<String> {
    let facts = &node.facts;
    vec![
        facts.name.to_string(),
        match node.state {
            NodeState::Ready => "ready".to_string(),
            NodeState::Lost => "lost".to_string(),
        },
        format!("({})", amounts::ago(node.seen_at, now)),
        format!("on host {}", facts.host),
        format!("http {}", facts.http),
        amounts::count(node.running, "instance"),
        amounts::count(facts.cpus.into(), "cpu"),
        amounts::bytes(facts.memory_bytes),
        facts.version.clone(),
    ]
}
