//! Requests through real components, 0.2 and 0.3: answers, bodies, trailers, back-pressure, usage.

mod support;

use bytes::Bytes;
use gilliam_model::{code::Code, image::Shape, limits::Limits};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use support::{Long, collect, fetch, get, guestbook, hello_p3, start, until};

#[tokio::test]
async fn a_0_2_component_answers() {
    assert_eq!(support::shape_of(&guestbook()), Shape::HttpP2);
    let (instance, _log) = start(&guestbook(), Limits::default()).await;
    for _ in 0..3 {
        let answer = fetch(&instance, "/").await.expect("answer");
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("POOL_SIZE  64"), "{}", answer.body);
    }
    assert_eq!(fetch(&instance, "/nothing").await.expect("answer").status, 404);
    assert_eq!(instance.usage().requests_total, 4);
}

#[tokio::test]
async fn a_0_3_component_answers() {
    assert_eq!(support::shape_of(&hello_p3()), Shape::HttpP3);
    let (instance, _log) = start(&hello_p3(), Limits::default()).await;
    for _ in 0..300 {
        let answer = fetch(&instance, "/").await.expect("answer");
        assert_eq!(
            (answer.status, answer.body.starts_with("hello from WASI 0.3")),
            (200, true)
        );
    }
    assert_eq!(
        fetch(&instance, "/env").await.expect("answer").body,
        "POOL_SIZE=64\n"
    );
    assert_eq!(
        fetch(&instance, "/sleep?ms=20").await.expect("answer").body,
        "slept 20 ms\n"
    );
}

#[tokio::test]
async fn nothing_of_the_host_is_seen() {
    let (instance, _log) = start(&guestbook(), Limits::default()).await;
    assert_eq!(
        fetch(&instance, "/env").await.expect("answer").body,
        "POOL_SIZE=64\n"
    );
}

#[tokio::test]
async fn a_call_may_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (instance, _log) = start(&guestbook(), Limits::default()).await;
    assert!(is_send(instance.call(get("/"))).await.is_ok());
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (instance, _log) = start(&guestbook(), Limits::default()).await;
    let request = http::Request::post("http://app.localhost/trailers").header("trailer", "x-checksum");
    let request = request
        .body(Long {
            left: 2,
            trailers: true,
        })
        .expect("request");
    let response = instance.call(request).await.expect("response");
    let whole = response.into_body().collect().await.expect("body");
    let trailers = whole.trailers().expect("trailers");
    assert_eq!(trailers["x-checksum"], "abc");
    assert_eq!(trailers["x-body-bytes"], "131072");
}

#[tokio::test]
async fn usage_is_final_and_the_same_for_the_same_input() {
    let (instance, _log) = start(&guestbook(), Limits::default()).await;
    let mut fuels = Vec::new();
    for _ in 0..5 {
        let answer = fetch(&instance, "/headers").await.expect("answer");
        let figures = answer.usage.finished().await;
        assert!(
            figures.fuel > 0 && figures.memory_bytes_peak > 64 << 10,
            "{figures:?}"
        );
        assert!(
            !figures.cpu.is_zero() && figures.wall >= figures.cpu / 2,
            "{figures:?}"
        );
        assert_eq!(answer.usage.figures(), Some(figures));
        fuels.push(figures.fuel);
    }
    fuels.dedup();
    assert_eq!(fuels.len(), 1, "{fuels:?}");
    let usage = instance.usage();
    assert!(
        usage.fuel_total >= 5 * fuels[0] && usage.cpu_ns_total > 0 && usage.in_flight == 0,
        "{usage:?}"
    );
}

#[tokio::test]
async fn requests_beyond_the_backlog_are_refused() {
    let limits = Limits {
        concurrency_max: 2,
        backlog_max: 1,
        ..Limits::default()
    };
    let (instance, _log) = start(&guestbook(), limits).await;
    let calls = (0..5).map(|_| fetch(&instance, "/sleep?ms=300"));
    let answers = futures::future::join_all(calls).await;
    let refused: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert!(refused.iter().all(|error| error.code == Code::H11), "{refused:?}");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_guest() {
    for loaded in [guestbook(), hello_p3()] {
        let limits = Limits {
            request_ms_max: 600_000,
            ..Limits::default()
        };
        let (instance, _log) = start(&loaded, limits).await;
        let gone = tokio::time::timeout(
            std::time::Duration::from_millis(50),
            instance.call(get("/sleep?ms=600000")),
        );
        assert!(gone.await.is_err());
        until("the lane ends", || instance.usage().in_flight == 0).await;

        let request = http::Request::post("http://app.localhost/echo");
        let endless = StreamBody::new(futures::stream::repeat_with(|| {
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"x")))
        }));
        let response = instance
            .call(request.body(endless).expect("request"))
            .await
            .expect("response");
        let mut body = response.into_body();
        assert!(body.frame().await.expect("frame").is_ok());
        drop(body);
        until("the lane ends", || instance.usage().in_flight == 0).await;
        assert!(fetch(&instance, "/").await.is_ok());
    }
}

#[tokio::test]
async fn draining_lets_requests_end_and_takes_no_more() {
    let (instance, _log) = start(&guestbook(), Limits::default()).await;
    let (running, ()) = tokio::join!(fetch(&instance, "/sleep?ms=100"), async {
        until("it runs", || instance.usage().in_flight == 1).await;
        instance.drain().await;
        assert_eq!(instance.usage().in_flight, 0);
    });
    assert_eq!(running.expect("answer").status, 200);
    assert_eq!(fetch(&instance, "/").await.expect_err("refused").code, Code::H14);
}

#[tokio::test]
async fn killing_ends_requests_in_progress() {
    let (instance, _log) = start(&guestbook(), Limits::default()).await;
    let (running, ()) = tokio::join!(fetch(&instance, "/sleep?ms=60000"), async {
        until("it runs", || instance.usage().in_flight == 1).await;
        instance.kill();
    });
    assert_eq!(running.expect_err("killed").code, Code::H13);
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let (instance, _log) = start(&guestbook(), Limits::default()).await;
    let request = http::Request::builder()
        .uri("/")
        .body(Full::<Bytes>::default())
        .expect("request");
    assert_eq!(instance.call(request).await.expect_err("refused").code, Code::H26);
    let request = http::Request::builder()
        .uri("/ok")
        .header("host", "app.localhost");
    let response = instance
        .call(request.body(Full::<Bytes>::default()).expect("request"))
        .await;
    assert_eq!(collect(response.expect("answer")).await.body, "ok\n");
}

#[tokio::test]
async fn requests_wait_while_the_pool_is_full() {
    let config = gilliam_engine::EnginesConfig {
        http_p2_slots: 3,
        p3_slots: 1,
        command_slots: 1_000,
        ..Default::default()
    };
    let engines = gilliam_engine::Engines::new(&config).expect("engines");
    let loaded = support::loaded_on(&engines, &support::sample("guestbook/web.wasm"));
    let (instance, mut log) = start(&loaded, Limits::default()).await;
    let answers = futures::future::join_all((0..9).map(|_| fetch(&instance, "/sleep?ms=50"))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200))
    );
    assert!(log.platform(Code::R22).await.contains("no free slot"));
}

/// An app of slow requests held every slot of the node, and all other apps waited for its deadlines.
#[tokio::test]
async fn an_app_that_takes_every_slot_leaves_other_apps_some() {
    let config = gilliam_engine::EnginesConfig {
        http_p2_slots: 6,
        p3_slots: 1,
        command_slots: 1_000,
        ..Default::default()
    };
    let engines = gilliam_engine::Engines::new(&config).expect("engines");
    let loaded = support::loaded_on(&engines, &support::sample("guestbook/web.wasm"));
    let quiet = start_app(&loaded, "quiet").await;
    assert_eq!(fetch(&quiet, "/ok").await.expect("answer").status, 200);
    let (greedy, mut log) = start(&loaded, Limits::default()).await;
    let slow = futures::future::join_all((0..20).map(|_| fetch(&greedy, "/sleep?ms=60000")));
    let others = async {
        assert!(log.platform(Code::R22).await.contains("no free slot"));
        for _ in 0..5 {
            let answer = tokio::time::timeout(std::time::Duration::from_secs(10), fetch(&quiet, "/ok"));
            assert_eq!(answer.await.expect("in time").expect("answer").status, 200);
        }
    };
    tokio::select! {
        _ = slow => panic!("the slow requests have ended"),
        () = others => {}
    }
}

async fn start_app(loaded: &gilliam_engine::Loaded, app: &str) -> gilliam_engine::HttpInstance {
    let (mut config, _log) = support::config(Limits::default());
    support::process(&mut config).app = app.into();
    gilliam_engine::HttpInstance::start(loaded, config)
        .await
        .expect("starts")
}

#[tokio::test]
async fn many_more_instances_than_slots_answer_each() {
    let config = gilliam_engine::EnginesConfig {
        http_p2_slots: 4,
        p3_slots: 2,
        ..Default::default()
    };
    let engines = gilliam_engine::Engines::new(&config).expect("engines");
    for (sample, path) in [("guestbook/web.wasm", "/ok"), ("hello-p3/web.wasm", "/")] {
        let loaded = support::loaded_on(&engines, &support::sample(sample));
        let apps: Vec<String> = (0..40).map(|app| format!("app-{app}")).collect();
        let starts = apps.iter().map(|app| start_app(&loaded, app));
        let instances = futures::future::join_all(starts).await;
        for _ in 0..3 {
            let answers = instances.iter().map(|instance| fetch(instance, path));
            for answer in futures::future::join_all(answers).await {
                assert_eq!(answer.expect("answer").status, 200, "{sample}");
            }
        }
    }
}

#[tokio::test]
async fn an_instance_without_requests_holds_no_memory() {
    let limits = Limits {
        idle_ms_max: 1,
        ..Limits::default()
    };
    let (instance, _log) = start(&hello_p3(), limits).await;
    for _ in 0..2 {
        fetch(&instance, "/").await.expect("answer");
        until("its lane is dropped", || instance.usage().memory_bytes == 0).await;
    }
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing_behind() {
    let fields = r#"
        (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration"
            (func $after (param i64) (result i32)))
        (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
        (func $boot (call $block (call $after (i64.const 3600000000000))))
        (start $boot)"#;
    let sleeper = support::loaded(&support::http_guest(fields, ""));
    let (config, log) = support::config(Limits::default());
    let start = gilliam_engine::HttpInstance::start(&sleeper, config);
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(200), start).await;
    assert!(given_up.is_err(), "it sleeps for an hour");
    // Open for as long as a lane is there.
    log.close().await;
}
