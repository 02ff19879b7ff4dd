//! Statements and answers as JSON.
//!
//! A blob is `{"base64":"…"}`, all else is JSON's own: null, numbers, text; `true` and `false` go in as 1 and 0. A
//! number with a point comes from a real, one without from an integer, to its 64 bits. An infinite real is `9e999`,
//! which parsers read as infinite.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value as Json;

use super::value::{Answer, Params, Statement, Value};

/// A statement as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    sql: String,
    #[serde(default)]
    params: Json,
}

/// Reads a statement: `{"sql":"…","params":[…]}`, with a list of parameters or an object of named ones.
pub(super) fn statement(bytes: &[u8]) -> Result<Statement, String> {
    let sent: Sent = serde_json::from_slice(bytes).map_err(|error| format!("no statement: {error}"))?;
    of_sent(sent)
}

/// Reads a batch: a list of statements.
pub(super) fn batch(bytes: &[u8]) -> Result<Vec<Statement>, String> {
    let sent: Vec<Sent> =
        serde_json::from_slice(bytes).map_err(|error| format!("no list of statements: {error}"))?;
    sent.into_iter().map(of_sent).collect()
}

fn of_sent(sent: Sent) -> Result<Statement, String> {
    let params = match sent.params {
        Json::Null => Params::Positional(Vec::new()),
        Json::Array(values) => Params::Positional(values.into_iter().map(value).collect::<Result<_, _>>()?),
        Json::Object(values) => {
            let named = values.into_iter().map(|(name, json)| Ok((name, value(json)?)));
            Params::Named(named.collect::<Result<_, String>>()?)
        }
        other => {
            return Err(format!(
                "params is {other}; it is a list, or an object of named parameters"
            ));
        }
    };
    Ok(Statement {
        sql: sent.sql,
        params,
    })
}

fn value(json: Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Integer(truth.into()),
        Json::String(text) => Value::Text(text),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(_)) if number.is_u64() => {
                return Err(format!("the parameter {number} is larger than SQLite's integers"));
            }
            (None, Some(real)) => Value::Real(real),
            (None, None) => return Err(format!("the parameter {number} is no number of SQLite")),
        },
        Json::Object(mut object) => match (object.len(), object.remove("base64")) {
            (1, Some(Json::String(text))) => {
                let bytes = STANDARD.decode(text);
                Value::Blob(bytes.map_err(|error| format!("a blob is not base64: {error}"))?)
            }
            _ => return Err("an object as a parameter is {\"base64\":\"…\"}, a blob".to_owned()),
        },
        Json::Array(_) => {
            return Err("a list is no parameter; give its elements, or its JSON as text".to_owned());
        }
    })
}

/// Writes an answer: `{"columns":[…],"rows":[[…]],"changes":n,"last_insert_id":n}`.
pub(super) fn answer(answer: &Answer) -> String {
    let mut out = String::new();
    write_answer(&mut out, answer);
    out
}

/// Writes the answers of a batch: a list.
pub(super) fn answers(answers: &[Answer]) -> String {
    let mut out = String::new();
    list(&mut out, answers, write_answer);
    out
}

fn write_answer(out: &mut String, answer: &Answer) {
    out.push_str("{\"columns\":");
    list(out, &answer.columns, |out, column| text(out, column));
    out.push_str(",\"rows\":");
    list(out, &answer.rows, |out, row| list(out, row, write_value));
    out.push_str(&format!(",\"changes\":{},\"last_insert_id\":", answer.changes));
    match answer.last_insert_id {
        Some(id) => out.push_str(&id.to_string()),
        None => out.push_str("null"),
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Integer(number) => out.push_str(&number.to_string()),
        Value::Real(number) if number.is_finite() => out.push_str(&format!("{number:?}")),
        Value::Real(number) => out.push_str(if *number > 0.0 { "9e999" } else { "-9e999" }),
        Value::Text(value) => text(out, value),
        Value::Blob(bytes) => {
            out.push_str("{\"base64\":\"");
            STANDARD.encode_string(bytes, out);
            out.push_str("\"}");
        }
    }
}

fn text(out: &mut String, text: &str) {
    out.push_str(&Json::from(text).to_string());
}

fn list<T>(out: &mut String, items: &[T], write: impl Fn(&mut String, &T)) {
    out.push('[');
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_goes_through_json_and_comes_back() {
        let sent = br#"{"sql":"select ?","params":[null,true,-9223372036854775808,1.5,"\u00e9\"",{"base64":"AAH/"}]}"#;
        let Params::Positional(params) = statement(sent).expect("statement").params else {
            panic!("positional");
        };
        let mut rows = vec![params];
        rows[0].push(Value::Real(f64::INFINITY));
        rows[0].push(Value::Real(3.0));
        let json = answer(&Answer {
            columns: vec!["a".to_owned()],
            rows,
            changes: 0,
            last_insert_id: None,
        });
        assert_eq!(
            json,
            "{\"columns\":[\"a\"],\"rows\":[[null,1,-9223372036854775808,1.5,\"é\\\"\",{\"base64\":\"AAH/\"},\
             9e999,3.0]],\"changes\":0,\"last_insert_id\":null}"
        );
    }

    #[test]
    fn what_is_no_statement_is_named() {
        for (sent, part) in [
            ("", "no statement"),
            (r#"{"sql":1}"#, "invalid type"),
            (r#"{"sql":"","extra":1}"#, "unknown field `extra`"),
            (r#"{"sql":"","params":3}"#, "params is 3"),
            (r#"{"sql":"","params":[[1]]}"#, "a list is no parameter"),
            (r#"{"sql":"","params":[{"base64":"!"}]}"#, "not base64"),
            (r#"{"sql":"","params":[{"a":1}]}"#, "a blob"),
            (r#"{"sql":"","params":[18446744073709551615]}"#, "larger than"),
        ] {
            let error = statement(sent.as_bytes()).expect_err(sent);
            assert!(error.contains(part), "{sent}: {error}");
        }
    }
}
