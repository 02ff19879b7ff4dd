//! `gilliam blob`.

use std::{
    fs::File,
    io::{Read, Write as _},
    path::PathBuf,
};

use gilliam_model::{
    Timestamp,
    name::ServiceName,
    service::{ASK_BYTES_MAX, ServiceAnswer},
};
use serde_json::{Value, json};

use super::service_call::{ServiceCall, escaped};
use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Objects that a list has unless it is said.
const LISTED: usize = 100;
/// Bytes that are asked for at once.
const PART_BYTES: u64 = 2 << 20;

/// Reads and changes the objects of a blob service.
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
    /// Lists objects, in the order of their names.
    Ls {
        /// What they begin with.
        #[arg(default_value = "")]
        prefix: String,
        /// Those after this one.
        #[arg(long, value_name = "OBJECT")]
        after: Option<String>,
        /// How many.
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = LISTED)]
        lines: usize,
    },
    /// Writes an object to standard output, or to a file.
    Get {
        /// Its name.
        object: String,
        /// The file.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Puts an object.
    Put {
        /// Its name.
        object: String,
        /// The file; - reads standard input.
        file: String,
        /// What it is.
        #[arg(
            long = "type",
            value_name = "TYPE",
            default_value = "application/octet-stream"
        )]
        content_type: String,
    },
    /// Deletes objects.
    Rm {
        /// Their names.
        #[arg(required = true)]
        objects: Vec<String>,
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
        Verb::Ls { prefix, after, lines } => list(ui, &call, &prefix, after.as_deref(), lines).await,
        Verb::Get { object, output } => get(&call, &object, output).await,
        Verb::Put {
            object,
            file,
            content_type,
        } => {
            let bytes = read(&file)?;
            let count = bytes.len();
            let headers = [("content-type", content_type.as_str())];
            call.ask("PUT", path(&object), &headers, bytes).await?;
            if ui.wants_json() {
                return ui.json(&json!({ "name": object, "bytes": count }));
            }
            ui.note(&format!("{object} has {count} bytes"));
            Ok(())
        }
        Verb::Rm { objects } => {
            for object in &objects {
                call.ask("DELETE", path(object), &[], Vec::new()).await?;
            }
            if ui.wants_json() {
                return ui.json(&objects);
            }
            ui.note(&format!("{} not there any more", objects.join(", ")));
            Ok(())
        }
    }
}

fn path(object: &str) -> String {
    format!("/{}", escaped(object))
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
    let row = |object: &Value| {
        let put_at = Timestamp::from_second(object["put_at"].as_i64().unwrap_or(0));
        vec![
            object["name"].as_str().unwrap_or_default().to_string(),
            object["bytes"].to_string(),
            object["content_type"].as_str().unwrap_or_default().to_string(),
            put_at.map_or_else(|_| "-".to_string(), |at| at.to_string()),
        ]
    };
    let rows: Vec<Vec<String>> = page["objects"]
        .as_array()
        .into_iter()
        .flatten()
        .map(row)
        .collect();
    ui.table(&["OBJECT", "BYTES", "TYPE", "PUT"], &rows)?;
    if let Some(next) = page["next"].as_str() {
        ui.hint(&format!("there are more: --after {next}"));
    }
    Ok(())
}

/// Reads an object part by part: each is one question to its node, and all are of the same object.
async fn get(call: &ServiceCall, object: &str, output: Option<PathBuf>) -> CommandResult {
    let mut out: Box<dyn std::io::Write> = match &output {
        Some(file) => {
            let made = File::create(file);
            Box::new(made.map_err(|error| CommandError::file(file.display().to_string(), &error))?)
        }
        None => Box::new(std::io::stdout()),
    };
    let head = call.ask("HEAD", path(object), &[], Vec::new()).await?;
    let (bytes, tag) = (length(&head), head.headers.get("etag").cloned());
    let mut at = 0;
    while at < bytes {
        let range = format!("bytes={at}-{}", at + PART_BYTES - 1);
        let part = call
            .ask("GET", path(object), &[("range", &range)], Vec::new())
            .await?;
        if part.headers.get("etag") != tag.as_ref() {
            return Err(CommandError::failed(format!(
                "{object} was put anew while it was read; try again"
            )));
        }
        let target = output
            .as_ref()
            .map_or("standard output".to_string(), |file| file.display().to_string());
        out.write_all(&part.body.0)
            .map_err(|error| CommandError::file(&target, &error))?;
        at += PART_BYTES;
    }
    Ok(())
}

fn length(answer: &ServiceAnswer) -> u64 {
    let length = answer.headers.get("content-length");
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn read(file: &str) -> CommandResult<Vec<u8>> {
    let source: Box<dyn Read> = match file {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(File::open(path).map_err(|error| CommandError::file(path, &error))?),
    };
    let mut bytes = Vec::new();
    source
        .take(ASK_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CommandError::file(file, &error))?;
    match bytes.len() <= ASK_BYTES_MAX {
        true => Ok(bytes),
        false => Err(CommandError::failed(format!(
            "{file} has more than {ASK_BYTES_MAX} bytes; larger ones are put by a process of the app, streamed"
        ))),
    }
}
