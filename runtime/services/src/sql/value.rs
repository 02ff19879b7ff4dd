//! What goes into a database and comes out of it: statements, values, answers.

/// A value of SQLite, of one of its five storage classes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A floating-point number; never not-a-number, which SQLite keeps as null.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// The values of a statement's parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Params {
    /// Of `?` and `?1`, in their order.
    Positional(Vec<Value>),
    /// Of `:name`, `@name` and `$name`, each named with or without its first character.
    Named(Vec<(String, Value)>),
}

/// One statement with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// One statement of SQL.
    pub sql: String,
    /// Its parameters.
    pub params: Params,
}

impl Statement {
    /// A statement with positional parameters.
    pub fn new(sql: impl Into<String>, params: Vec<Value>) -> Self {
        Self {
            sql: sql.into(),
            params: Params::Positional(params),
        }
    }
}

/// What a statement answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The names of the columns; none for a statement that answers no rows.
    pub columns: Vec<String>,
    /// The rows, each with a value per column.
    pub rows: Vec<Vec<Value>>,
    /// Rows that the statement inserted, updated or deleted.
    pub changes: u64,
    /// The row id of the row that was inserted last, if the statement changed any.
    pub last_insert_id: Option<i64>,
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Value {
    /// Bytes of the host's memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let own = size_of::<Value>();
        match self {
            Value::Null | Value::Integer(_) | Value::Real(_) => own,
            Value::Text(text) => own + text.len(),
            Value::Blob(bytes) => own + bytes.len(),
        }
    }

    /// Text that is not UTF-8, which SQLite lets through, comes out with replacement characters.
    pub(super) fn of(value: rusqlite::types::ValueRef<'_>) -> Self {
        use rusqlite::types::ValueRef;
        match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        }
    }
}
