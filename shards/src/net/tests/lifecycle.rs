//! How connections, shards and the process's part in them begin and end.

use std::net::Shutdown;

use rustix::net::sockopt::set_socket_linger;

use super::harness::*;
use crate::runtime::{Error, start};

/// Closes with a reset instead of an end.
fn reset(client: Client) {
    set_socket_linger(&client.stream, Some(Duration::ZERO)).expect("an option");
    drop(client);
}

#[test]
fn close_and_lost_slots_close_after_the_answers_before() {
    let server = serve_one();
    for order in [b"c", b"l"] {
        let mut client = server.connect();
        client.send(b"efirst");
        client.send(order);
        client.send(b"enever");
        assert_eq!(client.receive(), b"efirst");
        client.expect_closed();
    }
    server.wait_for("connections", |s| s.connections_open, |count| count == 0);
    server.stop();
}

#[test]
fn a_half_closed_peer_still_gets_its_answers() {
    let server = serve_one();
    let (mut client, mut other) = (server.connect(), server.connect());
    client.send(b"hone");
    client.send(b"htwo");
    client.stream.write_all(&[0, 0, 0, 9, b'e']).expect("half a frame");
    client.stream.shutdown(Shutdown::Write).expect("half closed");
    server.wait_for("requests", |s| s.requests_total, |count| count == 2);
    assert_eq!(other.ask(b"rgo"), b"rgo");
    assert_eq!((client.receive(), client.receive()), (b"hone".to_vec(), b"htwo".to_vec()));
    client.expect_closed();
    server.stop();
}

#[test]
fn a_peer_that_vanishes_leaves_nothing_behind() {
    let server = serve_one();
    let mut middle_of_frame = server.connect();
    middle_of_frame.stream.write_all(&[0, 16, 0, 0, b'e', 1, 2, 3]).expect("the server reads");
    let mut middle_of_send = server.connect();
    (0..16).for_each(|_| middle_of_send.send(b"b"));
    let mut waiting = server.connect();
    waiting.send(b"h");
    server.wait_for("bytes sent", |s| s.sent_bytes_total, |bytes| bytes > 0);
    server.wait_for("request memory", |s| s.request_memory_bytes, |bytes| bytes > 0);
    [middle_of_frame, middle_of_send, waiting].into_iter().for_each(reset);
    server.wait_for("connections", |s| s.connections_open, |count| count == 0);
    server.wait_for("request memory", |s| s.request_memory_bytes, |bytes| bytes == 0);
    let mut client = server.connect();
    assert_eq!(client.ask(b"r"), b"r", "answers to the vanished go nowhere");
    server.stop();
}

#[test]
fn idle_connections_are_evicted_and_busy_ones_are_not() {
    let settings = Settings { idle_max: Duration::from_secs(1), ..Settings::default() };
    let server = serve(1, Spin::Park, settings);
    let (mut idle, mut waiting) = (server.connect(), server.connect());
    waiting.send(b"hold");
    idle.expect_closed();
    server.wait_for("evictions", |s| s.connections_evicted_idle_total, |count| count == 1);
    server.wait_for("connections", |s| s.connections_open, |count| count == 1);
    let mut other = server.connect();
    assert_eq!(
        (other.ask(b"r"), waiting.receive()),
        (b"r".to_vec(), b"hold".to_vec()),
        "who waits is not idle"
    );
    server.stop();
}

#[test]
fn stopping_answers_what_was_read_and_closes_the_listener() {
    let server = serve(2, Spin::For(Duration::from_micros(50)), Settings::default());
    let address = server.address();
    let clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let load = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            let mut answered = 0u64;
            loop {
                let frame = [b"e".as_slice(), &answered.to_be_bytes()].concat();
                if client.stream.write_all(&framed(&frame)).is_err() {
                    return answered;
                }
                let mut answer = vec![0; frame.len() + 4];
                match client.stream.read_exact(&mut answer) {
                    Ok(()) => assert_eq!(answer, framed(&frame)),
                    Err(_) => return answered,
                }
                answered += 1;
            }
        })
    });
    let load: Vec<_> = load.collect();
    server.wait_for("requests", |s| s.requests_total, |count| count > 2000);
    server.runtime.stop();
    let counters = server.runtime.counters().to_vec();
    server.runtime.join().expect("ends well");
    let answered: u64 = load.into_iter().map(|thread| thread.join().expect("every answer was right")).sum();
    let requests: u64 = counters.iter().map(|counters| counters.requests_total.get()).sum();
    assert_eq!(answered, requests, "each request that was read was answered");
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let server = serve_one();
    let settings = RuntimeSettings {
        cpus: vec![0],
        spin: Spin::Park,
        listeners: vec![server.address()],
        network: Settings::default(),
        slab_bytes_max: 1 << 20,
        drain_max: PATIENCE,
    };
    let error = start::<Obedient, (), _>(settings, |_| Err("never built".into())).err().expect("taken");
    assert!(matches!(error, Error::Bind(BindError::InUse(_))), "{error}");
    assert!(error.to_string().contains(&server.address().to_string()), "{error}");
    server.stop();
}

#[test]
fn a_shard_that_cannot_be_built_takes_the_others_back() {
    let settings = RuntimeSettings {
        cpus: vec![0, 1],
        spin: Spin::Park,
        listeners: vec!["127.0.0.1:0".parse().expect("an address")],
        network: Settings::default(),
        slab_bytes_max: 1 << 20,
        drain_max: PATIENCE,
    };
    let build = |shard: &Shard| match shard.index().get() {
        0 => {
            let (held, seen) = (RefCell::default(), Arc::default());
            Ok((Rc::new(Obedient { shard: shard.clone(), held, big: Slice::from_static(b""), seen }), ()))
        }
        _ => Err("the disk is on fire".into()),
    };
    let error = start(settings, build).err().expect("shard 1 fails");
    assert!(
        error.to_string().contains("shard 1 on CPU 1") && error.to_string().contains("on fire"),
        "{error}"
    );
}

#[test]
fn a_panic_stops_all_shards_and_is_told() {
    for (order, text) in [(b"p", "the service was asked to panic"), (b"q", "the task was asked to panic")] {
        let server = serve(2, Spin::Park, Settings::default());
        let mut first = server.connect();
        assert_eq!(first.ask(b"e"), b"e");
        let mut second = server.connect();
        second.send(order);
        let error = server.runtime.join().expect_err("a shard panicked");
        let Error::Failed { shard, reason } = &error else { panic!("{error}") };
        assert!(shard.get() < 2 && reason.contains(text), "{error}");
        first.expect_closed();
    }
}
