//! Which place of blobs a cluster has: a random id that is in the place and in the store.
//!
//! Control planes on one store with a place of their own each would release what only one of them can give to nodes.
//! So the first one notes the id of its place in the store, and one whose place has another does not start.
//!
//! Invariant: what is noted is never replaced unless the operator asks for it.

use std::time::Duration;

use gilliam_store::{Check, CommitError, Store, keys, records, records::Stored};
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use super::{Blobs, BlobsError, error::failed};

/// The object that holds the id.
const NAME: &str = "gilliam-blobs.json";
/// What is written at each start: whoever may not write learns it then.
const PROBE: &str = "gilliam-probe";
/// Bytes of randomness in an id: enough that no two are alike.
const ID_BYTES: usize = 16;
/// Times that others may be faster, or that things are looked at again.
const ROUNDS_MAX: usize = 16;
/// Another id than the noted one may be there for a moment, when several control planes are the first at once.
const LOOKS_MAX: usize = 5;
const LOOK_WAIT: Duration = Duration::from_millis(200);

/// The content of the object, and of the record in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    id: String,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The place is the cluster's.
    Fits,
    /// The store is to say that this place is the cluster's.
    Note,
    /// The place is to get an id.
    Make,
    /// The cluster's place is another.
    Refuse,
}

fn step(noted: Option<&Identity>, found: Option<&Identity>, adopts: bool) -> Step {
    match (noted, found) {
        (None, None) => Step::Make,
        (Some(_), None) if adopts => Step::Make,
        (None, Some(_)) => Step::Note,
        (Some(noted), Some(found)) if noted == found => Step::Fits,
        (Some(_), Some(_)) if adopts => Step::Note,
        (Some(_), _) => Step::Refuse,
    }
}

impl Blobs {
    /// Makes sure that blobs can be written and read here, and that this is the place of the cluster whose state is
    /// in `store`; of one that has none it becomes the place.
    pub(super) async fn establish(&self, store: &Store, adopts: bool) -> Result<Identity, BlobsError> {
        let mut made = None;
        let mut looks = 0;
        for _ in 0..ROUNDS_MAX {
            let noted = records::load::<Identity>(store, keys::BLOBS).await?;
            let found = self.identity().await?;
            match step(noted.as_ref().map(|noted| &noted.value), found.as_ref(), adopts) {
                Step::Fits => {
                    self.try_to_write().await?;
                    return Ok(found.expect("it fits"));
                }
                Step::Make => made = Some(self.make_identity().await?),
                Step::Note => {
                    let found = found.expect("it is noted");
                    note(store, noted, &found).await?;
                }
                Step::Refuse if found.is_some() && found == made => {
                    // It replaced another's that was made at the same moment: not every bucket keeps them apart.
                    let noted = noted.expect("else there is nothing to refuse").value;
                    self.write_identity(&noted, PutMode::Overwrite).await?;
                }
                Step::Refuse if found.is_some() && looks < LOOKS_MAX => {
                    looks += 1;
                    tokio::time::sleep(LOOK_WAIT).await;
                }
                Step::Refuse => {
                    return Err(BlobsError::Other {
                        place: self.place().to_owned(),
                        is_empty: found.is_none(),
                    });
                }
            }
        }
        Err(self.unavailable("others change it all the time"))
    }

    /// The id of this place; none when it has none yet.
    pub(super) async fn identity(&self) -> Result<Option<Identity>, BlobsError> {
        let objects = self.objects();
        let read = async { objects.store.get(&objects.named(NAME)).await?.bytes().await };
        match read.await {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(identity) => Ok(Some(identity)),
                Err(error) => Err(BlobsError::Settings {
                    reason: format!("{NAME} in {} is not as gilliam writes it: {error}", self.place()),
                }),
            },
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(self.place(), error)),
        }
    }

    /// Gives the place an id, unless another control plane does at this moment.
    async fn make_identity(&self) -> Result<Identity, BlobsError> {
        let mut random = [0; ID_BYTES];
        getrandom::fill(&mut random).map_err(|error| BlobsError::Settings {
            reason: format!("the system gives no random numbers: {error}"),
        })?;
        let id = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let identity = Identity { id };
        self.write_identity(&identity, PutMode::Create).await?;
        Ok(identity)
    }

    async fn write_identity(&self, identity: &Identity, mode: PutMode) -> Result<(), BlobsError> {
        let text = serde_json::to_vec(identity).expect("a text serialises");
        let objects = self.objects();
        let path = objects.named(NAME);
        let written = objects.store.put_opts(&path, PutPayload::from(text), mode.into());
        match written.await {
            Ok(_)
            | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(())
            }
            Err(error) => Err(failed(self.place(), error)),
        }
    }

    async fn try_to_write(&self) -> Result<(), BlobsError> {
        let objects = self.objects();
        let path = objects.named(PROBE);
        let written = objects
            .store
            .put(&path, PutPayload::from_static(b"gilliam writes here\n"));
        written
            .await
            .map(drop)
            .map_err(|error| failed(self.place(), error))
    }
}

/// Has the store say that the place with the id `found` is the cluster's, unless another was faster.
async fn note(store: &Store, noted: Option<Stored<Identity>>, found: &Identity) -> Result<(), BlobsError> {
    let check = match &noted {
        Some(noted) => noted.unchanged(),
        None => Check::absent(keys::BLOBS),
    };
    let write = records::put(keys::BLOBS.to_owned(), found);
    match store.commit(&[check], &[write]).await {
        Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_when_there_is_none_and_never_replaced_unasked() {
        let id = |id: &str| Some(Identity { id: id.to_owned() });
        let (a, b) = (id("a"), id("b"));
        for (noted, found, adopts, want) in [
            (&None, &None, false, Step::Make),
            (&None, &a, false, Step::Note),
            (&a, &a, false, Step::Fits),
            (&a, &b, false, Step::Refuse),
            (&a, &None, false, Step::Refuse),
            (&a, &b, true, Step::Note),
            (&a, &None, true, Step::Make),
            (&a, &a, true, Step::Fits),
        ] {
            assert_eq!(
                step(noted.as_ref(), found.as_ref(), adopts),
                want,
                "{noted:?} {found:?} {adopts}"
            );
        }
    }
}
