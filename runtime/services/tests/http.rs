//! Services by HTTP.

use bytes::Bytes;
use gilliam_model::{
    Timestamp,
    service::{Service, ServiceId, ServiceKind},
};
use gilliam_services::{Handle, Services, http};
use http_body_util::BodyExt as _;

struct Env {
    _folder: tempfile::TempDir,
    _services: Services,
    cache: Handle,
}

/// Status, `ETag`, body.
type Answer = (u16, String, String);

fn env() -> Env {
    let folder = tempfile::tempdir().expect("folder");
    let services = Services::open(folder.path()).expect("services");
    let id = ServiceId {
        app: "shop".parse().expect("app"),
        name: "cache".parse().expect("name"),
        made_at: Timestamp::UNIX_EPOCH,
    };
    let cache = services.handle(&id, &Service::new(ServiceKind::Keyvalue));
    Env {
        _folder: folder,
        _services: services,
        cache,
    }
}

impl Env {
    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let (method, target) = line.split_once(' ').expect("METHOD TARGET");
        let mut request = ::http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(http::whole(Bytes::copy_from_slice(body)))
            .expect("request");
        let response = http::answer(self.cache.clone(), request).await;
        let tag = response
            .headers()
            .get("etag")
            .map(|tag| tag.to_str().expect("text"));
        let (status, tag) = (response.status().as_u16(), tag.unwrap_or("").to_string());
        let body = response.into_body().collect().await.expect("body").to_bytes();
        (status, tag, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[track_caller]
    fn refused(answer: &Answer, status: u16, says: &str) {
        assert_eq!(answer.0, status, "{answer:?}");
        assert!(answer.2.contains(says), "{answer:?}");
    }
}

#[tokio::test]
async fn a_key_is_put_read_and_deleted() {
    let env = env();
    let none = env.ask("GET /user%3A1", &[], b"").await;
    Env::refused(&none, 404, "there is no key \\\"user:1\\\"");
    let (status, tag, _) = env.ask("PUT /user%3A1?ttl=60s", &[], b"ada").await;
    assert_eq!(status, 204);
    let found = env.ask("GET /user:1", &[], b"").await;
    assert_eq!(found, (200, tag, "ada".to_string()));
    assert_eq!(env.ask("DELETE /user:1", &[], b"").await.0, 204);
    assert_eq!(env.ask("DELETE /user:1", &[], b"").await.0, 204);
    assert_eq!(env.ask("GET /user:1", &[], b"").await.0, 404);
}

#[tokio::test]
async fn a_write_depends_on_what_its_headers_say() {
    let env = env();
    let only_new = [("if-none-match", "*")];
    let (status, first, _) = env.ask("PUT /a", &only_new, b"1").await;
    assert_eq!(status, 204);
    let again = env.ask("PUT /a", &only_new, b"2").await;
    Env::refused(&again, 412, "A412");
    assert_eq!(again.1, first, "the tag of what is there");
    let (status, second, _) = env.ask("PUT /a", &[("if-match", &first)], b"2").await;
    assert_eq!(status, 204);
    Env::refused(
        &env.ask("PUT /a", &[("if-match", &first)], b"3").await,
        412,
        "A412",
    );
    Env::refused(
        &env.ask("DELETE /a", &[("if-match", "\"x\"")], b"").await,
        412,
        "A412",
    );
    assert_eq!(env.ask("DELETE /a", &[("if-match", &second)], b"").await.0, 204);
    Env::refused(
        &env.ask("PUT /a", &[("if-match", "*")], b"4").await,
        412,
        "is not there",
    );
}

#[tokio::test]
async fn numbers_count_and_keys_are_listed() {
    let env = env();
    assert_eq!(env.ask("POST /n?increment=5", &[], b"").await.2, "5");
    assert_eq!(env.ask("POST /n?increment=-2", &[], b"").await.2, "3");
    assert_eq!(env.ask("POST /n", &[], b"").await.2, "4");
    for key in ["u:1", "u:2", "u:3"] {
        env.ask(&format!("PUT /{key}"), &[], b"x").await;
    }
    let (_, _, page) = env.ask("GET /?prefix=u:&limit=2", &[], b"").await;
    assert_eq!(page, r#"{"keys":["u:1","u:2"],"next":"u:2"}"#);
    let (_, _, page) = env.ask("GET /?prefix=u:&after=u:2", &[], b"").await;
    assert_eq!(page, r#"{"keys":["u:3"],"next":null}"#);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_way_out() {
    let env = env();
    for (line, status, says) in [
        ("PUT /a?ttl=soon", 400, "ttl=soon is not a time"),
        ("PUT /a?tll=60s", 400, "\\\"tll\\\" is not known here"),
        ("PATCH /a", 400, "PATCH is not a method of a key"),
        ("PUT /", 400, "PUT without a key"),
        ("GET /%ff", 400, "not UTF-8"),
        ("GET /?limit=0", 400, "limit=0 is not a number from 1 to 1000"),
        ("POST /a?increment=x", 400, "increment=x is not a whole number"),
    ] {
        Env::refused(&env.ask(line, &[], b"").await, status, says);
    }
    let large = vec![0; 5 << 20];
    Env::refused(&env.ask("PUT /a", &[], &large).await, 413, "A413");
    env.ask("PUT /name", &[], b"ada").await;
    let no_number = env.ask("POST /name?increment=1", &[], b"").await;
    Env::refused(&no_number, 422, "not a whole number of 64 bits");
    let long = "k".repeat(2_000);
    Env::refused(
        &env.ask(&format!("GET /{long}"), &[], b"").await,
        422,
        "at most 1024",
    );
}
