//! At every bound the socket feels it, nothing is dropped, and nothing is stuck.

use super::harness::*;

#[test]
fn a_slow_reader_is_not_read_from_and_then_gets_everything() {
    let server = serve(1, Spin::Park, Settings { send_queue_bytes_max: 2 << 20, ..Settings::default() });
    let mut client = server.connect();
    let count = 200u64;
    (0..count).for_each(|_| client.send(b"b"));
    client.send(b"elast");
    server.wait_for("bytes sent", |s| s.sent_bytes_total, |bytes| bytes > 0);
    let mut other = server.connect();
    assert_eq!(other.ask(b"e"), b"e", "others are served meanwhile");
    let taken = server.total(|s| s.requests_total);
    assert!(taken < count, "{taken} requests of a peer that reads no answer were taken");
    for _ in 0..count {
        assert!(client.receive() == vec![b'B'; 1 << 20]);
    }
    assert_eq!(client.receive(), b"elast");
    server.stop();
}

#[test]
fn a_peer_that_stalls_is_evicted() {
    let server =
        serve(1, Spin::Park, Settings { stall_max: Duration::from_millis(200), ..Settings::default() });
    let mut reads_nothing = server.connect();
    (0..64).for_each(|_| reads_nothing.send(b"b"));
    server.wait_for("evictions", |s| s.connections_evicted_stalled_total, |count| count == 1);
    let mut sends_half = server.connect();
    sends_half.stream.write_all(&[0, 16, 0, 0, b'e']).expect("the server reads");
    sends_half.expect_closed();
    server.wait_for("evictions", |s| s.connections_evicted_stalled_total, |count| count == 2);
    server.wait_for("request memory", |s| s.request_memory_bytes, |bytes| bytes == 0);
    server.stop();
}

#[test]
fn requests_in_flight_are_bounded_and_go_on() {
    let server = serve(1, Spin::Park, Settings { requests_per_connection_max: 10, ..Settings::default() });
    let (mut client, mut other) = (server.connect(), server.connect());
    (0..25u8).for_each(|number| client.send(&[b'h', number]));
    server.wait_for("requests", |s| s.requests_total, |count| count == 10);
    let mut answered = 0u8;
    while answered < 25 {
        // Held requests are released in lots of at most ten.
        assert_eq!(other.ask(b"r"), b"r");
        let lot = (25 - answered).min(10);
        for _ in 0..lot {
            assert_eq!(client.receive(), [b'h', answered]);
            answered += 1;
        }
        let wanted =
            u64::from(answered) + u64::from((25 - answered).min(10)) + u64::from(answered.div_ceil(10));
        server.wait_for("requests", |s| s.requests_total, |count| count == wanted);
    }
    server.stop();
}

#[test]
fn large_frames_beyond_the_budget_wait_and_all_are_answered() {
    // Room for one frame of the largest size at a time.
    let network =
        Settings { request_bytes_max: 1 << 20, queued_request_bytes_max: 1 << 20, ..Settings::default() };
    let server = serve(1, Spin::Park, network);
    let threads = (0..8u8).map(|number| {
        let mut client = server.connect();
        std::thread::spawn(move || {
            let mut frame = vec![number; (600 << 10) + usize::from(number) * 40_000];
            frame[0] = b'e';
            let mut writer = client.stream.try_clone().expect("a descriptor");
            let bytes = framed(&frame);
            let sender =
                std::thread::spawn(move || (0..10).for_each(|_| writer.write_all(&bytes).expect("read")));
            (0..10).for_each(|_| assert!(client.receive() == frame, "connection {number}"));
            sender.join().expect("wrote");
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|thread| thread.join().expect("each answer was right"));
    assert_eq!(server.total(|s| s.requests_total), 80);
    assert!(server.total(|s| s.request_memory_waits_total) > 0, "frames had to wait");
    server.wait_for("request memory", |s| s.request_memory_bytes, |bytes| bytes == 0);
    server.stop();
}

#[test]
fn more_small_requests_than_the_pool_holds_wait_in_the_sockets() {
    // Each held request lies in a pool buffer of its own: 3000 of them are more than the pool has.
    let server = serve_one();
    let (mut holders, mut releaser) = (Vec::new(), server.connect());
    for _ in 0..30 {
        let mut client = server.connect();
        let frame = [b"h".as_slice(), &[7; 16_000]].concat();
        let mut writer = client.stream.try_clone().expect("a descriptor");
        let bytes = framed(&frame);
        let sender =
            std::thread::spawn(move || (0..100).for_each(|_| writer.write_all(&bytes).expect("read")));
        holders.push(std::thread::spawn(move || {
            (0..100).for_each(|_| assert!(client.receive() == frame));
            sender.join().expect("wrote");
        }));
    }
    // The releaser's own request needs a buffer, too: it is asked for before all are held, again and again.
    let deadline = Instant::now() + PATIENCE;
    while holders.iter().any(|holder| !holder.is_finished()) {
        assert!(Instant::now() < deadline, "held requests are released");
        assert_eq!(releaser.ask(b"r"), b"r");
    }
    holders.into_iter().for_each(|holder| holder.join().expect("each answer was right"));
    server.stop();
}

#[test]
fn a_muted_connection_waits_and_others_do_not() {
    let server = serve_one();
    let (mut muted, mut other) = (server.connect(), server.connect());
    let start = Instant::now();
    assert_eq!(muted.ask(b"m"), b"m");
    muted.send(b"eafter");
    assert_eq!(other.ask(b"e"), b"e");
    assert_eq!(muted.receive(), b"eafter");
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "a mute lasts at least as long as it was asked for"
    );
    server.stop();
}
