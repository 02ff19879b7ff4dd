//! `gilliam kv`.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use gilliam_model::{
    name::ServiceName,
    service::{ASK_BYTES_MAX, ServiceAnswer},
};
use serde_json::{Value, json};

use super::service_call::{ServiceCall, escaped};
use crate::{
    args::span,
    context::Context,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Keys that a list has unless it is said.
const LISTED: usize = 100;

/// Reads and changes the keys of a key-value service.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service.
    #[arg(value_name = "NAME")]
    name: ServiceName,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Prints the value of a key, as it is.
    Get {
        /// The key.
        key: String,
    },
    /// Sets a key.
    Set {
        /// The key.
        key: String,
        /// Its value; - reads it from standard input.
        value: String,
        /// How long it lives: 90s, 5m, 2h; by default what the service says.
        #[arg(long, value_name = "TIME", value_parser = span)]
        ttl: Option<Duration>,
        /// Only if the key is not there.
        #[arg(long)]
        if_absent: bool,
    },
    /// Lists keys, in their order.
    Ls {
        /// What they begin with.
        #[arg(default_value = "")]
        prefix: String,
        /// Those after this key.
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
        /// How many.
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = LISTED)]
        lines: usize,
    },
    /// Deletes keys.
    Rm {
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Adds to a number.
    Incr {
        /// The key.
        key: String,
        /// What to add.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let call = ServiceCall {
        client: context.client()?,
        app: context.app()?,
        service: args.name,
    };
    match args.verb {
        Verb::Get { key } => get(ui, &call, &key).await,
        Verb::Set {
            key,
            value,
            ttl,
            if_absent,
        } => {
            let value = match value.as_str() {
                "-" => standard_input()?,
                _ => value.into_bytes(),
            };
            let ttl = ttl.map_or(String::new(), |ttl| format!("?ttl={}ms", ttl.as_millis()));
            let headers: &[(&str, &str)] = match if_absent {
                true => &[("if-none-match", "*")],
                false => &[],
            };
            let target = format!("{}{ttl}", path(&key));
            let answer = call.ask("PUT", target, headers, value).await?;
            if ui.wants_json() {
                return ui.json(&json!({ "key": key, "version": version(&answer) }));
            }
            ui.note(&format!("{key} is set"));
            Ok(())
        }
        Verb::Ls { prefix, after, lines } => list(ui, &call, &prefix, after.as_deref(), lines).await,
        Verb::Rm { keys } => {
            for key in &keys {
                call.ask("DELETE", path(key), &[], Vec::new()).await?;
            }
            if ui.wants_json() {
                return ui.json(&keys);
            }
            ui.note(&format!("{} not there any more", keys.join(", ")));
            Ok(())
        }
        Verb::Incr { key, by } => {
            let target = format!("{}?increment={by}", path(&key));
            let answer = call.ask("POST", target, &[], Vec::new()).await?;
            ui.data(&String::from_utf8_lossy(&answer.body.0))
        }
    }
}

fn path(key: &str) -> String {
    format!("/{}", escaped(key))
}

fn version(answer: &ServiceAnswer) -> Option<u64> {
    answer.headers.get("etag")?.trim_matches('"').parse().ok()
}

async fn get(ui: &Ui, call: &ServiceCall, key: &str) -> CommandResult {
    let answer = call.ask("GET", path(key), &[], Vec::new()).await?;
    if ui.wants_json() {
        return ui.json(&json!({ "key": key, "version": version(&answer), "value": answer.body }));
    }
    if ui.out_is_terminal() {
        return ui.data(&String::from_utf8_lossy(&answer.body.0));
    }
    std::io::stdout()
        .write_all(&answer.body.0)
        .map_err(|error| CommandError::file("standard output", &error))
}

async fn list(ui: &Ui, call: &ServiceCall, prefix: &str, after: Option<&str>, lines: usize) -> CommandResult {
    let after = after.map_or(String::new(), |after| format!("&after={}", escaped(after)));
    let target = format!("/?prefix={}{after}&limit={lines}", escaped(prefix));
    let answer = call.ask("GET", target, &[], Vec::new()).await?;
    let page: Value = serde_json::from_slice(&answer.body.0)
        .map_err(|error| CommandError::failed(format!("its answer cannot be read: {error}")))?;
    if ui.wants_json() {
        return ui.json(&page);
    }
    for key in page["keys"].as_array().into_iter().flatten() {
        ui.data(key.as_str().unwrap_or_default())?;
    }
    if let Some(next) = page["next"].as_str() {
        ui.hint(&format!("there are more: --after {next}"));
    }
    Ok(())
}

fn standard_input() -> CommandResult<Vec<u8>> {
    let mut value = Vec::new();
    std::io::stdin()
        .take(ASK_BYTES_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| CommandError::file("standard input", &error))?;
    match value.len() <= ASK_BYTES_MAX {
        true => Ok(value),
        false => Err(CommandError::failed(format!(
            "the value has more than {ASK_BYTES_MAX} bytes"
        ))),
    }
}
