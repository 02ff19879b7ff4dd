//! The nouns of the model as entries: JSON values under the keys of [`crate::keys`].
//!
//! A record that is read carries the revision that it was written at, so that a change of it can be guarded:
//! `store.commit(&[app.unchanged()], &[records::put_app(&changed)])`.

use gilliam_model::{
    app::App,
    digest::Digest,
    image::Image,
    instance::Epoch,
    name::AppName,
    placement::Placement,
    release::{Release, ReleaseId},
    run::Run,
    token::Token,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Check, Entry, RangeError, Revision, Store, Write, keys};

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// Its key.
    pub key: String,
    /// The record.
    pub value: T,
    /// The revision of the commit that wrote it.
    pub revision: Revision,
}

impl<T> Stored<T> {
    /// The check that it is still as it was read.
    pub fn unchanged(&self) -> Check {
        Check::at(self.key.clone(), self.revision)
    }
}

/// Reads a record; `None` when there is none. [`RangeError::Corrupt`] names the key of one that cannot be
/// read.
pub async fn load<T: DeserializeOwned>(store: &Store, key: &str) -> Result<Option<Stored<T>>, RangeError> {
    store.get(key).await?.1.map(decode).transpose()
}

/// Reads every record under a prefix, in the order of keys.
pub async fn list<T: DeserializeOwned>(
    store: &Store,
    prefix: &str,
) -> Result<(Revision, Vec<Stored<T>>), RangeError> {
    let (revision, entries) = store.range(prefix).await?;
    Ok((revision, decode_all(entries)?))
}

/// The write that sets a record.
pub fn put<T: Serialize>(key: String, record: &T) -> Write {
    let value =
        serde_json::to_vec(record).expect("the model's types have string keys and no failing serializer");
    Write::Put { key, value }
}

/// The write that removes a record.
pub fn delete(key: String) -> Write {
    Write::Delete { key }
}

/// Reads an entry as a record.
pub fn decode<T: DeserializeOwned>(entry: Entry) -> Result<Stored<T>, RangeError> {
    match serde_json::from_slice(&entry.value) {
        Ok(value) => Ok(Stored {
            key: entry.key,
            value,
            revision: entry.revision,
        }),
        Err(error) => Err(RangeError::Corrupt {
            key: entry.key,
            reason: error.to_string(),
        }),
    }
}

/// Reads entries as records.
pub fn decode_all<T: DeserializeOwned>(entries: Vec<Entry>) -> Result<Vec<Stored<T>>, RangeError> {
    entries.into_iter().map(decode).collect()
}

/// Reads an app.
pub async fn load_app(store: &Store, app: &AppName) -> Result<Option<Stored<App>>, RangeError> {
    load(store, &keys::app(app)).await
}

/// Reads every app, by name.
pub async fn list_apps(store: &Store) -> Result<(Revision, Vec<Stored<App>>), RangeError> {
    list(store, keys::APPS).await
}

/// The write that sets an app.
pub fn put_app(app: &App) -> Write {
    put(keys::app(&app.name), app)
}

/// Reads a release.
pub async fn load_release(
    store: &Store,
    app: &AppName,
    release: ReleaseId,
) -> Result<Option<Stored<Release>>, RangeError> {
    load(store, &keys::release(app, release)).await
}

/// Reads the releases of an app, oldest first.
pub async fn list_releases(
    store: &Store,
    app: &AppName,
) -> Result<(Revision, Vec<Stored<Release>>), RangeError> {
    list(store, &keys::releases_of(app)).await
}

/// The write that sets a release.
pub fn put_release(release: &Release) -> Write {
    put(keys::release(&release.app, release.id), release)
}

/// Reads an image.
pub async fn load_image(store: &Store, digest: &Digest) -> Result<Option<Stored<Image>>, RangeError> {
    load(store, &keys::image(digest)).await
}

/// The write that sets an image.
pub fn put_image(digest: &Digest, image: &Image) -> Write {
    put(keys::image(digest), image)
}

/// Reads every placement, by app, release, process type and node.
pub async fn list_placements(store: &Store) -> Result<(Revision, Vec<Stored<Placement>>), RangeError> {
    list(store, keys::PLACEMENTS).await
}

/// The write that sets a placement; one without slots is removed.
pub fn put_placement(placement: &Placement) -> Write {
    let key = keys::of_placement(placement);
    if placement.ranges.is_empty() {
        delete(key)
    } else {
        put(key, placement)
    }
}

/// Reads the epoch of the last plan.
pub async fn load_epoch(store: &Store) -> Result<Option<Stored<Epoch>>, RangeError> {
    load(store, keys::PLAN_EPOCH).await
}

/// The write that sets the epoch of the last plan.
pub fn put_epoch(epoch: Epoch) -> Write {
    put(keys::PLAN_EPOCH.to_string(), &epoch)
}

/// The write that sets a run: one that has ended goes where ended ones are.
pub fn put_run(run: &Run) -> Write {
    let (app, number) = (&run.id.app, run.id.number);
    let key = match run.has_ended() {
        true => keys::ran(app, number),
        false => keys::run(app, number),
    };
    put(key, run)
}

/// Reads a token by its public part.
pub async fn load_token(store: &Store, id: &str) -> Result<Option<Stored<Token>>, RangeError> {
    load(store, &keys::token(id)).await
}

/// Reads every token.
pub async fn list_tokens(store: &Store) -> Result<(Revision, Vec<Stored<Token>>), RangeError> {
    list(store, keys::TOKENS).await
}

/// The write that sets a token.
pub fn put_token(token: &Token) -> Write {
    put(keys::token(&token.id), token)
}

#[cfg(test)]
mod tests {
    use gilliam_model::{name::NodeName, placement::SlotRange};

    use super::*;
    use crate::CommitError;

    fn app(name: &str) -> App {
        App::new(
            name.parse().expect("name"),
            "2026-11-21T09:00:00Z".parse().expect("time"),
        )
    }

    #[tokio::test]
    async fn a_record_is_read_as_it_was_written_and_guards_its_change() {
        let store = Store::memory();
        let writes = [
            put_app(&app("hello")),
            put_app(&app("guestbook")),
            put_epoch(Epoch(7)),
        ];
        let revision = store.commit(&[], &writes).await.expect("commit");
        let (read_at, apps) = list_apps(&store).await.expect("list");
        assert_eq!(read_at, revision);
        assert_eq!(
            apps.iter().map(|a| a.value.name.as_str()).collect::<Vec<_>>(),
            ["guestbook", "hello"]
        );
        assert_eq!(
            load_epoch(&store).await.expect("load").expect("there").value,
            Epoch(7)
        );

        let hello = load_app(&store, &apps[1].value.name)
            .await
            .expect("load")
            .expect("there");
        assert_eq!(hello.value, app("hello"));
        store
            .commit(&[hello.unchanged()], &[put_app(&app("hello"))])
            .await
            .expect("commit");
        let late = store
            .commit(&[hello.unchanged()], &[delete(hello.key.clone())])
            .await;
        assert_eq!(
            late,
            Err(CommitError::Conflict {
                key: "/apps/hello".into()
            })
        );
        assert_eq!(load_app(&store, &app("hell").name).await.expect("load"), None);
    }

    #[tokio::test]
    async fn a_record_that_is_none_is_named() {
        let store = Store::memory();
        let bad = Write::Put {
            key: "/apps/hello".into(),
            value: b"{\"name\":\"..\"}".to_vec(),
        };
        store.commit(&[], &[bad]).await.expect("commit");
        let error = list_apps(&store).await.expect_err("not an app");
        assert!(
            error
                .to_string()
                .starts_with("the stored value of /apps/hello is damaged: app name"),
            "{error}"
        );
    }

    #[test]
    fn a_placement_without_slots_is_removed() {
        let node: NodeName = "a".parse().expect("name");
        let ranges = vec![SlotRange {
            first: 1,
            last: 2,
            epoch: Epoch(1),
        }];
        let process = "web".parse().expect("name");
        let app = "hello".parse().expect("name");
        let mut placement = Placement {
            app,
            release: ReleaseId::FIRST,
            process,
            node,
            ranges,
            leaving: Vec::new(),
        };
        assert!(matches!(put_placement(&placement), Write::Put { .. }));
        placement.ranges.clear();
        let key = "/placements/hello/0000000001/web/a".to_string();
        assert_eq!(put_placement(&placement), Write::Delete { key });
    }
}
