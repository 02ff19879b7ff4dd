//! `gilliam sql`.

use std::io::Read as _;

use gilliam_model::{name::ServiceName, service::ASK_BYTES_MAX};
use serde_json::{Value, json};

use super::service_call::ServiceCall;
use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Characters of a value in a table: a long text or a document has a line of its own with --json.
const SHOWN_CHARS_MAX: usize = 80;

/// Runs a statement in a database of the app, as its processes do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service.
    #[arg(value_name = "NAME")]
    name: ServiceName,
    /// The statement; - reads it from standard input.
    #[arg(value_name = "SQL")]
    sql: String,
    /// Values of its parameters `?`, in their order: numbers and null as they are, all else as text.
    #[arg(value_name = "PARAM", allow_negative_numbers = true)]
    params: Vec<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let call = ServiceCall {
        client: context.client()?,
        app: context.app()?,
        service: args.name,
    };
    let sql = match args.sql.as_str() {
        "-" => standard_input()?,
        _ => args.sql,
    };
    let params: Vec<Value> = args.params.iter().map(|text| parameter(text)).collect();
    let body = json!({ "sql": sql, "params": params }).to_string();
    let answer = call
        .ask("POST", "/query".to_string(), &[], body.into_bytes())
        .await?;
    let answer: Value = serde_json::from_slice(&answer.body.0)
        .map_err(|error| CommandError::failed(format!("its answer cannot be read: {error}")))?;
    if ui.wants_json() {
        return ui.json(&answer);
    }
    show(ui, &answer)
}

fn show(ui: &Ui, answer: &Value) -> CommandResult {
    let texts = |list: &Value| -> Vec<String> { list.as_array().into_iter().flatten().map(text).collect() };
    let columns = texts(&answer["columns"]);
    if columns.is_empty() {
        let changes = answer["changes"].as_u64().unwrap_or(0);
        ui.note(&format!(
            "{changes} row{} changed",
            if changes == 1 { "" } else { "s" }
        ));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = answer["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(texts)
        .collect();
    let header: Vec<&str> = columns.iter().map(String::as_str).collect();
    ui.table(&header, &rows)
}

/// A value as it stands in a table.
fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(blob) => match blob.get("base64").and_then(Value::as_str) {
            Some(base64) => format!("{} bytes", base64.len() / 4 * 3 - base64.matches('=').count()),
            None => value.to_string(),
        },
        other => other.to_string(),
    };
    let is_long = text.chars().count() > SHOWN_CHARS_MAX;
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if is_long {
        shown.push('…');
    }
    shown
}

fn parameter(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Null | Value::Number(_))) => value,
        _ => Value::String(text.to_string()),
    }
}

fn standard_input() -> CommandResult<String> {
    let mut sql = String::new();
    std::io::stdin()
        .take(ASK_BYTES_MAX as u64)
        .read_to_string(&mut sql)
        .map_err(|error| CommandError::file("standard input", &error))?;
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_on_one_line() {
        for (value, shown) in [
            (json!(null), "null"),
            (json!(1.5), "1.5"),
            (json!("a\nb"), "a b"),
            (json!({ "base64": "AAH/" }), "3 bytes"),
            (json!({ "base64": "AA==" }), "1 bytes"),
        ] {
            assert_eq!(text(&value), shown);
        }
        assert_eq!(text(&json!("x".repeat(100))).chars().count(), SHOWN_CHARS_MAX + 1);
    }

    #[test]
    fn parameters_are_numbers_null_or_text() {
        for (text, value) in [
            ("1", json!(1)),
            ("-2.5", json!(-2.5)),
            ("null", Value::Null),
            ("true", json!("true")),
            ("[1]", json!("[1]")),
            ("Ada", json!("Ada")),
        ] {
            assert_eq!(parameter(text), value, "{text}");
        }
    }
}
