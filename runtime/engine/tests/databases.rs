//! Databases of guests: real components, a real file.

mod support;

use gilliam_engine::HttpInstance;
use gilliam_model::limits::Limits;
use support::{ledger, post, services, start_bound};

async fn said(instance: &HttpInstance, path: &str) -> String {
    post(instance, path, "").await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_has_a_database_with_transactions() {
    let folder = tempfile::tempdir().expect("folder");
    let (_services, bound) = services(folder.path(), 16 << 20);
    let web = start_bound(&ledger(), &bound, Limits::default()).await;
    said(&web, "/open?name=ada&amount=10").await;
    said(&web, "/open?name=bob&amount=0").await;
    assert_eq!(
        said(&web, "/transfer?from=ada&to=bob&amount=4").await,
        "4 from ada to bob"
    );
    // Taking more than there is breaks a rule of the table after the other half was done.
    let refused = post(&web, "/transfer?from=ada&to=bob&amount=7", "").await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.body.starts_with("ErrorKind::Constraint: CHECK"),
        "{}",
        refused.body
    );
    assert_eq!(said(&web, "/balances").await, "ada|6\nbob|4\n0 changed");
    // Another instance of the app sees the same.
    let other = start_bound(&ledger(), &bound, Limits::default()).await;
    assert_eq!(said(&other, "/balances").await, "ada|6\nbob|4\n0 changed");
    let values = post(&web, "/sql", "SELECT 1, 2.5, 'é', x'00ff', NULL").await;
    assert_eq!(values.body, "1|2.5|é|2 bytes|null\n0 changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_no_other_database_and_does_no_harm_to_its_own() {
    let folder = tempfile::tempdir().expect("folder");
    let (_services, bound) = services(folder.path(), 16 << 20);
    let web = start_bound(&ledger(), &bound, Limits::default()).await;
    for name in ["other", "data", "../db", ""] {
        let answer = post(&web, &format!("/sql?db={name}"), "SELECT 1").await;
        let expected = if name.is_empty() {
            "1\n0 changed"
        } else {
            "ErrorKind::NoSuchDatabase: "
        };
        assert!(answer.body.starts_with(expected), "{name}: {}", answer.body);
    }
    for sql in ["ATTACH '/tmp/x' AS x", "PRAGMA journal_mode = OFF", "BEGIN"] {
        let answer = post(&web, "/sql", sql).await;
        assert!(
            answer.body.starts_with("ErrorKind::Forbidden: "),
            "{sql}: {}",
            answer.body
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_a_guest_abandons_ends_with_its_request() {
    let folder = tempfile::tempdir().expect("folder");
    let (_services, bound) = services(folder.path(), 16 << 20);
    // Instances are used again where they may be.
    let limits = Limits {
        reuse_max: 100,
        ..Limits::default()
    };
    let web = start_bound(&ledger(), &bound, limits).await;
    said(&web, "/open?name=ada&amount=10").await;
    for _ in 0..10 {
        assert_eq!(said(&web, "/abandon").await, "abandoned");
        assert_eq!(
            said(&web, "/transfer?from=ada&to=ada&amount=1").await,
            "1 from ada to ada"
        );
    }
    assert_eq!(said(&web, "/balances").await, "ada|10\n0 changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_computes_is_the_guests_cpu_time() {
    let folder = tempfile::tempdir().expect("folder");
    let (_services, bound) = services(folder.path(), 16 << 20);
    let web = start_bound(&ledger(), &bound, Limits::default()).await;
    said(&web, "/sql").await;
    let before = web.usage();
    let long =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000000) SELECT max(i) FROM n";
    assert_eq!(post(&web, "/sql", long).await.body, "2000000\n0 changed");
    let after = web.usage();
    let cpu_ms = (after.cpu_ns_total - before.cpu_ns_total) / 1_000_000;
    assert!(cpu_ms >= 50, "{cpu_ms} ms");
}
