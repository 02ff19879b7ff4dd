//! Images in a folder or a bucket that several control planes share: what holds on the one holds on the other.

mod harness;
#[path = "harness/s3.rs"]
mod s3;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use gilliam_model::{api::DeployEvent, digest::Digest};
use gilliam_scheduler::{Blobs, BlobsError, BlobsPlace};
use gilliam_store::Store;
use harness::{Answer, Plane, Start, read};
use reqwest::Method;
use s3::S3;
use tempfile::TempDir;

/// The component that the harness's build seals.
const COMPONENT: &str = "a component";

/// A place of blobs, of either kind.
struct Place {
    root: TempDir,
    s3: Option<S3>,
}

impl Place {
    async fn folder() -> Self {
        let root = tempfile::tempdir().expect("folder");
        Self { root, s3: None }
    }

    async fn bucket() -> Self {
        let root = tempfile::tempdir().expect("folder");
        let s3 = Some(S3::start(root.path()).await);
        Self { root, s3 }
    }

    async fn both() -> [Self; 2] {
        [Self::folder().await, Self::bucket().await]
    }

    fn place(&self) -> BlobsPlace {
        match &self.s3 {
            Some(s3) => s3.place(),
            None => BlobsPlace::Folder(self.root.path().join("shared")),
        }
    }

    /// Where its objects are.
    fn files(&self) -> PathBuf {
        match &self.s3 {
            Some(s3) => s3.folder().join("production"),
            None => self.root.path().join("shared"),
        }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.files().join("blobs/sha256").join(digest.hex())
    }

    async fn open(&self, store: &Store, data: &Path) -> Result<Blobs, BlobsError> {
        Blobs::of(store, &self.place(), data, false).await
    }
}

async fn plane(place: &Place, store: &Store, data: &Path) -> Plane {
    let blobs = place.open(store, data).await.expect("blobs");
    let start = Start {
        data,
        store: store.clone(),
        lost_after: Duration::from_secs(10),
    };
    harness::start_with(start, Some(blobs)).await
}

fn digest_of(text: &str) -> Digest {
    use sha2::{Digest as _, Sha256};
    Digest::from_sha256(Sha256::digest(text).into())
}

/// Two control planes on one store and one place of images, and `hello`, which the first has released.
struct Pair {
    one: Plane,
    two: Plane,
    /// Their own folders.
    data: [TempDir; 2],
}

impl Pair {
    async fn deployed(place: &Place) -> Self {
        let (store, data) = (Store::memory(), [folder(), folder()]);
        let one = plane(place, &store, data[0].path()).await;
        let two = plane(place, &store, data[1].path()).await;
        one.create("hello").await;
        one.deploy("hello", "image web").await;
        Self { one, two, data }
    }
}

async fn fetch(plane: &Plane, digest: &Digest) -> Answer {
    let path = format!("/v1/blobs/{digest}");
    read(plane.send(Method::GET, &path, &plane.node, None).await).await
}

async fn refused(plane: &Plane, app: &str) -> Answer {
    let path = format!("/v1/apps/{app}/deploy");
    read(
        plane
            .send(Method::POST, &path, &plane.admin, Some("image web"))
            .await,
    )
    .await
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("folder")
}

#[tokio::test]
async fn every_control_plane_serves_what_any_of_them_released() {
    for place in Place::both().await {
        let Pair { one, two, data } = Pair::deployed(&place).await;
        for plane in [&one, &two] {
            let blob = fetch(plane, &digest_of(COMPONENT)).await.ok();
            assert_eq!(blob.text, COMPONENT);
            // As the command line reads it, for `gilliam inspect`.
            let component = plane.get("/v1/apps/hello/components/web").await.ok();
            assert_eq!(component.text, COMPONENT);
        }
        // What is there already is not written again, and released all the same.
        let before = fs::metadata(place.blob(&digest_of(COMPONENT)))
            .expect("blob")
            .modified();
        let again = two.deploy("hello", "image web").await;
        assert_eq!(again.id.to_string(), "v2");
        let after = fs::metadata(place.blob(&digest_of(COMPONENT)))
            .expect("blob")
            .modified();
        assert_eq!(before.expect("time"), after.expect("time"));
        // Nothing of a build stays on the machine that made it.
        let left = fs::read_dir(data[0].path().join("tmp")).expect("tmp").count();
        assert_eq!(left, 0);
    }
}

#[tokio::test]
async fn lanes_are_probed_by_a_control_plane_that_did_not_build() {
    for place in Place::both().await {
        let pair = Pair::deployed(&place).await;
        let change = serde_json::json!({ "process": "web", "set": { "reuse_max": 100 } });
        let body = serde_json::json!({ "change": change, "migrate": true });
        pair.two.patch("/v1/apps/hello/limits", body).await.ok();
    }
}

#[tokio::test]
async fn a_damaged_blob_is_mended_by_the_next_deploy_and_a_missing_one_is_named() {
    for place in Place::both().await {
        let (store, data) = (Store::memory(), folder());
        let one = plane(&place, &store, data.path()).await;
        one.create("hello").await;
        one.deploy("hello", "image web").await;
        let digest = digest_of(COMPONENT);
        fs::write(place.blob(&digest), "a compOnent").expect("damage");
        one.deploy("hello", "image web").await;
        assert_eq!(fs::read_to_string(place.blob(&digest)).expect("blob"), COMPONENT);
        let absent = digest_of("never sealed");
        fetch(&one, &absent)
            .await
            .refused(404, "A404", &absent.to_string());
    }
}

#[tokio::test]
async fn what_was_cut_off_is_no_blob_and_nothing_is_released() {
    for place in Place::both().await {
        let (store, data) = (Store::memory(), folder());
        let one = plane(&place, &store, data.path()).await;
        one.create("hello").await;
        match &place.s3 {
            Some(s3) => s3.conduct.is_read_only.store(true, SeqCst),
            // A file in the place of the folder: nothing can be written below it.
            None => fs::write(place.files().join("blobs"), "").expect("file"),
        }
        let events = one.deploy_events("hello", "image web", "").await;
        let Some(DeployEvent::Failed { error }) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!(error.code.as_str(), "S13", "{error:?}");
        assert!(
            error
                .hint
                .as_deref()
                .is_some_and(|hint| hint.contains("try again")),
            "{error:?}"
        );
        assert!(!place.blob(&digest_of(COMPONENT)).exists());
        let releases = one.get("/v1/apps/hello/releases").await.ok();
        assert_eq!(releases.text, "[]");
        match &place.s3 {
            Some(s3) => s3.conduct.is_read_only.store(false, SeqCst),
            None => fs::remove_file(place.files().join("blobs")).expect("file"),
        }
        assert_eq!(one.deploy("hello", "image web").await.id.to_string(), "v1");
    }
}

#[tokio::test]
async fn a_large_component_goes_in_parts_and_is_there_whole_or_not_at_all() {
    for place in Place::both().await {
        let (store, data) = (Store::memory(), [folder(), folder()]);
        let one = plane(&place, &store, data[0].path()).await;
        one.create("hello").await;
        let content = "x".repeat(20_000_000);
        let digest = digest_of(&content);
        if let Some(s3) = &place.s3 {
            s3.conduct.takes_first_parts.store(true, SeqCst);
            let events = one.deploy_events("hello", "large web", "").await;
            let Some(DeployEvent::Failed { error }) = events.last() else {
                panic!("{events:?}");
            };
            assert_eq!(error.code.as_str(), "S13", "{error:?}");
            assert!(!place.blob(&digest).exists(), "what arrived of it is no blob");
            s3.conduct.takes_first_parts.store(false, SeqCst);
        }
        one.deploy("hello", "large web").await;
        assert!(fs::read_to_string(place.blob(&digest)).expect("blob") == content);
        let two = plane(&place, &store, data[1].path()).await;
        assert!(fetch(&two, &digest).await.ok().text == content);
    }
}

#[tokio::test]
async fn while_the_place_is_away_deploys_are_refused_and_nodes_are_told_to_ask_elsewhere() {
    for place in Place::both().await {
        let (store, data) = (Store::memory(), folder());
        let one = plane(&place, &store, data.path()).await;
        one.create("hello").await;
        let away = place.root.path().join("away");
        let begin = || match &place.s3 {
            Some(s3) => s3.conduct.is_out.store(true, SeqCst),
            None => fs::rename(place.files(), &away).expect("unmounted"),
        };
        begin();
        if place.s3.is_none() {
            // A mount point without its disk.
            fs::create_dir(place.files()).expect("folder");
        }
        refused(&one, "hello").await.refused(503, "S13", "images");
        fetch(&one, &digest_of(COMPONENT))
            .await
            .refused(503, "S13", "images");
        // All else goes on.
        one.create("other").await;
        one.get("/v1/apps").await.ok();
        match &place.s3 {
            Some(s3) => s3.conduct.is_out.store(false, SeqCst),
            None => {
                fs::remove_dir(place.files()).expect("empty");
                fs::rename(&away, place.files()).expect("mounted");
            }
        }
        one.deploy("hello", "image web").await;
    }
}

#[tokio::test]
async fn a_control_plane_with_a_place_of_its_own_does_not_join_others() {
    for (place, other) in Place::both().await.into_iter().zip(Place::both().await) {
        let (store, data) = (Store::memory(), folder());
        place.open(&store, data.path()).await.expect("the first");
        place.open(&store, data.path()).await.expect("again");
        let empty = other.open(&store, data.path()).await.expect_err("another");
        assert!(
            matches!(empty, BlobsError::Other { is_empty: true, .. }),
            "{empty}"
        );
        assert!(
            empty
                .hint()
                .is_some_and(|hint| hint.contains("--blobs") && hint.contains("--adopt-blobs"))
        );
        // Nothing was left there: another cluster may still begin in it.
        other
            .open(&Store::memory(), data.path())
            .await
            .expect("of another cluster");
        let taken = other.open(&store, data.path()).await.expect_err("another's");
        assert!(
            matches!(taken, BlobsError::Other { is_empty: false, .. }),
            "{taken}"
        );
        let adopted = Blobs::of(&store, &other.place(), data.path(), true).await;
        adopted.expect("asked for");
        let left = place.open(&store, data.path()).await.expect_err("not any more");
        assert!(matches!(left, BlobsError::Other { .. }), "{left}");
    }
}

#[tokio::test]
async fn of_many_that_begin_at_once_all_agree_on_one_place() {
    for place in Place::both().await {
        let (store, data) = (Store::memory(), [folder(), folder(), folder(), folder()]);
        let opened = data.iter().map(|data| place.open(&store, data.path()));
        for opened in futures::future::join_all(opened).await {
            opened.expect("the same place");
        }
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_named_at_start() {
    let place = Place::bucket().await;
    let s3 = place.s3.as_ref().expect("a bucket");
    let (store, data) = (Store::memory(), folder());
    let open = async |place: BlobsPlace| Blobs::of(&store, &place, data.path(), false).await;
    let wrong_key = open(s3.place_with("s3://images/production", "another")).await;
    let error = wrong_key.expect_err("a wrong secret");
    assert!(matches!(error, BlobsError::Refused { .. }), "{error}");
    let absent = open(s3.place_with("s3://absent/x", "a secret of the test")).await;
    let error = absent.expect_err("no such bucket");
    assert!(matches!(error, BlobsError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("s3://absent/x"), "{error}");
    s3.conduct.is_read_only.store(true, SeqCst);
    let error = open(s3.place()).await.expect_err("nothing may be written");
    assert!(error.hint().is_some(), "{error}");
    s3.conduct.is_read_only.store(false, SeqCst);
    open(s3.place()).await.expect("as it should be");
    // A cluster whose place is away for a while starts all the same.
    s3.conduct.is_out.store(true, SeqCst);
    open(s3.place()).await.expect("known from before");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named_at_start() {
    let (store, data) = (Store::memory(), folder());
    let file = data.path().join("file");
    fs::write(&file, "").expect("file");
    for path in [file.clone(), file.join("below")] {
        let place = BlobsPlace::Folder(path.clone());
        let error = Blobs::of(&store, &place, data.path(), false)
            .await
            .expect_err("no folder");
        assert!(matches!(error, BlobsError::Folder { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn readers_beyond_the_limit_are_told_to_come_back() {
    let (store, data) = (Store::memory(), folder());
    let start = Start {
        data: data.path(),
        store,
        lost_after: Duration::from_secs(10),
    };
    let one = harness::start_as(start, |config| config.blob_streams_max = 2).await;
    // Far more than sockets hold, so that who does not read keeps its place.
    let large = "x".repeat(64 << 20);
    let digest = digest_of(&large);
    let blobs = data.path().join("images/blobs/sha256");
    fs::create_dir_all(&blobs).expect("folder");
    fs::write(blobs.join(digest.hex()), &large).expect("blob");
    let path = format!("/v1/blobs/{digest}");
    let ask = async || one.send(Method::GET, &path, &one.node, None).await;
    let (first, second) = (ask().await, ask().await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let third = ask().await;
    assert_eq!(third.headers()["retry-after"], "1");
    read(third).await.refused(429, "A429", "blobs");
    drop(first);
    assert_eq!(second.bytes().await.expect("whole").len(), large.len());
    let deadline = tokio::time::Instant::now() + harness::DEADLINE;
    while ask().await.status() != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the place is free again");
    }
}

#[tokio::test]
async fn a_crowd_of_nodes_reads_the_bucket_once() {
    let place = Place::bucket().await;
    let s3 = place.s3.as_ref().expect("a bucket");
    let (store, data) = (Store::memory(), [folder(), folder()]);
    let one = plane(&place, &store, data[0].path()).await;
    one.create("hello").await;
    one.deploy("hello", "image web").await;
    let two = plane(&place, &store, data[1].path()).await;
    let before = s3.conduct.reads.load(SeqCst);
    let digest = digest_of(COMPONENT);
    let fetches = (0..60).map(async |_| {
        loop {
            // As nodes do, whoever is told to comes back.
            let answer = fetch(&two, &digest).await;
            if answer.status != 429 {
                return answer;
            }
        }
    });
    for answer in futures::future::join_all(fetches).await {
        assert_eq!(answer.ok().text, COMPONENT);
    }
    assert_eq!(s3.conduct.reads.load(SeqCst) - before, 1);
    // Its builder has it already.
    fetch(&one, &digest).await.ok();
    assert_eq!(s3.conduct.reads.load(SeqCst) - before, 1);
    // What decayed in the cache is found after a restart, and read again.
    two.stop().await;
    fs::write(data[1].path().join("cache").join(digest.hex()), "a compOnent").expect("damage");
    let two = plane(&place, &store, data[1].path()).await;
    assert_eq!(fetch(&two, &digest).await.ok().text, COMPONENT);
    assert_eq!(s3.conduct.reads.load(SeqCst) - before, 2);
}
