//! The database, by its bindings.

wit_bindgen::generate!({ path: "wit", world: "imports" });

use std::fmt::Write as _;

pub use self::gilliam::sql::sql::{Answer, Database, Error, Statement, Transaction, Value};

/// The service in gilliam.toml.
const NAME: &str = "db";

pub fn database() -> Result<Database, Error> {
    Database::open(NAME)
}

/// Runs the statement in a request's body, and answers with its rows.
pub fn one(sql: &str, name: &str) -> crate::Answer {
    let name = if name.is_empty() { NAME } else { name };
    match Database::open(name).and_then(|database| database.query(sql, &[])) {
        Ok(answer) => (200, rows(&answer)),
        Err(error) => refused(&error),
    }
}

/// Runs a statement several times, for measurements; answers how often.
pub fn queries(n: &str, sql: &str) -> crate::Answer {
    let run = || -> Result<u32, Error> {
        let database = database()?;
        let n = n.parse().unwrap_or(1);
        for i in 0..n {
            database.query(sql, &[Value::Integer(i.into())])?;
        }
        Ok(n)
    };
    match run() {
        Ok(n) => (200, n.to_string()),
        Err(error) => refused(&error),
    }
}

/// Values between `|`, one line per row.
pub fn rows(answer: &Answer) -> String {
    let mut text = String::new();
    for row in &answer.rows {
        for (n, value) in row.iter().enumerate() {
            let separator = if n == 0 { "" } else { "|" };
            let _ = match value {
                Value::Null => write!(text, "{separator}null"),
                Value::Integer(number) => write!(text, "{separator}{number}"),
                Value::Real(number) => write!(text, "{separator}{number}"),
                Value::Text(value) => write!(text, "{separator}{value}"),
                Value::Blob(bytes) => write!(text, "{separator}{} bytes", bytes.len()),
            };
        }
        text.push('\n');
    }
    let _ = write!(text, "{} changed", answer.changes);
    text
}

pub fn refused(error: &Error) -> crate::Answer {
    (422, format!("{:?}: {}", error.kind, error.message))
}
