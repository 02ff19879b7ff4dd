//! SQL services.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Error, http};

/// An SQL service of the app, by its name in `[services]` of `gilliam.toml`.
pub fn sql(name: &str) -> Sql {
    Sql {
        origin: format!("http://{name}.internal"),
    }
}

/// An SQL service; see [`sql`].
#[derive(Debug, Clone)]
pub struct Sql {
    origin: String,
}

/// A statement with its parameters: `statement("insert into guests values (?)", ("ada",))`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statement {
    sql: String,
    params: Value,
}

impl Statement {
    /// A statement; its parameters are what serde writes as a list: a tuple, a list, `()` for none.
    pub fn new(sql: impl Into<String>, params: impl Serialize) -> Result<Self, Error> {
        let params = match serde_json::to_value(params)? {
            Value::Null => Value::Array(Vec::new()),
            params => params,
        };
        Ok(Self {
            sql: sql.into(),
            params,
        })
    }
}

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, each a value per column.
    pub rows: Vec<Vec<Value>>,
    /// How many rows it changed.
    pub changes: u64,
    /// The id of the row that it added last.
    pub last_insert_id: Option<i64>,
}

impl Rows {
    /// The rows as a type whose fields are called as the columns are.
    pub fn read<T: DeserializeOwned>(self) -> Result<Vec<T>, Error> {
        let columns = &self.columns;
        let rows = self.rows.into_iter().map(|row| {
            let fields: Map<String, Value> = columns.iter().cloned().zip(row).collect();
            serde_json::from_value(Value::Object(fields)).map_err(Error::Content)
        });
        rows.collect()
    }

    /// The first value of the first row.
    pub fn first<T: DeserializeOwned>(self) -> Result<Option<T>, Error> {
        let value = self
            .rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next());
        value
            .map(serde_json::from_value)
            .transpose()
            .map_err(Error::Content)
    }
}

impl Sql {
    /// Runs one statement: `db.query("select name from guests where id = ?", (7,)).await?`.
    pub async fn query(&self, sql: &str, params: impl Serialize) -> Result<Rows, Error> {
        let statement = Statement::new(sql, params)?;
        let request = http::post(&format!("{}/query", self.origin)).json(&statement)?;
        request.send().await?.ok().await?.json().await
    }

    /// Runs statements in one transaction: all of them happen or none.
    pub async fn batch(&self, statements: &[Statement]) -> Result<Vec<Rows>, Error> {
        let request = http::post(&format!("{}/batch", self.origin)).json(statements)?;
        request.send().await?.ok().await?.json().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Guest {
        id: i64,
        name: String,
    }

    #[test]
    fn rows_are_read_as_a_type() {
        let answer = r#"{"columns":["id","name"],"rows":[[1,"ada"]],"changes":0,"last_insert_id":null}"#;
        let rows: Rows = serde_json::from_str(answer).expect("rows");
        assert_eq!(rows.clone().first::<i64>().expect("a number"), Some(1));
        let name = "ada".to_owned();
        assert_eq!(rows.read::<Guest>().expect("guests"), [Guest { id: 1, name }]);
    }

    #[test]
    fn parameters_are_a_list() {
        let params = |statement: Result<Statement, Error>| statement.expect("JSON").params.to_string();
        assert_eq!(
            params(Statement::new("", (1, "a", None::<u8>))),
            r#"[1,"a",null]"#
        );
        assert_eq!(params(Statement::new("", ())), "[]");
    }
}
