//! Clients that hold connections to keep others out.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use gilliam_serve::{DrainTrigger, Places, ServeConfig, bind, drain};
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// More than the time that an idle connection keeps its place in a crowd, less than what it has else.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server with few places; it ends with its trigger's runtime.
fn start(connections_max: usize, places: Option<Places>) -> (SocketAddr, DrainTrigger) {
    let config = ServeConfig {
        connections_max,
        places,
        ..ServeConfig::new("127.0.0.1:0".parse().expect("address"))
    };
    let (server, address) = bind(&config).expect("bind");
    let (trigger, signal) = drain::channel();
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"here"))))
    });
    tokio::spawn(server.run(service, signal));
    (address, trigger)
}

async fn hold(address: SocketAddr, count: usize, first: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(first).await.expect("send");
        held.push(stream);
    }
    held
}

async fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("send");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    let _ = timeout(DEADLINE, read).await.expect("an answer in time");
    answer
}

#[tokio::test]
async fn idle_connections_make_room_when_all_places_are_taken() {
    let case = |first: &'static [u8]| async move {
        let (address, _trigger) = start(2, None);
        let _held = hold(address, 3, first).await;
        assert!(get(address).await.ends_with("here"), "{first:?}");
    };
    tokio::join!(
        case(b""),
        case(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        case(b"GET / HTTP/1.1\r\nHo"),
        case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
    );
}

#[tokio::test]
async fn servers_that_share_places_have_so_many_connections_together() {
    let places = Places::new(3);
    let (crowded, _first) = start(100, Some(places.clone()));
    let (quiet, _second) = start(100, Some(places.clone()));
    let (idle, _third) = start(100, Some(places));
    // A server without clients takes none of the places.
    assert!(get(idle).await.ends_with("here"));
    let mut held = hold(crowded, 4, b"").await;
    assert!(get(quiet).await.ends_with("here"));
    let mut byte = [0];
    let first = timeout(DEADLINE, held[0].read(&mut byte)).await.expect("closed");
    assert!(matches!(first, Ok(0) | Err(_)), "{first:?}");
}
