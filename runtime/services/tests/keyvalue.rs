//! Key-value services as their users see them.

use gilliam_model::{
    Timestamp,
    service::{BoundService, Service, ServiceId, ServiceKind, ServiceOption},
};
use gilliam_services::{
    Handle, Services,
    keyvalue::{BATCH_MAX, KEY_BYTES_MAX, KeyValue, KeyValueError, Ttl, VALUE_BYTES_MAX, When, Written},
};

fn id(app: &str, name: &str) -> ServiceId {
    ServiceId {
        app: app.parse().expect("app"),
        name: name.parse().expect("name"),
        made_at: Timestamp::UNIX_EPOCH,
    }
}

fn keyvalue(services: &Services, app: &str, service: &Service) -> KeyValue {
    match services.handle(&id(app, "cache"), service) {
        Handle::Keyvalue(keyvalue) => keyvalue,
        other => panic!("{other:?}"),
    }
}

struct Env {
    folder: tempfile::TempDir,
    services: Services,
}

fn env() -> Env {
    let folder = tempfile::tempdir().expect("folder");
    let services = Services::open(folder.path()).expect("services");
    Env { folder, services }
}

fn plain() -> Service {
    Service::new(ServiceKind::Keyvalue)
}

async fn text(cache: &KeyValue, key: &str) -> Option<String> {
    let value = cache.get(key).await.expect("get")?;
    Some(String::from_utf8(value.bytes).expect("text"))
}

async fn set(cache: &KeyValue, key: &str, value: &str) -> Written {
    let set = cache.set(key, value.into(), Ttl::Default, When::Always);
    set.await.expect("set")
}

#[tokio::test]
async fn what_was_set_is_read_by_every_handle_and_by_the_next_life() {
    let env = env();
    let cache = keyvalue(&env.services, "shop", &plain());
    assert_eq!(text(&cache, "a").await, None);
    set(&cache, "a", "1").await;
    set(&cache, "a", "2").await;
    let other = keyvalue(&env.services, "shop", &plain());
    assert_eq!(text(&other, "a").await.as_deref(), Some("2"));
    assert_eq!(cache.delete("a", When::Always).await, Ok(Written::Done(0)));
    assert_eq!(text(&other, "a").await, None);
    set(&cache, "b", "3").await;
    drop((cache, other));
    let Env { folder, services } = env;
    drop(services);
    let services = reopened(&folder);
    let cache = keyvalue(&services, "shop", &plain());
    assert_eq!(until_text(&cache, "b").await.as_deref(), Some("3"));
}

fn reopened(folder: &tempfile::TempDir) -> Services {
    Services::open(folder.path()).expect("services")
}

/// The value, once the threads of an earlier life have let go of the file.
async fn until_text(cache: &KeyValue, key: &str) -> Option<String> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match cache.get(key).await {
            Ok(value) => return value.map(|value| String::from_utf8(value.bytes).expect("text")),
            Err(error) if std::time::Instant::now() > deadline => panic!("{error}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn services_of_two_apps_share_nothing() {
    let env = env();
    let (one, two) = (
        keyvalue(&env.services, "one", &plain()),
        keyvalue(&env.services, "two", &plain()),
    );
    set(&one, "a", "mine").await;
    assert_eq!(text(&two, "a").await, None);
    let bound = env.services.bind(&[BoundService {
        name: "kv".parse().expect("name"),
        id: id("one", "cache"),
        service: plain(),
    }]);
    assert!(
        bound.get("cache").is_none(),
        "it is called by the name of the binding"
    );
    let Some(Handle::Keyvalue(kv)) = bound.get("kv") else {
        panic!("{bound:?}")
    };
    assert_eq!(text(kv, "a").await.as_deref(), Some("mine"));
}

#[tokio::test]
async fn a_write_that_depends_on_a_version_is_done_only_when_it_is_there() {
    let env = env();
    let cache = keyvalue(&env.services, "shop", &plain());
    let write = |value: &str, when| cache.set("a", value.into(), Ttl::Default, when);
    assert_eq!(write("0", When::Present).await, Ok(Written::Unmet(None)));
    let Ok(Written::Done(first)) = write("1", When::Absent).await else {
        panic!("nothing was there")
    };
    assert_eq!(write("2", When::Absent).await, Ok(Written::Unmet(Some(first))));
    let Ok(Written::Done(second)) = write("2", When::Version(first)).await else {
        panic!("it was there")
    };
    assert_eq!(
        write("3", When::Version(first)).await,
        Ok(Written::Unmet(Some(second)))
    );
    assert_eq!(
        cache.delete("a", When::Version(first)).await,
        Ok(Written::Unmet(Some(second)))
    );
    assert_eq!(
        cache.delete("a", When::Version(second)).await,
        Ok(Written::Done(0))
    );
    let Ok(Written::Done(third)) = write("4", When::Absent).await else {
        panic!("nothing was there")
    };
    assert!(third > second, "no version is given out twice");
}

#[tokio::test]
async fn one_of_many_that_swap_at_once_wins() {
    let env = env();
    let cache = keyvalue(&env.services, "shop", &plain());
    set(&cache, "a", "0").await;
    let version = cache.get("a").await.expect("get").expect("there").version;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        let cache = cache.clone();
        tasks.spawn(async move {
            cache
                .set("a", n.to_string().into(), Ttl::Default, When::Version(version))
                .await
        });
    }
    let written = tasks.join_all().await;
    let won = written.iter().filter(|w| matches!(w, Ok(Written::Done(_))));
    assert_eq!(won.count(), 1);
}

#[tokio::test]
async fn numbers_are_counted_by_many_at_once() {
    let env = env();
    let cache = keyvalue(&env.services, "shop", &plain());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let cache = cache.clone();
        tasks.spawn(async move { cache.increment("hits", 2).await });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(cache.increment("hits", -1).await, Ok(999));
    assert_eq!(text(&cache, "hits").await.as_deref(), Some("999"));
    set(&cache, "name", "ada").await;
    let error = cache.increment("name", 1).await.expect_err("no number");
    assert_eq!(error, KeyValueError::NotANumber { key: "name".into() });
    set(&cache, "most", &i64::MAX.to_string()).await;
    let error = cache.increment("most", 1).await.expect_err("too much");
    assert!(matches!(error, KeyValueError::Overflow { .. }), "{error}");
}

#[tokio::test]
async fn what_has_expired_is_gone_and_its_room_is_free() {
    let env = env();
    let mut service = plain();
    service.set(ServiceOption::Ttl, 1_000).expect("a second");
    service.set(ServiceOption::Quota, 1 << 20).expect("a mebibyte");
    let cache = keyvalue(&env.services, "shop", &service);
    let large = vec![7; 900 << 10];
    cache
        .set("short", large.clone(), Ttl::Millis(1), When::Always)
        .await
        .expect("set");
    set(&cache, "default", "x").await;
    cache
        .set("ever", b"y".to_vec(), Ttl::Ever, When::Always)
        .await
        .expect("set");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while text(&cache, "default").await.is_some() {
        assert!(std::time::Instant::now() < deadline, "it expires within a second");
        tokio::task::yield_now().await;
    }
    assert_eq!(text(&cache, "short").await, None);
    assert_eq!(text(&cache, "ever").await.as_deref(), Some("y"));
    let page = cache.list("", None, 10).await.expect("list");
    assert_eq!(page.keys, ["ever"]);
    cache
        .set("other", large, Ttl::Ever, When::Absent)
        .await
        .expect("what has expired gives way");
    assert_eq!(cache.usage().await.expect("usage").keys, 2);
    let got = cache.get("ever").await.expect("get").expect("there");
    assert_eq!(got.expires, None);
}

#[tokio::test]
async fn a_quota_is_kept_and_what_is_smaller_than_before_is_let_through() {
    let env = env();
    let mut service = plain();
    service.set(ServiceOption::Quota, 1 << 20).expect("a mebibyte");
    let cache = keyvalue(&env.services, "shop", &service);
    let write =
        |key: &'static str, kib: usize| cache.set(key, vec![1; kib << 10], Ttl::Default, When::Always);
    write("a", 600).await.expect("fits");
    let error = write("b", 600).await.expect_err("too much");
    assert!(matches!(error, KeyValueError::Quota { .. }), "{error}");
    assert_eq!(error.code().as_str(), "S20");
    let pairs = vec![
        ("b".to_string(), vec![1; 300 << 10]),
        ("c".to_string(), vec![1; 300 << 10]),
    ];
    let error = cache
        .set_many(pairs, Ttl::Default)
        .await
        .expect_err("too much together");
    assert!(matches!(error, KeyValueError::Quota { .. }), "{error}");
    assert!(
        cache.get("b").await.expect("get").is_none(),
        "nothing of it was done"
    );
    write("a", 1_000).await.expect("in place of what was there");
    service.set(ServiceOption::Quota, 2 << 20).expect("two");
    let cache = keyvalue(&env.services, "shop", &service);
    cache
        .set("b", vec![1; 600 << 10], Ttl::Default, When::Always)
        .await
        .expect("the quota was raised");
    let usage = cache.usage().await.expect("usage");
    assert_eq!(usage.keys, 2);
    assert!(
        usage.bytes > 1_600 << 10 && usage.bytes < 1_601 << 10,
        "{usage:?}"
    );
}

#[tokio::test]
async fn keys_are_listed_in_pages() {
    let env = env();
    let cache = keyvalue(&env.services, "shop", &plain());
    let pairs = (0..25).map(|n| (format!("user:{n:02}"), vec![1]));
    let pairs = pairs
        .chain([("a".into(), vec![]), ("z".into(), vec![])])
        .collect();
    cache.set_many(pairs, Ttl::Default).await.expect("set");
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = cache.list("user:", after.as_deref(), 10).await.expect("list");
        found.extend(page.keys);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let want: Vec<String> = (0..25).map(|n| format!("user:{n:02}")).collect();
    assert_eq!((found, pages), (want, 3));
    let keys = vec!["z".to_string(), "none".to_string(), "user:03".to_string()];
    let values = cache.get_many(keys).await.expect("get");
    let found: Vec<bool> = values.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true]);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let env = env();
    let cache = keyvalue(&env.services, "shop", &plain());
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    assert_eq!(cache.get("").await, Err(KeyValueError::NoKey));
    assert_eq!(
        cache.get(&long).await,
        Err(KeyValueError::LongKey {
            bytes: KEY_BYTES_MAX + 1
        })
    );
    let large = vec![0; VALUE_BYTES_MAX + 1];
    let error = cache.set("a", large, Ttl::Default, When::Always).await;
    assert!(
        matches!(error, Err(KeyValueError::LargeValue { .. })),
        "{error:?}"
    );
    let many = vec!["a".to_string(); BATCH_MAX + 1];
    let error = cache.delete_many(many).await;
    assert!(matches!(error, Err(KeyValueError::ManyKeys { .. })), "{error:?}");
    let value = vec![0; VALUE_BYTES_MAX];
    for key in ["a", "b", "c"] {
        cache
            .set(key, value.clone(), Ttl::Default, When::Always)
            .await
            .expect("the largest value");
    }
    let keys = ["a", "b", "c"].map(str::to_string).to_vec();
    let error = cache.get_many(keys).await;
    assert!(
        matches!(error, Err(KeyValueError::LargeBatch { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_destroyed_service_leaves_nothing_and_its_handles_find_it_empty() {
    let env = env();
    let cache = keyvalue(&env.services, "shop", &plain());
    set(&cache, "a", "1").await;
    env.services
        .destroy(&id("shop", "cache"))
        .await
        .expect("destroyed");
    let left = std::fs::read_dir(env.folder.path().join("services/shop")).expect("folder");
    assert_eq!(left.count(), 0);
    env.services
        .destroy(&id("shop", "cache"))
        .await
        .expect("and again");
    assert_eq!(text(&cache, "a").await, None);
}
