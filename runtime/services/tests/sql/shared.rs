//! What a database does for its app: statements, batches, readers beside a writer, quota, HTTP.

use bytes::Bytes;
use gilliam_services::sql::{Params, SqlError, Statement, Value, http};

use crate::support::Database;

#[tokio::test(flavor = "multi_thread")]
async fn values_come_back_as_they_went_in() {
    let db = Database::new();
    db.query("CREATE TABLE t (id INTEGER PRIMARY KEY, v)").await;
    let values = [
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Real(-0.5),
        Value::Text("naïve \"☃\"".to_owned()),
        Value::Blob(vec![0, 255, 10]),
    ];
    for value in &values {
        let answer = db
            .try_query("INSERT INTO t (v) VALUES (?)", vec![value.clone()])
            .await;
        let answer = answer.expect("insert");
        assert_eq!(answer.changes, 1);
        assert!(answer.last_insert_id.is_some(), "{answer:?}");
    }
    let answer = db.query("SELECT v, typeof(v) FROM t ORDER BY id").await;
    assert_eq!(answer.columns, ["v", "typeof(v)"]);
    let seen: Vec<Value> = answer.rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(seen, values);
    let answer = db.query("UPDATE t SET v = 1 WHERE id > 3 RETURNING id").await;
    assert_eq!((answer.rows.len(), answer.changes), (2, 2));
    let named = Statement {
        sql: "SELECT :a + @b".to_owned(),
        params: Params::Named(vec![
            ("b".to_owned(), Value::Integer(2)),
            (":a".to_owned(), Value::Integer(3)),
        ]),
    };
    let answer = db.sql.query(&db.payer, named).await.expect("named");
    assert_eq!(answer.rows, [[Value::Integer(5)]]);
    assert_eq!((answer.changes, answer.last_insert_id), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_statement_is_said() {
    let db = Database::new();
    for (sql, part) in [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT ?", "has 1 parameters, 0 were given"),
        ("SELECT 1; SELECT 2", "more than one statement at once"),
        ("SELECT \"text\"", "no such column"),
        ("", "no statement"),
        ("  -- nothing", "no statement"),
    ] {
        let error = db.error(sql).await.to_string();
        assert!(error.contains(part), "{sql}: {error}");
    }
    db.query("SELECT 1; -- and that is all").await;
    db.query("CREATE TABLE t (a UNIQUE)").await;
    db.query("INSERT INTO t VALUES (1)").await;
    let error = db.error("INSERT INTO t VALUES (1)").await;
    assert_eq!(
        error,
        SqlError::Constraint("UNIQUE constraint failed: t.a".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_done_whole_or_not_at_all() {
    let db = Database::new();
    let sql = |sql: &str| Statement::new(sql, Vec::new());
    let made = vec![
        sql("CREATE TABLE t (a UNIQUE)"),
        sql("INSERT INTO t VALUES (1), (2)"),
        sql("SELECT a FROM t"),
    ];
    let answers = db.sql.batch(&db.payer, made).await.expect("batch");
    assert_eq!(
        (answers.len(), answers[1].changes, answers[2].rows.len()),
        (3, 2, 2)
    );
    let broken = vec![sql("INSERT INTO t VALUES (3)"), sql("INSERT INTO t VALUES (1)")];
    let error = db
        .sql
        .batch(&db.payer, broken)
        .await
        .expect_err("the second fails");
    assert!(
        error.to_string().starts_with("statement 1 of the batch"),
        "{error}"
    );
    // A conflict clause that ends the transaction must not leave what follows outside of one.
    let sly = vec![
        sql("INSERT INTO t VALUES (4)"),
        sql("INSERT OR ROLLBACK INTO t VALUES (1)"),
        sql("INSERT INTO t VALUES (5)"),
    ];
    db.sql.batch(&db.payer, sly).await.expect_err("rolled back");
    assert_eq!(db.one("SELECT count(*) FROM t").await, Value::Integer(2));
    // One that seems to read and then writes is one transaction too.
    let mixed = vec![
        sql("SELECT 1"),
        sql("WITH x(n) AS (VALUES (9)) INSERT INTO t SELECT n FROM x"),
    ];
    db.sql.batch(&db.payer, mixed).await.expect("mixed");
    assert_eq!(db.one("SELECT max(a) FROM t").await, Value::Integer(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_go_on_beside_a_transaction_that_writes() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    let open = db.sql.begin(&db.payer).await.expect("begin");
    open.query(Statement::new("INSERT INTO t VALUES (1)", Vec::new()))
        .await
        .expect("insert");
    assert_eq!(db.one("SELECT count(*) FROM t").await, Value::Integer(0));
    open.commit().await.expect("commit");
    assert_eq!(db.one("SELECT count(*) FROM t").await, Value::Integer(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_ends_at_its_quota_and_goes_on_below_it() {
    let db = Database::with_quota(256 << 10);
    db.query("CREATE TABLE t (a)").await;
    let mut full = None;
    for _ in 0..64 {
        if let Err(error) = db
            .try_query("INSERT INTO t VALUES (zeroblob(10000))", Vec::new())
            .await
        {
            full = Some(error);
            break;
        }
    }
    let full = full.expect("64 blobs do not fit");
    assert_eq!(full, SqlError::Quota(256 << 10));
    assert!(full.hint().expect("hint").contains("quota"));
    let usage = db.sql.usage().await.expect("usage");
    assert!(usage.bytes <= 256 << 10, "{usage:?}");
    let before = db.one("SELECT count(*) FROM t").await;
    db.query("DELETE FROM t").await;
    db.query("INSERT INTO t VALUES (zeroblob(10000))").await;
    assert_ne!(before, Value::Integer(0));
    // What was deleted is written anew: the file does not grow beyond.
    let file = std::fs::metadata(db.folder.path().join("shop/db/db.sqlite")).expect("file");
    assert!(file.len() <= 256 << 10, "{} bytes", file.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_there_again_for_the_next_handle() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    db.query("INSERT INTO t VALUES (7)").await;
    let again = gilliam_services::sql::Sql::new(
        gilliam_services::sql::SqlOptions::new(db.folder.path().join("shop/db"), 16 << 20),
        gilliam_services::sql::SqlThreads::default(),
    );
    drop(db.sql);
    let answer = again
        .query(&db.payer, Statement::new("SELECT a FROM t", Vec::new()))
        .await;
    assert_eq!(answer.expect("there").rows, [[Value::Integer(7)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_answers_http() {
    let db = Database::new();
    let post = async |method: &str, path: &str, body: &str| {
        let request = ::http::Request::builder()
            .method(method)
            .uri(format!("http://db.internal{path}"));
        let request = request.body(Bytes::from(body.to_owned())).expect("request");
        let response = http::answer(&db.sql, &db.payer, request).await;
        let body = String::from_utf8(response.body().to_vec()).expect("text");
        (response.status().as_u16(), body)
    };
    let made = r#"[{"sql":"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)"},
                   {"sql":"INSERT INTO t (name) VALUES (?)","params":["Ada"]}]"#;
    let (status, body) = post("POST", "/batch", made).await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body.ends_with(r#"{"columns":[],"rows":[],"changes":1,"last_insert_id":1}]"#),
        "{body}"
    );
    let asked = r#"{"sql":"SELECT id, name FROM t WHERE name = :name","params":{"name":"Ada"}}"#;
    let (status, body) = post("POST", "/query", asked).await;
    let answer = r#"{"columns":["id","name"],"rows":[[1,"Ada"]],"changes":0,"last_insert_id":null}"#;
    assert_eq!((status, body.as_str()), (200, answer));
    for (method, path, body, status, code) in [
        ("GET", "/query", "", 405, "A400"),
        ("POST", "/", "{}", 404, "A400"),
        ("POST", "/query", "{", 400, "A400"),
        ("POST", "/query", r#"{"sql":"SELEC"}"#, 422, "A422"),
        ("POST", "/query", r#"{"sql":"ATTACH 'x' AS y"}"#, 403, "A403"),
        (
            "POST",
            "/query",
            r#"{"sql":"SELECT zeroblob(3000000)"}"#,
            413,
            "A413",
        ),
    ] {
        let (seen, answer) = post(method, path, body).await;
        assert_eq!(seen, status, "{method} {path} {body}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_quota_holds_from_the_next_statement_on() {
    let db = Database::with_quota(128 << 10);
    db.query("CREATE TABLE t (a)").await;
    let insert = "INSERT INTO t VALUES (zeroblob(200000))";
    assert_eq!(db.error(insert).await, SqlError::Quota(128 << 10));
    db.sql.set_quota(1 << 20);
    db.query(insert).await;
    db.sql.set_quota(128 << 10);
    assert_eq!(db.error(insert).await, SqlError::Quota(128 << 10));
    assert_eq!(db.one("SELECT count(*) FROM t").await, Value::Integer(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_closed_leaves_no_file_open_and_refuses() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    let open = db.sql.begin(&db.payer).await.expect("begin");
    let (sql, ()) = (db.sql.clone(), drop(open));
    sql.close().await;
    assert_eq!(db.error("SELECT * FROM t").await, SqlError::Gone);
    // The log went into the database, as it does when the last connection is closed.
    assert!(!db.folder.path().join("shop/db/db.sqlite-wal").exists());
}
