//! The one watch of a store: changed keys with their values, in the order of revisions, to [`Changes`].
//!
//! It goes with the member in turn. Where it was broken off it goes on from the last revision it told of;
//! when etcd no longer keeps what came between, everyone who waits is woken instead.
//!
//! Invariant: a change after the floor of [`Changes`] is told, once or more, never left out.

use std::{sync::Arc, time::Duration};

use etcd_client::{Event, EventType, GetOptions, WatchOptions, WatchResponse};
use tokio::time::{Instant, sleep};

use super::{
    layout::Layout,
    meaning,
    members::{Failure, Members},
    read::MESSAGE_BYTES_MAX,
};
use crate::changes::{Changes, Extent};

/// Time to begin a watch with a member.
const BEGIN_MAX: Duration = Duration::from_secs(2);
/// Pause after a watch was broken off, so that members without a leader are not asked in a busy loop.
const PAUSE: Duration = Duration::from_millis(200);

/// How a watch ended.
#[derive(Debug)]
enum End {
    /// Another member has its turn.
    Left,
    /// The member ended it.
    Broken(String),
    /// What was to be told next is no longer kept.
    Compacted,
}

/// Watches for ever, first for what comes after `from`, a revision of etcd's.
pub(super) async fn run(members: Arc<Members>, layout: Layout, changes: Arc<Changes>, from: i64) {
    // Not the revision after it: a broken answer may have told of a part of its keys.
    let mut next = from;
    loop {
        match watch(&members, &layout, &changes, &mut next).await {
            End::Left => {}
            End::Broken(said) => {
                tracing::debug!(said, "the watch was broken off");
                sleep(PAUSE).await;
            }
            End::Compacted => match newest(&members, &layout).await {
                Ok(revision) => {
                    tracing::info!(%revision, "changes were compacted before they were seen; all wake");
                    changes.forget(layout.revision(revision));
                    next = revision;
                }
                Err(failure) => {
                    tracing::debug!(?failure, "no revision to watch from");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Watches with the member in turn.
async fn watch(members: &Members, layout: &Layout, changes: &Changes, next: &mut i64) -> End {
    let until = Instant::now() + BEGIN_MAX;
    let member = match members.member(until).await {
        Ok(member) => member,
        Err((turn, said)) => {
            members.leave(turn);
            return End::Broken(said.to_string());
        }
    };
    let (first, end) = layout.watched();
    let options = WatchOptions::new()
        .with_range(end)
        .with_start_revision(*next)
        // Else one message may hold the values of a thousand revisions.
        .with_fragment();
    let mut client = member
        .client
        .watch_client()
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut stream = match tokio::time::timeout_at(until, client.watch(first, Some(options))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            members.leave(member.turn);
            return End::Broken(meaning::text(&error));
        }
        Err(_) => {
            members.leave(member.turn);
            return End::Broken("it begins no watch".into());
        }
    };
    loop {
        let response = tokio::select! {
            response = stream.message() => response,
            () = members.left(member.turn) => return End::Left,
        };
        match response {
            Ok(Some(response)) if response.compact_revision() > 0 => return End::Compacted,
            Ok(Some(response)) if response.canceled() => {
                members.leave(member.turn);
                return End::Broken(response.cancel_reason().to_string());
            }
            Ok(Some(response)) => tell(&response, layout, changes, next),
            Ok(None) => return End::Broken("it ended the watch".into()),
            Err(error) => return End::Broken(meaning::text(&error)),
        }
    }
}

/// Tells of the events of a message, each revision by itself.
///
/// A message may end in the middle of a revision: that is told whole once its head has come, which is written last.
fn tell(response: &WatchResponse, layout: &Layout, changes: &Changes, next: &mut i64) {
    let head = layout.head();
    let revision = |event: &Event| event.kv().map_or(0, etcd_client::KeyValue::mod_revision);
    let same = |left: &Event, right: &Event| revision(left) == revision(right);
    for of_one in response.events().chunk_by(same) {
        let has_head = of_one
            .iter()
            .filter_map(Event::kv)
            .any(|kv| kv.key() == head.as_bytes());
        let extent = if has_head { Extent::Whole } else { Extent::Part };
        *next = revision(&of_one[0]);
        let told = of_one.iter().filter_map(|event| change(layout, event));
        changes.publish(layout.revision(*next), told, extent);
    }
}

/// A changed key of ours, with its value from then on.
fn change<'a>(layout: &Layout, event: &'a Event) -> Option<(&'a str, Option<&'a [u8]>)> {
    let kv = event.kv()?;
    let value = (event.event_type() == EventType::Put).then_some(kv.value());
    Some((layout.key(kv.key())?, value))
}

/// The newest revision of etcd's.
async fn newest(members: &Members, layout: &Layout) -> Result<i64, Failure> {
    let identity = layout.identity();
    let answer = members
        .ask(|mut client| {
            let identity = identity.clone();
            async move {
                client
                    .get(identity, Some(GetOptions::new().with_keys_only()))
                    .await
            }
        })
        .await?;
    Ok(answer.header().map_or(0, |header| header.revision()))
}
