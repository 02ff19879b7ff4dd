//! Accounts: money is moved in a transaction, so that none is ever lost or made.

use crate::{
    Answer,
    sql::{self, Error, Statement, Value},
};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS accounts
    (name TEXT PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0))";

/// Opens an account.
pub fn open(name: &str, amount: &str) -> Answer {
    let opened = || -> Result<(), Error> {
        let make = Statement {
            sql: TABLE.to_owned(),
            params: Vec::new(),
        };
        let insert = Statement {
            sql: "INSERT INTO accounts VALUES (?, ?)".to_owned(),
            params: vec![Value::Text(name.to_owned()), amount_of(amount)],
        };
        sql::database()?.batch(&[make, insert])?;
        Ok(())
    };
    answer(opened().map(|()| format!("{name} has {amount}")))
}

/// Moves money from one account to another, if there is enough.
pub fn transfer(from: &str, to: &str, amount: &str) -> Answer {
    let moved = || -> Result<String, Error> {
        let transaction = sql::database()?.begin()?;
        let add = "UPDATE accounts SET balance = balance + ? WHERE name = ?";
        let take = "UPDATE accounts SET balance = balance - ? WHERE name = ?";
        let one = |sql, name: &str| {
            let params = [amount_of(amount), Value::Text(name.to_owned())];
            transaction.query(sql, &params).map(|answer| answer.changes == 1)
        };
        // An error ends this function, and the transaction with it.
        if !(one(add, to)? && one(take, from)?) {
            return Ok("no such account".to_owned());
        }
        sql::Transaction::commit(transaction)?;
        Ok(format!("{amount} from {from} to {to}"))
    };
    answer(moved())
}

/// All accounts.
pub fn balances() -> Answer {
    let select = "SELECT name, balance FROM accounts ORDER BY name";
    let asked = || sql::database()?.query(select, &[]);
    answer(asked().map(|answer| sql::rows(&answer)))
}

/// Begins a transaction and never ends it, as a program with a mistake would.
pub fn abandon() -> Answer {
    let begun = || -> Result<(), Error> {
        let transaction = sql::database()?.begin()?;
        transaction.query("UPDATE accounts SET balance = balance + 1000000", &[])?;
        std::mem::forget(transaction);
        Ok(())
    };
    answer(begun().map(|()| "abandoned".to_owned()))
}

fn amount_of(text: &str) -> Value {
    text.parse().map_or(Value::Null, Value::Integer)
}

fn answer(result: Result<String, Error>) -> Answer {
    match result {
        Ok(text) => (200, text),
        Err(error) => sql::refused(&error),
    }
}
