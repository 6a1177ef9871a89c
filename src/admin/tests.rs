//! The listener over real sockets.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{server::serve_within, *};

/// Longer than any answer takes; what it bounds has failed when it is reached.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Told(Rc<RefCell<Snapshot>>);

impl Source for Told {
    fn snapshot(&self) -> Snapshot {
        self.0.borrow().clone()
    }
}

fn told() -> Told {
    let shard = |shard| ShardHealth { shard, healthy: true, state: "running".to_owned() };
    let sample = Sample { labels: vec![("shard", "1".to_owned())], value: Value::Integer(42) };
    let histogram = Histogram { count: 2, sum: 3.0, buckets: vec![(1.0, 1)], quantiles: vec![(0.5, 1.0)] };
    let summary = Sample { labels: Vec::new(), value: Value::Histogram(histogram) };
    let families = vec![
        Family { name: "requests_total", help: "Requests.", kind: Kind::Counter, samples: vec![sample] },
        Family { name: "stage_seconds", help: "Stages.", kind: Kind::Histogram, samples: vec![summary] },
    ];
    let ready = Err("shard 1 recovers its journal".to_owned());
    Told(Rc::new(RefCell::new(Snapshot { ready, shards: vec![shard(0), shard(1)], families })))
}

/// Runs `work` with the address of a listener, and the state that it shows.
async fn with_listener(header_timeout: Duration, work: impl AsyncFnOnce(std::net::SocketAddr, &Told)) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let told = told();
    tokio::select! {
        never = serve_within(listener, told.clone(), header_timeout) => match never {},
        done = timeout(DEADLINE, work(address, &told)) => done.expect("the listener answers in time"),
    }
}

/// Sends bytes and reads until the listener closes; what it sent before a reset counts too.
async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        answer.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(answer).unwrap()
}

async fn get(address: std::net::SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    request(address, "GET", path, headers).await
}

/// Status, headers in lower case, body.
async fn request(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> (u16, String, String) {
    let answer =
        exchange(address, format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn readiness_and_health_follow_the_source() {
    with_listener(HEADER_TIMEOUT, async |address, told| {
        let (status, head, body) = get(address, "/ready", "").await;
        assert_eq!(
            (status, body.as_str()),
            (503, "{\"ready\":false,\"reason\":\"shard 1 recovers its journal\"}\n")
        );
        assert!(head.contains("content-type: application/json") && head.contains("cache-control: no-store"));
        told.0.borrow_mut().ready = Ok(());
        let (status, _, body) = get(address, "/ready", "").await;
        assert_eq!((status, body.as_str()), (200, "{\"ready\":true}\n"));
        assert_eq!(get(address, "/health", "").await.0, 200);
        told.0.borrow_mut().shards[1].healthy = false;
        told.0.borrow_mut().shards[1].state = "read-only".to_owned();
        let (status, _, body) = get(address, "/health", "").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["healthy"]), (503, &false.into()));
        assert_eq!(
            (&body["shards"][0]["state"], &body["shards"][1]["state"]),
            (&"running".into(), &"read-only".into())
        );
    })
    .await;
}

#[tokio::test]
async fn metrics_come_as_text_or_as_json() {
    with_listener(HEADER_TIMEOUT, async |address, _| {
        let (status, head, text) = get(address, "/metrics", "").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(text.contains("# TYPE requests_total counter\nrequests_total{shard=\"1\"} 42\n"), "{text}");
        let by_header = get(address, "/metrics", "Accept: text/html, Application/JSON;q=0.9\r\n").await;
        let by_query = get(address, "/metrics?x=1&format=json", "").await;
        assert!(by_header.1.contains("content-type: application/json"));
        assert_eq!(by_header.2, by_query.2);
        let body: serde_json::Value = serde_json::from_str(&by_query.2).unwrap();
        assert_eq!(body["metrics"][0]["samples"][0]["value"], 42);
        assert_eq!(body["metrics"][0]["samples"][0]["labels"]["shard"], "1");
        assert_eq!(body["metrics"][1]["samples"][0]["value"]["quantiles"][0]["value"], 1.0);
        let (status, _, body) = request(address, "HEAD", "/metrics", "").await;
        assert_eq!((status, body.as_str()), (200, ""));
    })
    .await;
}

#[tokio::test]
async fn other_paths_and_methods_are_told_what_there_is() {
    with_listener(HEADER_TIMEOUT, async |address, _| {
        for path in ["/", "/metric", "/ready/", "/../metrics"] {
            let (status, _, body) = get(address, path, "").await;
            assert_eq!(status, 404, "{path}");
            assert!(body.contains("[\"/health\",\"/metrics\",\"/ready\"]"), "{body}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let (status, head, _) = request(address, method, "/ready", "Content-Length: 0\r\n").await;
            assert_eq!(status, 405);
            assert!(head.contains("allow: get, head"), "{head}");
        }
    })
    .await;
}

#[tokio::test]
async fn hostile_requests_are_bounded() {
    with_listener(HEADER_TIMEOUT, async |address, _| {
        let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(3 * HEADER_BYTES_MAX));
        let long_header = format!("GET /ready HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(3 * HEADER_BYTES_MAX));
        let many_headers = format!("GET /ready HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX + 1));
        for hostile in [long_line.as_bytes(), long_header.as_bytes(), many_headers.as_bytes()] {
            let answer = exchange(address, hostile).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
            assert!(!answer.contains("ready"), "{answer}");
        }
        assert!(exchange(address, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        // A body is neither read nor waited for.
        let body = b"POST /ready HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nabc";
        assert!(exchange(address, body).await.starts_with("HTTP/1.1 405"));
        // A second request on the same connection is not answered.
        let two = exchange(
            address,
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .await;
        assert_eq!(two.matches("HTTP/1.1").count(), 1, "{two}");
        assert_eq!(get(address, "/health", "").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn silent_connections_are_closed_and_make_room() {
    with_listener(Duration::from_millis(50), async |address, _| {
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX + 5 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /ready HT").await.unwrap();
            silent.push(stream);
        }
        // Waits in the kernel's queue until silent ones are closed.
        assert_eq!(get(address, "/health", "").await.0, 200);
        for mut stream in silent {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(!rest.starts_with(b"HTTP/1.1 2"));
        }
    })
    .await;
}
