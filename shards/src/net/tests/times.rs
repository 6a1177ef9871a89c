//! Times of requests: what was answered counts once in every stage, on whichever shard.

use super::harness::*;

/// How often each stage of append requests was counted, over all shards.
fn counted(server: &Server) -> Vec<u64> {
    let intervals = Interval::PARTS.into_iter().chain([Interval::Whole]);
    let count = |interval| {
        let counts = server.runtime.counters().iter();
        counts.map(|counters| counters.requests.of(RequestKind::Append, interval).read().count()).sum()
    };
    intervals.map(count).collect()
}

#[test]
fn each_answered_request_counts_once_in_every_stage_of_its_shard() {
    let server = serve(4, Spin::Park, Settings::default());
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        // Two answers, a request that wants none, and two more answers behind it, all under way at once.
        for order in [b"k", b"k", b"n", b"k", b"k"] {
            client.send(order);
        }
    }
    for client in &mut clients {
        let answers: Vec<_> = (0..4).map(|_| client.receive()).collect();
        assert_eq!(answers, vec![b"k"; 4]);
    }
    let wanted = 5 * clients.len() as u64;
    let deadline = Instant::now() + PATIENCE;
    while counted(&server) != [wanted; 6] {
        assert!(Instant::now() < deadline, "{:?} of {wanted} were counted", counted(&server));
        std::thread::yield_now();
    }
    assert_eq!(server.total(|s| s.requests_total), wanted);
    for counters in server.runtime.counters() {
        let sum = |interval| counters.requests.of(RequestKind::Append, interval).read().nanoseconds;
        assert_eq!(
            Interval::PARTS.map(sum).iter().sum::<u64>(),
            sum(Interval::Whole),
            "no time is lost between"
        );
        let requests = counters.requests.of(RequestKind::Append, Interval::Whole).read().count();
        assert_eq!(requests, counters.snapshot().requests_total, "a shard counts its own requests");
        assert!(requests > 0, "connections are spread over the shards");
    }
    server.stop();
}

#[test]
fn a_request_that_closes_its_connection_is_not_counted() {
    let server = serve_one();
    let mut client = server.connect();
    client.send(b"x");
    client.expect_closed();
    server.wait_for("connections", |s| s.connections_open, |count| count == 0);
    assert_eq!((server.total(|s| s.requests_total), counted(&server)), (1, vec![0; 6]));
    server.stop();
}
