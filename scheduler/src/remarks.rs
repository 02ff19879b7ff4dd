//! What the control planes tell users of an app: releases, scales, restarts, how migrations ended. Kept in the
//! store, so that each control plane shows what all of them told.
//!
//! In: remarks, each in the commit of the change that it tells of. Out: the newest of them, and a stream of those to
//! come.
//!
//! Invariant: bounded in lines for each app, and gone with it.

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use gilliam_model::{
    Timestamp,
    log::{LogLine, LogStream},
    name::AppName,
};
use gilliam_store::{Check, Expect, RangeError, Revision, Store, Write, keys, records};
use serde::{Deserialize, Serialize};

/// Lines kept of each app: half a screen of history, some 6 KiB in the store.
const LINES_MAX: usize = 50;
/// Between two looks at a store that cannot be read.
const RETRY: Duration = Duration::from_secs(1);
/// The source of these lines.
const SOURCE: &str = "control";

/// The newest remarks about an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remarks {
    /// How many there have ever been.
    count: u64,
    lines: Vec<LogLine>,
}

impl Remarks {
    fn push(&mut self, line: LogLine) {
        self.count += 1;
        self.lines.push(line);
        let surplus = self.lines.len().saturating_sub(LINES_MAX);
        self.lines.drain(..surplus);
    }

    /// Those after the first `seen`, as far as they are kept.
    fn after(&self, seen: u64) -> &[LogLine] {
        let new = usize::try_from(self.count.saturating_sub(seen)).unwrap_or(usize::MAX);
        &self.lines[self.lines.len().saturating_sub(new)..]
    }
}

/// What adds a remark to a commit that changes `app`: a check and a write.
pub(crate) async fn added(
    store: &Store,
    app: &AppName,
    at: Timestamp,
    text: String,
) -> Result<(Check, Write), RangeError> {
    let key = keys::remarks(app);
    let before = records::load::<Remarks>(store, &key).await?;
    let check = Check {
        key: key.clone(),
        expect: Expect::unchanged(before.as_ref().map(|before| before.revision)),
    };
    let mut remarks = before.map(|before| before.value).unwrap_or_default();
    remarks.push(LogLine {
        at,
        app: app.clone(),
        source: SOURCE.to_owned(),
        stream: LogStream::Platform,
        text,
    });
    Ok((check, records::put(key, &remarks)))
}

/// The newest remarks about an app, oldest first.
pub(crate) async fn newest(store: &Store, app: &AppName) -> Result<Vec<LogLine>, RangeError> {
    Ok(read(store, app).await?.1.lines)
}

/// The newest remarks about an app as of now, and a stream of those to come.
pub(crate) async fn follow(
    store: &Store,
    app: &AppName,
) -> Result<(Vec<LogLine>, impl Stream<Item = LogLine> + Send + use<>), RangeError> {
    let (revision, remarks) = read(store, app).await?;
    let follower = Follower {
        store: store.clone(),
        app: app.clone(),
        revision,
        seen: remarks.count,
    };
    let later = stream::unfold(follower, |mut follower| async {
        let lines = follower.next().await;
        Some((stream::iter(lines), follower))
    });
    Ok((remarks.lines, later.flatten()))
}

struct Follower {
    store: Store,
    app: AppName,
    revision: Revision,
    seen: u64,
}

impl Follower {
    /// The next remarks, once there are some.
    async fn next(&mut self) -> Vec<LogLine> {
        loop {
            self.store.changed(&keys::remarks(&self.app), self.revision).await;
            match read(&self.store, &self.app).await {
                Ok((revision, remarks)) => {
                    let lines = remarks.after(self.seen).to_vec();
                    (self.revision, self.seen) = (revision, remarks.count);
                    if !lines.is_empty() {
                        return lines;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, app = %self.app, "remarks cannot be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

async fn read(store: &Store, app: &AppName) -> Result<(Revision, Remarks), RangeError> {
    let (revision, found) = store.get(&keys::remarks(app)).await?;
    let found = found.map(records::decode::<Remarks>).transpose()?;
    Ok((revision, found.map(|found| found.value).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn add(store: &Store, app: &str, text: &str) {
        let app = app.parse().expect("name");
        let added = added(store, &app, Timestamp::UNIX_EPOCH, text.to_owned());
        let (check, write) = added.await.expect("read");
        store.commit(&[check], &[write]).await.expect("commit");
    }

    #[tokio::test]
    async fn the_newest_remarks_are_kept() {
        let store = Store::memory();
        for n in 0..LINES_MAX + 3 {
            add(&store, "a", &n.to_string()).await;
        }
        add(&store, "ab", "other").await;
        let lines = newest(&store, &"a".parse().expect("name")).await.expect("read");
        assert_eq!((lines.len(), lines[0].text.as_str()), (LINES_MAX, "3"));
    }

    #[tokio::test]
    async fn whoever_follows_sees_each_later_remark_once() {
        let store = Store::memory();
        add(&store, "a", "before").await;
        let app = "a".parse().expect("name");
        let (before, later) = follow(&store, &app).await.expect("read");
        assert_eq!(before.len(), 1);
        let mut later = Box::pin(later);
        for n in 0..3 {
            add(&store, "a", &n.to_string()).await;
            if n == 1 {
                let texts = [later.next().await, later.next().await].map(|line| line.expect("a line").text);
                assert_eq!(texts, ["0", "1"]);
            }
        }
        assert_eq!(later.next().await.expect("a line").text, "2");
    }
}
