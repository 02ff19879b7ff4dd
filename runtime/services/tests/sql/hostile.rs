//! Statements that want what is not theirs, or more than there is.

use std::time::Duration;

use gilliam_services::sql::{SqlError, Statement, Value, limits};

use crate::support::Database;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_reaches_beyond_the_database() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    let outside = db.folder.path().join("outside");
    let file = outside.display();
    for sql in [
        format!("ATTACH '{file}' AS other"),
        format!("ATTACH 'file:{file}?mode=rwc' AS other"),
        "ATTACH ':memory:' AS other".to_owned(),
        "DETACH main".to_owned(),
        format!("VACUUM INTO '{file}'"),
        "VACUUM".to_owned(),
        format!("SELECT load_extension('{file}')"),
        "SELECT fts3_tokenizer('simple', x'00')".to_owned(),
        "CREATE VIRTUAL TABLE v USING fts3(a)".to_owned(),
        "CREATE VIRTUAL TABLE v USING dbstat".to_owned(),
        "SELECT * FROM dbstat".to_owned(),
        "SELECT * FROM sqlite_dbpage".to_owned(),
        format!("PRAGMA temp_store_directory = '{file}'"),
        format!("PRAGMA data_store_directory = '{file}'"),
        "CREATE TEMP TABLE x (a)".to_owned(),
        "CREATE TEMP VIEW x AS SELECT 1".to_owned(),
        "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END".to_owned(),
        "CREATE TABLE temp.x (a)".to_owned(),
    ] {
        let error = db.error(&sql).await;
        assert!(
            matches!(error, SqlError::Forbidden(_) | SqlError::Statement(_)),
            "{sql}: {error}"
        );
    }
    assert!(!outside.exists());
    let files: Vec<_> = std::fs::read_dir(db.folder.path()).expect("folder").collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pragma_changes_what_keeps_data_safe_or_bounded() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    for pragma in [
        "synchronous = OFF",
        "journal_mode = DELETE",
        "journal_mode = MEMORY",
        "journal_size_limit = -1",
        "locking_mode = EXCLUSIVE",
        "max_page_count = 1000000000",
        "page_size = 512",
        "hard_heap_limit = 0",
        "soft_heap_limit = 0",
        "cache_size = -1000000",
        "temp_store = FILE",
        "mmap_size = 1000000000",
        "trusted_schema = ON",
        "writable_schema = ON",
        "query_only = OFF",
        "foreign_keys = OFF",
        "ignore_check_constraints = ON",
        "wal_autocheckpoint = 0",
        "wal_checkpoint(TRUNCATE)",
        "schema_version = 7",
        "threads = 8",
        "recursive_triggers = OFF",
        "secure_delete = ON",
        "optimize",
        "something_new = 1",
    ] {
        for sql in [format!("PRAGMA {pragma}"), format!("PRAGMA main.{pragma}")] {
            let error = db.error(&sql).await;
            assert!(matches!(error, SqlError::Forbidden(_)), "{sql}: {error}");
        }
    }
    assert_eq!(db.one("PRAGMA journal_mode").await, Value::Text("wal".to_owned()));
    assert_eq!(db.one("PRAGMA foreign_keys").await, Value::Integer(1));
    db.query("PRAGMA user_version = 12").await;
    assert_eq!(db.one("PRAGMA user_version").await, Value::Integer(12));
    let answer = db.query("SELECT name FROM pragma_table_info('t')").await;
    assert_eq!(answer.rows, [[Value::Text("a".to_owned())]]);
    // The catalogue is SQLite's alone.
    for sql in [
        "UPDATE sqlite_master SET sql = 'x'",
        "DELETE FROM sqlite_master",
        "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 0, 'x')",
    ] {
        db.error(sql).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_end_stops_when_nobody_waits_and_is_paid_for() {
    let db = Database::new();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    for _ in 0..2 * limits::READERS_MAX {
        let gone = tokio::time::timeout(Duration::from_millis(50), db.try_query(endless, Vec::new()));
        gone.await.expect_err("it has no end");
    }
    // All readers are free again.
    db.query("SELECT 1").await;
    let spent = db.purse.spent();
    assert!(spent >= Duration::from_millis(60), "{spent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_end_stops_at_its_deadline() {
    let db = Database::new();
    db.query("CREATE TABLE t (a)").await;
    let endless = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE 1)
                   SELECT count(*) FROM n";
    let error = db.error(endless).await;
    assert_eq!(error, SqlError::Deadline(Duration::from_secs(2)));
    assert!(error.hint().expect("hint").contains("EXPLAIN QUERY PLAN"));
    assert_eq!(db.one("SELECT count(*) FROM t").await, Value::Integer(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let db = Database::new();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
    for sql in [
        "SELECT zeroblob(1000000000)".to_owned(),
        "SELECT randomblob(2500000)".to_owned(),
        format!("{many} SELECT i FROM n"),
        format!("{many} SELECT zeroblob(100000) FROM n"),
        format!("{many} SELECT group_concat(hex(zeroblob(5000)) || i) FROM (SELECT i FROM n LIMIT 1000)"),
        format!("SELECT {}1", "1+".repeat(5_000)),
        format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(200)),
        format!("SELECT {}1", "1,".repeat(2_000)),
        format!("SELECT '{}'", "x".repeat(300_000)),
        "SELECT 1;".repeat(10_000),
        format!("SELECT 1 WHERE 'a' LIKE '{}'", "%a".repeat(500)),
        format!("SELECT ?{}", 32_000),
    ] {
        let error = db.try_query(&sql, Vec::new()).await.expect_err("too large");
        assert!(
            matches!(error, SqlError::TooLarge(_) | SqlError::Statement(_)),
            "{:.40}: {error}",
            sql
        );
    }
    let error = db
        .try_query("SELECT ?", vec![Value::Blob(vec![0; 3 << 20])])
        .await
        .expect_err("too large");
    assert!(matches!(error, SqlError::TooLarge(_)), "{error}");
    let batch = vec![Statement::new("SELECT 1", Vec::new()); limits::BATCH_STATEMENTS_MAX + 1];
    let error = db.sql.batch(&db.payer, batch).await.expect_err("too many");
    assert!(matches!(error, SqlError::TooLarge(_)), "{error}");
    db.query("SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_statement_sorts_is_bounded_and_others_go_on() {
    let db = Database::new();
    let quiet = Database::new();
    quiet.query("CREATE TABLE t (a)").await;
    let hog = "WITH RECURSIVE n(i, b) AS (SELECT 1, hex(zeroblob(500000)) UNION ALL SELECT i + 1, b FROM n)
               SELECT i FROM n ORDER BY b || i";
    let (error, ()) = tokio::join!(db.error(hog), async {
        for n in 0..50 {
            let inserted = quiet
                .try_query("INSERT INTO t VALUES (?)", vec![Value::Integer(n)])
                .await;
            inserted.expect("the other has its share");
        }
    });
    assert_eq!(error, SqlError::Memory);
    assert_eq!(quiet.one("SELECT count(*) FROM t").await, Value::Integer(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_take_time_by_the_length_of_what_they_are_given() {
    let db = Database::new();
    // Each would take minutes with SQLite's own: the product of two lengths.
    for sql in [
        "SELECT instr(zeroblob(2000000), zeroblob(1000000) || x'01')",
        "SELECT length(replace(zeroblob(2000000), zeroblob(1000000) || x'01', 'x'))",
        "SELECT length(trim(hex(zeroblob(1000000)), hex(randomblob(900000))))",
    ] {
        db.query(sql).await;
    }
    assert!(
        db.purse.spent() < Duration::from_secs(5),
        "{:?}",
        db.purse.spent()
    );
    for (sql, value) in [
        ("SELECT instr('häuser', 'user')", Value::Integer(3)),
        ("SELECT instr(x'c3a400', x'00')", Value::Integer(3)),
        ("SELECT instr('abc', 'd')", Value::Integer(0)),
        ("SELECT instr('abc', '')", Value::Integer(1)),
        ("SELECT instr(NULL, 'd')", Value::Null),
        ("SELECT instr(12.5, '.')", Value::Integer(3)),
        (
            "SELECT replace('aXbX', 'X', '--')",
            Value::Text("a--b--".to_owned()),
        ),
        ("SELECT replace(121, 1, 0)", Value::Text("020".to_owned())),
        ("SELECT replace('abc', '', 'x')", Value::Text("abc".to_owned())),
        ("SELECT trim('xxåbxx', 'xå')", Value::Text("b".to_owned())),
        (
            "SELECT ltrim('xxbxx', 'x') || rtrim('xxbxx', 'x')",
            Value::Text("bxxxxb".to_owned()),
        ),
        ("SELECT trim('  b ')", Value::Text("b".to_owned())),
        ("SELECT unhex('00-ff', '-')", Value::Blob(vec![0, 255])),
        ("SELECT unhex('0-0', '-')", Value::Null),
        ("SELECT unhex('00zz', '-')", Value::Null),
    ] {
        assert_eq!(db.one(sql).await, value, "{sql}");
    }
    // They are SQLite's in views and indexes too.
    db.query("CREATE TABLE t (a)").await;
    db.query("CREATE INDEX i ON t (replace(a, 'x', ''))").await;
    db.query("CREATE VIEW v AS SELECT instr(a, 'x') FROM t").await;
    db.query("SELECT * FROM v").await;
}
