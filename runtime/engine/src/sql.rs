//! `gilliam:sql`: the databases that a process is bound to, for its guests.
//!
//! In flow a guest's statements, out flow answers of the database, at the guest's expense.
//!
//! Invariant: a guest reaches the databases that its process is bound to and no others.
//! Invariant: a transaction is in one store; it is rolled back with that store, or before another request is served
//! in it.

use std::{sync::Arc, time::Duration};

use gilliam_services::{
    Handle,
    sql::{self as service, Payer, Sql, SqlError, Statement},
};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::bindings::gilliam::sql::sql::{
    self, Answer, Error, ErrorKind, Host, HostDatabase, HostTransaction, Statement as Asked, Value,
};
use crate::{
    guest::{Guest, Shared},
    throttle::CpuBucket,
};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/sql",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "gilliam:sql/sql.database": super::Database,
            "gilliam:sql/sql.transaction": super::OpenTransaction,
        },
    });
}

/// A database that a guest has opened.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings export it")]
pub struct Database(Sql);

/// A transaction of a guest.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings export it")]
pub struct OpenTransaction(service::Transaction);

/// What the imports work on: parts of a guest's store.
pub(crate) struct SqlView<'a> {
    table: &'a mut ResourceTable,
    shared: &'a Arc<Shared>,
}

struct HasSql;

impl HasData for HasSql {
    type Data<'a> = SqlView<'a>;
}

/// CPU time of databases is the guest's.
struct Share(Arc<CpuBucket>);

impl Payer for Share {
    fn charge(&self, cpu: Duration) {
        self.0.charge(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Links the interface.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    sql::add_to_linker::<Guest, HasSql>(linker, |guest| {
        let (table, shared) = guest.services();
        SqlView { table, shared }
    })
}

impl SqlView<'_> {
    fn payer(&self) -> Arc<dyn Payer> {
        Arc::new(Share(self.shared.cpu.clone()))
    }
}

impl Host for SqlView<'_> {}

impl HostDatabase for SqlView<'_> {
    async fn open(&mut self, name: String) -> wasmtime::Result<Result<Resource<Database>, Error>> {
        let handle = match self.shared.bound().get(&name) {
            Some(Handle::Sql(sql)) => Database(sql.clone()),
            other => return Ok(Err(no_such(&name, other.is_some()))),
        };
        Ok(Ok(self.table.push(handle)?))
    }

    async fn query(
        &mut self,
        this: Resource<Database>,
        sql: String,
        params: Vec<Value>,
    ) -> wasmtime::Result<Result<Answer, Error>> {
        let database = self.table.get(&this)?.0.clone();
        let answer = database.query(&self.payer(), statement(sql, params)).await;
        Ok(answer.map(to_guest).map_err(|error| refusal(&error)))
    }

    async fn batch(
        &mut self,
        this: Resource<Database>,
        statements: Vec<Asked>,
    ) -> wasmtime::Result<Result<Vec<Answer>, Error>> {
        let database = self.table.get(&this)?.0.clone();
        let batch = statements
            .into_iter()
            .map(|asked| statement(asked.sql, asked.params));
        let answers = database.batch(&self.payer(), batch.collect()).await;
        Ok(match answers {
            Ok(answers) => Ok(answers.into_iter().map(to_guest).collect()),
            Err(error) => Err(refusal(&error)),
        })
    }

    async fn begin(
        &mut self,
        this: Resource<Database>,
    ) -> wasmtime::Result<Result<Resource<OpenTransaction>, Error>> {
        let database = self.table.get(&this)?.0.clone();
        match database.begin(&self.payer()).await {
            Ok(transaction) => Ok(Ok(self.table.push(OpenTransaction(transaction))?)),
            Err(error) => Ok(Err(refusal(&error))),
        }
    }

    async fn drop(&mut self, this: Resource<Database>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostTransaction for SqlView<'_> {
    async fn query(
        &mut self,
        this: Resource<OpenTransaction>,
        sql: String,
        params: Vec<Value>,
    ) -> wasmtime::Result<Result<Answer, Error>> {
        let answer = self.table.get(&this)?.0.query(statement(sql, params)).await;
        Ok(answer.map(to_guest).map_err(|error| refusal(&error)))
    }

    async fn commit(&mut self, this: Resource<OpenTransaction>) -> wasmtime::Result<Result<(), Error>> {
        let committed = self.table.delete(this)?.0.commit().await;
        Ok(committed.map_err(|error| refusal(&error)))
    }

    async fn roll_back(&mut self, this: Resource<OpenTransaction>) -> wasmtime::Result<Result<(), Error>> {
        let ended = self.table.delete(this)?.0.roll_back().await;
        Ok(ended.map_err(|error| refusal(&error)))
    }

    async fn drop(&mut self, this: Resource<OpenTransaction>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn statement(sql: String, params: Vec<Value>) -> Statement {
    let params = params.into_iter().map(|value| match value {
        Value::Null => service::Value::Null,
        Value::Integer(number) => service::Value::Integer(number),
        Value::Real(number) => service::Value::Real(number),
        Value::Text(text) => service::Value::Text(text),
        Value::Blob(bytes) => service::Value::Blob(bytes),
    });
    Statement::new(sql, params.collect())
}

fn to_guest(answer: service::Answer) -> Answer {
    let value = |value| match value {
        service::Value::Null => Value::Null,
        service::Value::Integer(number) => Value::Integer(number),
        service::Value::Real(number) => Value::Real(number),
        service::Value::Text(text) => Value::Text(text),
        service::Value::Blob(bytes) => Value::Blob(bytes),
    };
    let rows = answer.rows.into_iter();
    Answer {
        columns: answer.columns,
        rows: rows.map(|row| row.into_iter().map(value).collect()).collect(),
        changes: answer.changes,
        last_insert_id: answer.last_insert_id,
    }
}

fn no_such(name: &str, is_other: bool) -> Error {
    let message = match is_other {
        true => format!("{name} is not a database of this app, but a service of another type"),
        false => format!("this app has no database {name}"),
    };
    Error {
        kind: ErrorKind::NoSuchDatabase,
        message,
        hint: Some(format!(
            "declare it in gilliam.toml: [services] {name} = {{ type = \"sql\" }}"
        )),
    }
}

fn refusal(error: &SqlError) -> Error {
    let kind = match error.cause() {
        SqlError::Statement(_) | SqlError::Params(_) => ErrorKind::Statement,
        SqlError::Constraint(_) => ErrorKind::Constraint,
        SqlError::Forbidden(_) => ErrorKind::Forbidden,
        SqlError::TooLarge(_) => ErrorKind::TooLarge,
        SqlError::Deadline(_) => ErrorKind::Deadline,
        SqlError::Busy(_) | SqlError::Memory => ErrorKind::Busy,
        SqlError::Quota(_) => ErrorKind::Quota,
        SqlError::Ended(_) => ErrorKind::Ended,
        SqlError::Gone
        | SqlError::GivenUp
        | SqlError::DiskFull
        | SqlError::Corrupt(_)
        | SqlError::Failed(_)
        | SqlError::InBatch { .. } => ErrorKind::Unavailable,
    };
    Error {
        kind,
        message: error.to_string(),
        hint: error.hint(),
    }
}
