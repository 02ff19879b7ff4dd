//! Telling other servers of jobs, and hearing from them (`LISTEN`, `NOTIFY`).
//!
//! In flow queues that this server's work brought jobs into; out flow notices, and what others noticed.
//! Notices go on a connection of their own after the commit, many together: in the transaction of a put they
//! would make all commits wait for each other.
//!
//! Invariant: nothing depends on a notice. Who misses one finds the jobs at its next look at the tables.

use std::{collections::BTreeSet, future::poll_fn, sync::Arc, time::Duration};

use gilliam_model::queue::QueueId;
use tokio::{sync::oneshot, time::timeout};
use tokio_postgres::{AsyncMessage, Client};

use super::{engine::Engine, fault::Fault, row::queue_id};

/// Bytes of a notice: PostgreSQL takes 7,999.
const NOTICE_BYTES_MAX: usize = 7_900;
/// Time after which a connection that is quiet is asked whether it is there still.
const QUIET_MAX: Duration = Duration::from_secs(10);
/// Pauses before it is made anew.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Talks with other servers, until it is ended.
pub(super) async fn talk(engine: Arc<Engine>) {
    // Whoever has this name hears itself.
    let own = format!("{:016x}", fastrand::u64(..));
    let mut pause = PAUSE_MIN;
    loop {
        if let Err(fault) = connected(&engine, &own, &mut pause).await {
            tracing::debug!("queues hear nothing of other servers: {}", fault.said(&engine));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Talks on one connection, until it breaks.
async fn connected(engine: &Arc<Engine>, own: &str, pause: &mut Duration) -> Result<(), Fault> {
    let (client, mut connection) = engine.connect().await?;
    let (ended, end) = oneshot::channel::<()>();
    let (listener, name) = (Arc::clone(engine), own.to_string());
    let driven = async move {
        let _ended = ended;
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notice) = message {
                listener.giving.heard(heard(notice.payload(), &name));
            }
        }
    };
    tokio::spawn(driven);
    client.batch_execute("LISTEN gilliam_queue").await?;
    *pause = PAUSE_MIN;
    tokio::select! {
        told = tell(engine, &client, own) => told,
        _ = end => Ok(()),
    }
}

/// Tells others what there is to tell.
async fn tell(engine: &Engine, client: &Client, own: &str) -> Result<(), Fault> {
    loop {
        let mut notices = notices(engine.giving.take_untold(), own);
        if notices.is_empty() {
            let quiet = timeout(QUIET_MAX, engine.giving.to_tell.notified())
                .await
                .is_err();
            if !quiet {
                continue;
            }
            // It ends the wait for a server that is no more.
            notices.push(own.to_string());
        }
        for notice in notices {
            let told = async {
                let sql = "SELECT pg_notify('gilliam_queue', $1)";
                Ok(client.query(sql, &[&notice]).await?)
            };
            engine.within(told).await?;
        }
    }
}

/// Notices of queues: who tells, then a queue a word.
fn notices(queues: BTreeSet<QueueId>, own: &str) -> Vec<String> {
    let mut notices: Vec<String> = Vec::new();
    for queue in queues {
        let word = format!(" {queue}");
        match notices.last_mut() {
            Some(notice) if notice.len() + word.len() <= NOTICE_BYTES_MAX => notice.push_str(&word),
            _ => notices.push(format!("{own}{word}")),
        }
    }
    notices
}

/// The queues of a notice; none when it is our own.
fn heard(notice: &str, own: &str) -> Vec<QueueId> {
    let mut words = notice.split(' ');
    if words.next() == Some(own) {
        return Vec::new();
    }
    let queues = words.filter_map(|word| word.split_once('/'));
    queues
        .filter_map(|(app, name)| queue_id(app, name).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_hear_what_is_told_and_oneself_does_not() {
        let queue = |n: usize| queue_id("shop", &format!("emails-{n}")).expect("a queue");
        let queues: BTreeSet<QueueId> = (0..1_000).map(queue).collect();
        let notices = notices(queues.clone(), "me");
        assert!(notices.len() > 1 && notices.iter().all(|notice| notice.len() <= NOTICE_BYTES_MAX));
        let all = |listener: &str| -> BTreeSet<QueueId> {
            notices
                .iter()
                .flat_map(|notice| heard(notice, listener))
                .collect()
        };
        assert_eq!(all("another"), queues);
        assert_eq!(all("me"), BTreeSet::new());
        assert_eq!(
            heard("x shop/emails nonsense UPPER/case", "me"),
            [queue_id("shop", "emails").expect("a queue")]
        );
    }
}
