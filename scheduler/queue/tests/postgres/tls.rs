//! PostgreSQL that wants TLS, with a certificate of its own making.

use std::fs;

use super::{Trouble, open, put, trouble};
use crate::postgres_process::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_looked_at_as_the_url_says() {
    let folder = tempfile::tempdir().expect("folder");
    let names = vec!["127.0.0.1".to_string()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &certificate).expect("ca");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).expect("a certificate");
    let other_ca = folder.path().join("other.pem");
    fs::write(&other_ca, other.cert.pem()).expect("ca");
    let postgres = Postgres::start("");
    postgres.speak_tls(&certificate, &key);
    let url = postgres.database().url();
    let at = |options: &str| open(&format!("{url}?{options}"));

    put(&at("sslmode=require"), "a").await.expect("put");
    put(&at(""), "a").await.expect("put");
    put(
        &at(&format!("sslmode=verify-full&sslrootcert={}", ca.display())),
        "a",
    )
    .await
    .expect("put");
    for options in [
        "sslmode=disable".to_string(),
        "sslmode=verify-full".to_string(),
        format!("sslrootcert={}", other_ca.display()),
        "sslrootcert=/nonexistent.pem".to_string(),
    ] {
        let (found, _, text) = trouble(&at(&options)).await;
        assert!(
            matches!(found, Trouble::Credentials | Trouble::Away),
            "{options}: {text}"
        );
    }
}
