//! `gilliam nodes`: the machines of the cluster.

use std::time::{Duration, Instant};

use clap::Subcommand;
use gilliam_client::Client;
use gilliam_model::{
    Timestamp,
    api::NodeState,
    join::MakeJoinToken,
    label::LabelKey,
    name::NodeName,
    node::{NodeDetails, NodeSummary, PlacedProcess},
};

use crate::{
    amounts,
    args::span,
    context::Context,
    failure::{CommandError, CommandResult},
};

/// Between two looks at a node that is being emptied.
const LOOK: Duration = Duration::from_millis(200);
const HEADER: &[&str] = &[
    "NODE",
    "STATE",
    "LABELS",
    "INSTANCES",
    "MEMORY",
    "CPU",
    "VERSION",
    "SEEN",
];
const PLACED_HEADER: &[&str] = &["PROCESS", "RELEASE", "APP", "RUNNING", "MEMORY"];

/// Lists the nodes of the cluster, or changes them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them.
    List,
    /// Shows one with what is placed on it.
    Show { node: NodeName },
    /// Empties one: each instance stops once another node runs its replacement. Waits until nothing is left.
    Drain {
        node: NodeName,
        /// Gives up waiting after this time; the node is emptied on.
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
        deadline: Duration,
        /// Returns as soon as the change is recorded.
        #[arg(long)]
        no_wait: bool,
    },
    /// Has one that was emptied take instances again.
    Undrain { node: NodeName },
    /// Puts one that is gone out of the cluster: its certificate opens nothing any more, its name is free.
    Forget { node: NodeName },
    /// Makes a token with which one node may join, once.
    JoinToken {
        /// How long it is good for.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
        ttl: Duration,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let client = context.client()?;
    match args.action.unwrap_or(Action::List) {
        Action::List => list(context, &client).await,
        Action::Show { node } => show(context, &client.node(&node).await?),
        Action::Drain {
            node,
            deadline,
            no_wait,
        } => drain(context, &client, &node, (!no_wait).then_some(deadline)).await,
        Action::Undrain { node } => {
            client.drain_node(&node, false).await?;
            context.ui.note(&format!("{node} takes instances again"));
            Ok(())
        }
        Action::Forget { node } => {
            client.forget_node(&node).await?;
            context.ui.note(&format!("{node} is not of the cluster any more"));
            Ok(())
        }
        Action::JoinToken { ttl } => join_token(context, &client, ttl).await,
    }
}

async fn list(context: &Context<'_>, client: &Client) -> CommandResult {
    let nodes = client.nodes().await?;
    if context.ui.wants_json() {
        return context.ui.json(&nodes);
    }
    if nodes.is_empty() {
        context.ui.note("no node has joined; nothing can run");
        context.ui.hint("gilliam nodes join-token makes a token for one");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = nodes.iter().map(|node| row(node, now)).collect();
    context.ui.table(HEADER, &rows)
}

fn row(node: &NodeSummary, now: Timestamp) -> Vec<String> {
    let facts = node.facts.as_ref();
    let memory = facts.map_or(0, |facts| facts.memory_bytes);
    let cpu = facts.map_or(0, |facts| u64::from(facts.cpu_millis_promisable()));
    vec![
        node.name.to_string(),
        state(node),
        labels(node),
        format!(
            "{}/{}",
            amounts::number(node.running),
            amounts::number(node.placed)
        ),
        format!(
            "{} used, {} of {} promised",
            amounts::bytes(node.memory_used_bytes),
            amounts::bytes(node.memory_promised_bytes),
            amounts::bytes(memory)
        ),
        format!("{} of {} promised", cores(node.cpu_promised_millis), cores(cpu)),
        facts.map_or_else(|| "-".to_string(), |facts| facts.version.clone()),
        node.seen_at.map_or_else(
            || "never".to_string(),
            |at| format!("{} ago", amounts::age(at, now)),
        ),
    ]
}

fn state(node: &NodeSummary) -> String {
    let state = match node.state {
        NodeState::Ready => "ready",
        NodeState::Lost => "lost",
    };
    match (node.draining_since, node.placed) {
        (None, _) => state.to_string(),
        (Some(_), 0) => format!("{state}, drained"),
        (Some(_), _) => format!("{state}, draining"),
    }
}

/// The zone first, for it is what people look for.
fn labels(node: &NodeSummary) -> String {
    let Some(facts) = &node.facts else {
        return String::new();
    };
    let zone = LabelKey::zone();
    let mut labels: Vec<_> = facts.labels.iter().collect();
    labels.sort_by_key(|(key, _)| **key != zone);
    let labels: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.join(" ")
}

fn cores(millis: u64) -> String {
    format!("{}.{}", millis / 1_000, millis % 1_000 / 100)
}

fn show(context: &Context<'_>, details: &NodeDetails) -> CommandResult {
    let ui = context.ui;
    if ui.wants_json() {
        return ui.json(details);
    }
    ui.table(HEADER, &[row(&details.node, Timestamp::now())])?;
    if details.processes.is_empty() {
        ui.note(&format!("nothing is placed on {}", details.node.name));
        return Ok(());
    }
    ui.data("")?;
    let row = |placed: &PlacedProcess| {
        vec![
            placed.process.to_string(),
            placed.release.to_string(),
            placed.app.to_string(),
            format!("{}/{}", placed.running, placed.placed),
            amounts::bytes(placed.memory_used_bytes),
        ]
    };
    ui.table(
        PLACED_HEADER,
        &details.processes.iter().map(row).collect::<Vec<_>>(),
    )
}

/// Asks for a node to be emptied, and waits until it is: `limit` is none for not at all.
async fn drain(
    context: &Context<'_>,
    client: &Client,
    node: &NodeName,
    limit: Option<Duration>,
) -> CommandResult {
    let ui = context.ui;
    let begun = Instant::now();
    let mut details = client.drain_node(node, true).await?;
    ui.undo(&format!("gilliam nodes undrain {node}"));
    let Some(limit) = limit else {
        return Ok(());
    };
    let all = details.node.placed;
    let mut spinner = ui.spinner(&format!("Draining {node}"));
    let mut shown = None;
    loop {
        let left = details.node.placed.max(details.node.running);
        if left == 0 {
            let took = amounts::span(begun.elapsed());
            spinner.finish(&format!(
                "done, {} moved in {took}",
                amounts::count(all, "instance")
            ));
            return Ok(());
        }
        if begun.elapsed() >= limit {
            spinner.finish("gave up waiting");
            return Err(CommandError::failed(format!(
                "{} on {node} after {}: {}",
                amounts::count(left, "instance"),
                amounts::span(limit),
                left_over(&details)
            ))
            .hinted("gilliam ps of the app shows why there is no place elsewhere; the node is emptied on"));
        }
        if shown != Some(left) {
            spinner.show(&format!("{} left", amounts::count(left, "instance")));
            shown = Some(left);
        }
        tokio::time::sleep(LOOK).await;
        details = match client.node(node).await {
            // The control plane may be starting anew; what was asked for is recorded.
            Err(error) if error.is_transient() => details,
            looked => looked?,
        };
    }
}

fn left_over(details: &NodeDetails) -> String {
    let placed = |p: &PlacedProcess| format!("{} {} {} ({})", p.app, p.release, p.process, p.placed);
    let placed: Vec<String> = details.processes.iter().map(placed).collect();
    placed.join(", ")
}

async fn join_token(context: &Context<'_>, client: &Client, ttl: Duration) -> CommandResult {
    let make = MakeJoinToken {
        ttl_seconds: Some(ttl.as_secs()),
    };
    let made = client.make_join_token(&make).await?;
    let ui = context.ui;
    if ui.wants_json() {
        return ui.json(&made);
    }
    ui.data(&made.token)?;
    let servers = match made.servers.is_empty() {
        true => client.addresses(),
        false => made.servers.join(","),
    };
    ui.note(&format!(
        "one node may join with it within {}:",
        amounts::span(ttl)
    ));
    ui.note(&format!(
        "gilliam node --server {servers} --join TOKEN --data DIR --name NAME"
    ));
    Ok(())
}
