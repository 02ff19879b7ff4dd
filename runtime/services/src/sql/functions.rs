//! Functions in the place of SQLite's own whose cost is the product of their arguments' lengths.
//!
//! One call of a function is one instruction of SQLite's machine, and between instructions alone can a statement be
//! stopped: `instr` of two megabytes would go on for minutes after its deadline. These do what theirs do, in
//! time that grows with the sum of the lengths.

use std::collections::HashSet;

use rusqlite::{
    Connection, Result,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};

use super::value::Value;

/// What SQLite's own have: the same for the same arguments, and harmless in views, triggers and indexes.
const FLAGS: FunctionFlags = FunctionFlags::SQLITE_UTF8
    .union(FunctionFlags::SQLITE_DETERMINISTIC)
    .union(FunctionFlags::SQLITE_INNOCUOUS);
/// Bytes that `unhex` with a second argument takes of each: the product is some milliseconds.
const UNHEX_IGNORED_BYTES_MAX: usize = 256;

/// Registers them.
pub(super) fn register(sqlite: &Connection) -> Result<()> {
    sqlite.create_scalar_function("instr", 2, FLAGS, instr)?;
    sqlite.create_scalar_function("replace", 3, FLAGS, replace)?;
    sqlite.create_scalar_function("trim", 2, FLAGS, |context| trim(context, true, true))?;
    sqlite.create_scalar_function("ltrim", 2, FLAGS, |context| trim(context, true, false))?;
    sqlite.create_scalar_function("rtrim", 2, FLAGS, |context| trim(context, false, true))?;
    sqlite.create_scalar_function("unhex", 2, FLAGS, unhex)
}

/// Where a part begins, counted from 1: in bytes for two blobs, else in characters; 0 where it is not.
fn instr(context: &Context<'_>) -> Result<Value> {
    let (Some(text), Some(part)) = (bytes(context, 0), bytes(context, 1)) else {
        return Ok(Value::Null);
    };
    let are_blobs = (0..2).all(|n| matches!(context.get_raw(n), ValueRef::Blob(_)));
    let position = memchr::memmem::find(&text, &part).map_or(0, |at| {
        1 + match are_blobs {
            true => at,
            false => characters(&text[..at]),
        }
    });
    Ok(Value::Integer(i64::try_from(position).unwrap_or(i64::MAX)))
}

/// Every occurrence of a part replaced.
fn replace(context: &Context<'_>) -> Result<Value> {
    let (Some(text), Some(part), Some(by)) = (bytes(context, 0), bytes(context, 1), bytes(context, 2)) else {
        return Ok(Value::Null);
    };
    if part.is_empty() {
        return Ok(Value::of(context.get_raw(0)));
    }
    let mut result = Vec::with_capacity(text.len());
    let mut rest = 0;
    for at in memchr::memmem::find_iter(&text, &part) {
        result.extend_from_slice(&text[rest..at]);
        result.extend_from_slice(&by);
        rest = at + part.len();
        if result.len() > super::limits::VALUE_BYTES_MAX {
            return Err(rusqlite::Error::UserFunctionError(
                "string or blob too big".into(),
            ));
        }
    }
    result.extend_from_slice(&text[rest..]);
    Ok(text_of(result))
}

/// A text without those of a set of characters at its ends.
fn trim(context: &Context<'_>, left: bool, right: bool) -> Result<Value> {
    let (Some(text), Some(set)) = (bytes(context, 0), bytes(context, 1)) else {
        return Ok(Value::Null);
    };
    let (text, set) = (String::from_utf8_lossy(&text), String::from_utf8_lossy(&set));
    let set: HashSet<char> = set.chars().collect();
    let mut trimmed = text.as_ref();
    if left {
        trimmed = trimmed.trim_start_matches(|c| set.contains(&c));
    }
    if right {
        trimmed = trimmed.trim_end_matches(|c| set.contains(&c));
    }
    Ok(Value::Text(trimmed.to_owned()))
}

/// The bytes that hexadecimal digits stand for, some characters between them being passed over; null where
/// there is anything else.
fn unhex(context: &Context<'_>) -> Result<Value> {
    let (Some(text), Some(ignored)) = (bytes(context, 0), bytes(context, 1)) else {
        return Ok(Value::Null);
    };
    if ignored.len() > UNHEX_IGNORED_BYTES_MAX {
        return Err(rusqlite::Error::UserFunctionError(
            "unhex: too many characters to ignore".into(),
        ));
    }
    let (text, ignored) = (String::from_utf8_lossy(&text), String::from_utf8_lossy(&ignored));
    let mut result = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for c in text.chars() {
        match (c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()), high) {
            (Some(digit), None) => high = Some(digit),
            (Some(digit), Some(first)) => {
                result.push(first << 4 | digit);
                high = None;
            }
            (None, None) if ignored.contains(c) => {}
            _ => return Ok(Value::Null),
        }
    }
    Ok(high.map_or(Value::Blob(result), |_| Value::Null))
}

/// An argument as text or bytes; none when it is null.
fn bytes<'a>(context: &'a Context<'_>, n: usize) -> Option<std::borrow::Cow<'a, [u8]>> {
    Some(match context.get_raw(n) {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => number.to_string().into_bytes().into(),
        ValueRef::Real(number) => real_text(number).into_bytes().into(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.into(),
    })
}

/// Near to how SQLite prints a number: `1.0`, `0.1`, 15 digits.
fn real_text(number: f64) -> String {
    let text = format!("{number:?}");
    match text.as_str() {
        "inf" => "Inf".to_owned(),
        "-inf" => "-Inf".to_owned(),
        _ => text,
    }
}

fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| !(0x80..0xc0).contains(*byte)).count()
}

fn text_of(bytes: Vec<u8>) -> Value {
    Value::Text(
        String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
    )
}
