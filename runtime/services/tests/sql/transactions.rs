//! Transactions that go on from call to call: they end whole, and nothing of one is ever in another.

use gilliam_services::sql::{SqlError, Statement, Value};

use crate::support::Database;

fn insert(n: i64) -> Statement {
    Statement::new("INSERT INTO t VALUES (?)", vec![Value::Integer(n)])
}

async fn counted(db: &Database) -> Value {
    db.one("SELECT count(*) FROM t").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_stays_and_what_is_rolled_back_does_not() {
    let db = Database::new();
    db.query("CREATE TABLE t (a UNIQUE)").await;
    let first = db.sql.begin(&db.payer).await.expect("begin");
    first.query(insert(1)).await.expect("insert");
    first.commit().await.expect("commit");
    let second = db.sql.begin(&db.payer).await.expect("begin");
    second.query(insert(2)).await.expect("insert");
    second.query(insert(1)).await.expect_err("twice");
    // A statement that failed leaves the others.
    let seen = second
        .query(Statement::new("SELECT count(*) FROM t", Vec::new()))
        .await
        .expect("count");
    assert_eq!(seen.rows, [[Value::Integer(2)]]);
    second.roll_back().await.expect("roll back");
    assert_eq!(counted(&db).await, Value::Integer(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_dropped_is_rolled_back_before_the_next() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    for n in 0..20 {
        let open = db.sql.begin(&db.payer).await.expect("begin");
        open.query(insert(n)).await.expect("insert");
        drop(open);
    }
    assert_eq!(counted(&db).await, Value::Integer(0));
    // Dropped in the middle of a call.
    let open = db.sql.begin(&db.payer).await.expect("begin");
    open.query(insert(1)).await.expect("insert");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let endless = Statement::new(endless, Vec::new());
    tokio::select! {
        answer = open.query(endless) => panic!("it ends: {answer:?}"),
        () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
    }
    drop(open);
    db.try_query("INSERT INTO t VALUES (9)", Vec::new())
        .await
        .expect("the writer is free again");
    assert_eq!(counted(&db).await, Value::Integer(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_rolls_back_ends_its_transaction() {
    let db = Database::new();
    db.query("CREATE TABLE t (a UNIQUE)").await;
    db.query("INSERT INTO t VALUES (1)").await;
    let open = db.sql.begin(&db.payer).await.expect("begin");
    open.query(insert(2)).await.expect("insert");
    let sly = Statement::new("INSERT OR ROLLBACK INTO t VALUES (1)", Vec::new());
    open.query(sly).await.expect_err("twice");
    let error = open.query(insert(3)).await.expect_err("it has ended");
    assert!(matches!(error, SqlError::Ended(_)), "{error}");
    assert!(open.commit().await.is_err());
    assert_eq!(counted(&db).await, Value::Integer(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_transactions_are_refused() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    for sql in [
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT x",
        "RELEASE x",
    ] {
        let error = db.error(sql).await;
        assert!(matches!(error, SqlError::Forbidden(_)), "{sql}: {error}");
        let open = db.sql.begin(&db.payer).await.expect("begin");
        let error = open.query(Statement::new(sql, Vec::new())).await.expect_err(sql);
        assert!(matches!(error, SqlError::Forbidden(_)), "{sql}: {error}");
        assert!(error.hint().expect("hint").contains("batch"));
    }
    assert_eq!(counted(&db).await, Value::Integer(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stays_open_is_ended_when_its_time_is_over() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    let open = db.sql.begin(&db.payer).await.expect("begin");
    open.query(insert(1)).await.expect("insert");
    // It waits for the writer.
    db.query("INSERT INTO t VALUES (2)").await;
    let error = open.query(insert(3)).await.expect_err("too late");
    assert_eq!(error, SqlError::Ended("its time was over"));
    assert_eq!(db.one("SELECT sum(a) FROM t").await, Value::Integer(2));
}
