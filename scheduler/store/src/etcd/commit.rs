//! A commit as one transaction of etcd's.

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use gilliam_model::code::Code;

use super::{
    health::Health,
    identity::Identity,
    layout::Layout,
    members::{Failure, Members},
};
use crate::{Check, CommitError, Expect, Revision, Write};

/// The revision of no key: stands for one from before the data came to this etcd.
const NEVER: i64 = -1;

/// Does all of `writes` if every one of `checks` holds.
pub(super) async fn commit(
    members: &Members,
    layout: &Layout,
    health: &Health,
    checks: &[Check],
    writes: &[Write],
) -> Result<Revision, CommitError> {
    let txn = transaction(layout, checks, writes);
    // What etcd says once it is full may be said of the very change that filled it.
    let was_full = health.is_full();
    let send = |mut client: etcd_client::Client| {
        let txn = txn.clone();
        async move { client.txn(txn).await }
    };
    let answer = if writes.is_empty() {
        members.ask(send).await
    } else {
        members.change(send).await
    };
    match answer {
        Ok(answer) if answer.succeeded() => {
            Ok(layout.revision(answer.header().map_or(0, |header| header.revision())))
        }
        Ok(answer) => Err(conflict(layout, checks, &answer)),
        Err(failure) => Err(failed(failure, health, was_full)),
    }
}

/// Replaces the identity of the cluster.
pub(super) async fn put_identity(
    members: &Members,
    layout: &Layout,
    health: &Health,
    identity: &Identity,
) -> Result<(), CommitError> {
    let (key, record) = (layout.identity(), identity.record());
    let was_full = health.is_full();
    let answer = members
        .change(|mut client| {
            let (key, record) = (key.clone(), record.clone());
            async move { client.put(key, record, None).await }
        })
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(failure) => Err(failed(failure, health, was_full)),
    }
}

fn transaction(layout: &Layout, checks: &[Check], writes: &[Write]) -> Txn {
    let compares: Vec<Compare> = checks.iter().map(|check| compare(layout, check)).collect();
    let mut ops: Vec<TxnOp> = writes
        .iter()
        .map(|write| match write {
            Write::Put { key, value } => TxnOp::put(layout.etcd_key(key), value.clone(), None),
            Write::Delete { key } => TxnOp::delete(layout.etcd_key(key), None),
        })
        .collect();
    if !ops.is_empty() {
        ops.push(TxnOp::put(layout.head(), "", None));
    } else {
        // etcd takes a transaction without any operation for one that a lagging member may answer.
        ops.push(look(layout.identity()));
    }
    let looks: Vec<TxnOp> = checks
        .iter()
        .map(|check| look(layout.etcd_key(&check.key)))
        .collect();
    Txn::new().when(compares).and_then(ops).or_else(looks)
}

fn look(etcd_key: String) -> TxnOp {
    TxnOp::get(etcd_key, Some(GetOptions::new().with_keys_only()))
}

fn compare(layout: &Layout, check: &Check) -> Compare {
    let etcd_key = layout.etcd_key(&check.key);
    match check.expect {
        Expect::Absent => Compare::create_revision(etcd_key, CompareOp::Equal, 0),
        Expect::At(revision) => {
            let revision = layout.etcd_revision(revision).unwrap_or(NEVER);
            Compare::mod_revision(etcd_key, CompareOp::Equal, revision)
        }
    }
}

/// The first check that did not hold, from what the transaction saw.
fn conflict(layout: &Layout, checks: &[Check], answer: &TxnResponse) -> CommitError {
    let found = |answer: &TxnOpResponse| match answer {
        TxnOpResponse::Get(answer) => answer.kvs().first().map(|kv| layout.revision(kv.mod_revision())),
        _ => None,
    };
    let answers = answer.op_responses();
    let failed = checks
        .iter()
        .zip(&answers)
        .find(|(check, answer)| !check.expect.holds(found(answer)));
    CommitError::Conflict {
        key: failed.map_or_else(String::new, |(check, _)| check.key.clone()),
    }
}

fn failed(failure: Failure, health: &Health, was_full: bool) -> CommitError {
    let unavailable = |code, reason| CommitError::Unavailable { code, reason };
    match failure {
        Failure::Unreachable(said) => {
            unavailable(Code::S13, format!("no member of etcd took it in time: {said}"))
        }
        Failure::Refused(said) => unavailable(Code::S13, format!("etcd refused it: {said}")),
        Failure::NoSpace => {
            health.note_full();
            let reason = "etcd's database is full (alarm NOSPACE)".to_string();
            if was_full {
                unavailable(Code::S10, reason)
            } else {
                CommitError::OutcomeUnknown { reason }
            }
        }
        Failure::Unknown(said) => CommitError::OutcomeUnknown {
            reason: format!("etcd did not answer: {said}"),
        },
        // Of readings only.
        failure @ (Failure::Compacted | Failure::LongAnswer) => CommitError::OutcomeUnknown {
            reason: format!("etcd answered {failure:?}"),
        },
    }
}
