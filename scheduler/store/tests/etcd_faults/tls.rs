//! An etcd that speaks TLS and wants certificates of its clients: what opens it, and what is said of what does not.

use std::path::Path;

use gilliam_store::{EtcdConfig, Store, StoreError, Write};
use tempfile::TempDir;

use crate::{
    DEADLINE,
    etcd_process::Etcd,
    pki::{Authority, Life},
};

fn config(etcd: &Etcd, ca: &Path, identity: Option<(std::path::PathBuf, std::path::PathBuf)>) -> EtcdConfig {
    let mut config: EtcdConfig = (etcd.url("tls") + "?timeout=2").parse().expect("a URL");
    config.ca = Some(ca.to_owned());
    config.tls = true;
    let (certificate, key) = identity.unzip();
    config.set_identity(certificate, key).expect("both or neither");
    config
}

#[track_caller]
fn said(error: &StoreError, what: &[&str], hint: &str) {
    let text = error.to_string();
    assert!(what.iter().any(|what| text.contains(what)), "{text}");
    assert!(error.hint().contains(hint), "{text}: {}", error.hint());
}

async fn refused(config: EtcdConfig) -> StoreError {
    let opening = tokio::time::timeout(DEADLINE, Store::open_etcd(config));
    opening.await.expect("in time").expect_err("no way in")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_both_sides_open_a_secured_etcd_and_nothing_else_does() {
    let folder = TempDir::new().expect("folder");
    let (ours, others) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "others"),
    );
    let etcd = tokio::task::block_in_place(|| Etcd::secured(&ours.member(Life::Good)));
    let identity = ours.signed("gilliam", Life::Good);
    let store = Store::open_etcd(config(&etcd, &ours.ca(), Some(identity.clone())))
        .await
        .expect("open");
    let write = Write::Put {
        key: "/k".into(),
        value: b"1".to_vec(),
    };
    let revision = store.commit(&[], &[write]).await.expect("commit");
    assert_eq!(store.get("/k").await.expect("read").0, revision);

    let wrong_ca = refused(config(&etcd, &others.ca(), Some(identity))).await;
    said(&wrong_ca, &["UnknownIssuer"], "--store-ca");
    // A member says no more to those whose certificate it does not take.
    let (foreign, over) = (
        others.signed("gilliam", Life::Good),
        ours.signed("gilliam", Life::Over),
    );
    for identity in [None, Some(foreign), Some(over)] {
        let refused = refused(config(&etcd, &ours.ca(), identity)).await;
        said(&refused, &[&etcd.address(0)], "--store-cert");
    }
    let mut plain = config(&etcd, &ours.ca(), None);
    (plain.tls, plain.ca) = (false, None);
    said(&refused(plain).await, &[&etcd.address(0)], "TLS");
    let garbage = folder.path().join("garbage.pem");
    std::fs::write(&garbage, "no certificate").expect("file");
    said(
        &refused(config(&etcd, &garbage, None)).await,
        &["UnknownIssuer"],
        "--store-ca",
    );
    let missing = refused(config(&etcd, &folder.path().join("missing.pem"), None)).await;
    said(&missing, &["missing.pem"], "exists");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_certificate_is_over_or_another_hosts_is_told_of() {
    let folder = TempDir::new().expect("folder");
    let ours = Authority::new(folder.path(), "ours");
    let identity = ours.signed("gilliam", Life::Good);
    let etcd = tokio::task::block_in_place(|| Etcd::secured(&ours.member(Life::Over)));
    let over = refused(config(&etcd, &ours.ca(), Some(identity.clone()))).await;
    said(&over, &["expired", "Expired"], "certificate");
    let mut member = ours.member(Life::Good);
    (member.certificate, member.key) = ours.signed("elsewhere.test", Life::Good);
    let etcd = tokio::task::block_in_place(|| Etcd::secured(&member));
    let elsewhere = refused(config(&etcd, &ours.ca(), Some(identity))).await;
    said(
        &elsewhere,
        &["NotValidForName", "not valid for name"],
        "certificate",
    );
}
