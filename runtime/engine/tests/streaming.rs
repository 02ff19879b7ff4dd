//! Long bodies: alone in its process, because it measures the memory of the whole process.

mod support;

use bytes::Bytes;
use gilliam_engine::HttpInstance;
use gilliam_model::limits::Limits;
use http_body_util::BodyExt as _;
use support::{Long, guestbook, hello_p3, start};

/// Pieces of 64 KiB: 1 GiB.
const PIECES: usize = 16_384;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm
        .split(' ')
        .nth(1)
        .expect("resident")
        .parse::<u64>()
        .expect("pages")
        * 4096
}

async fn echo_in_flat_memory(instance: &HttpInstance, pieces: usize) {
    let request = http::Request::post("http://app.localhost/echo");
    let response = instance.call(
        request
            .body(Long {
                left: pieces,
                trailers: false,
            })
            .expect("request"),
    );
    let mut body = response.await.expect("response").into_body();
    let (mut received, mut resident_max, start) = (0, 0, resident_bytes());
    while let Some(frame) = body.frame().await {
        received += frame.expect("frame").data_ref().map_or(0, Bytes::len);
        resident_max = resident_max.max(resident_bytes());
    }
    assert_eq!(received, pieces * (64 << 10));
    let grown = resident_max.saturating_sub(start);
    assert!(grown < 64 << 20, "resident memory grew by {grown} bytes");
}

#[tokio::test]
async fn a_gibibyte_streams_both_ways_in_flat_memory() {
    let limits = Limits {
        request_ms_max: 120_000,
        fuel_per_request_max: 1_000_000_000_000_000,
        ..Limits::default()
    };
    for loaded in [guestbook(), hello_p3()] {
        let (instance, _log) = start(&loaded, limits.clone()).await;
        echo_in_flat_memory(&instance, PIECES).await;
    }
}
