//! The one thread that writes.

use std::mem;

use tokio::sync::mpsc;

use super::{Request, tables::Tables};

/// Most commits in one transaction: beyond it, what the last adds to the wait of the first is more than an
/// `fsync`.
const GROUP_REQUESTS_MAX: usize = 64;

/// Does the requests that wait, together, until every handle of the store is gone.
///
/// While one group is made durable the next one gathers, so nobody waits for company.
pub(super) fn run(tables: &Tables, mut requests: mpsc::Receiver<Request>) {
    let mut group: Vec<Request> = Vec::with_capacity(GROUP_REQUESTS_MAX);
    while requests.blocking_recv_many(&mut group, GROUP_REQUESTS_MAX) > 0 {
        let commits: Vec<_> = group
            .iter()
            .map(|r| (r.checks.as_slice(), r.writes.as_slice()))
            .collect();
        let answers = tables.commit_group(&commits);
        for (request, answer) in mem::take(&mut group).into_iter().zip(answers) {
            // A caller that went away does not undo its commit.
            let _ = request.answer.send(answer);
        }
    }
}
