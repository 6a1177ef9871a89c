//! The ring against the real kernel.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::Moment;
use crate::limits::{RECEIVE_POOL_BYTES_MAX, RING_SUBMISSIONS};
use crate::memory::{Slab, Slice};

fn ring() -> Ring {
    let doorbell = Doorbell::new().expect("an eventfd");
    Ring::new(&doorbell, Slab::new(RECEIVE_POOL_BYTES_MAX)).expect("io_uring works here")
}

fn next(ring: &mut Ring) -> Completion {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        ring.submit().expect("the ring works");
        if let Some(completion) = ring.next_completion() {
            return completion;
        }
        assert!(Instant::now() < deadline, "a completion comes");
    }
}

fn pair() -> (TcpStream, Rc<OwnedFd>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (server, _) = listener.accept().expect("accepts");
    (client, Rc::new(server.into()))
}

#[test]
fn sends_and_receives_give_their_buffers_back() {
    let mut ring = ring();
    let (mut client, socket) = pair();
    let slices = vec![Slice::from_static(b"hello "), Slice::from_static(b"world")];
    ring.send(Token(1), Rc::clone(&socket), slices);
    let Completion::Network(Token(1), NetworkEvent::Sent { result, slices }) = next(&mut ring) else {
        panic!("sent")
    };
    assert_eq!((result.expect("sent"), slices.len()), (11, 2));
    let mut text = [0; 11];
    client.read_exact(&mut text).expect("arrives");
    assert_eq!(&text, b"hello world");

    let slab = Slab::new(1 << 20);
    ring.receive(Token(2), Rc::clone(&socket), slab.take(4096).expect("room"), 10, 20);
    client.write_all(b"0123456789abcdef").expect("sends");
    let Completion::Network(Token(2), NetworkEvent::ReceivedInto { result, buffer }) = next(&mut ring) else {
        panic!("received")
    };
    assert_eq!((result.expect("received"), &buffer[10..20]), (10, b"0123456789".as_slice()));
    ring.receive_one(Token(3), socket);
    let Completion::Network(Token(3), NetworkEvent::Received { result, last }) = next(&mut ring) else {
        panic!("received")
    };
    assert_eq!((&*result.expect("received"), last), (b"abcdef".as_slice(), true));
    assert_eq!(ring.in_flight(), 0);
}

/// Starting a direct write may take the kernel tens of microseconds, for which no answer of the same turn shall wait.
#[test]
fn answers_are_sent_before_the_disk_operations_of_their_turn() {
    let mut ring = ring();
    let (_client, socket) = pair();
    let file = std::fs::OpenOptions::new().write(true).open("/dev/null").expect("there is a null device");
    let file: Rc<OwnedFd> = Rc::new(file.into());
    ring.write(Token(1), Rc::clone(&file), 0, vec![Slice::from_static(b"record")], false);
    ring.send(Token(2), Rc::clone(&socket), vec![Slice::from_static(b"answer")]);
    ring.write(Token(3), file, 0, vec![Slice::from_static(b"record")], false);
    ring.send(Token(4), socket, vec![Slice::from_static(b"answer")]);
    assert!(!ring.is_quiet(), "four operations are queued");
    let order: Vec<u64> = (0..4)
        .map(|_| match next(&mut ring) {
            Completion::Network(token, _) | Completion::Storage(token, _) => token.0,
        })
        .collect();
    assert_eq!(order, [2, 4, 1, 3]);
    assert!(ring.is_quiet());
}

#[test]
fn a_cancelled_receive_ends_once_and_frees_the_socket() {
    let mut ring = ring();
    let (_client, socket) = pair();
    let key = ring.receive_many(Token(7), Rc::clone(&socket));
    ring.submit().expect("the ring works");
    assert_eq!(Rc::strong_count(&socket), 2, "the operation holds the socket");
    ring.cancel(key);
    let Completion::Network(Token(7), NetworkEvent::Received { result, last: true }) = next(&mut ring) else {
        panic!("ends")
    };
    assert_eq!(result.expect_err("cancelled").raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(Rc::strong_count(&socket), 1);
    while ring.in_flight() > 0 {
        ring.submit().expect("the ring works");
        assert!(ring.next_completion().is_none(), "a cancellation has nobody waiting");
    }
}

#[test]
fn more_operations_than_the_submission_queue_holds_all_complete() {
    let mut ring = ring();
    let count = 3 * RING_SUBMISSIONS as usize + 5;
    let file = std::fs::File::open("/dev/null").expect("there is a null device");
    let file: Rc<OwnedFd> = Rc::new(file.into());
    let slab = Slab::new(4096 * (count + 1));
    for token in 0..count {
        ring.read(Token(token as u64), Rc::clone(&file), 0, slab.take(4096).expect("room"));
    }
    let mut seen = vec![false; count];
    for _ in 0..count {
        let Completion::Storage(Token(token), StorageEvent::Read { result, .. }) = next(&mut ring) else {
            panic!("a read")
        };
        assert_eq!(result.expect("reads nothing"), 0);
        assert!(!std::mem::replace(&mut seen[usize::try_from(token).expect("ours")], true));
    }
    assert_eq!((ring.in_flight(), slab.bytes_lent()), (0, 0));
}

#[test]
fn a_pool_at_its_ceiling_ends_receives_and_recovers() {
    let doorbell = Doorbell::new().expect("an eventfd");
    // Room for the shared ring of addresses and two buffers.
    let mut ring = Ring::new(&doorbell, Slab::new(4096 + 2 * 16384)).expect("io_uring works here");
    assert_eq!(ring.receive_buffers_available(), 2);
    let (mut client, socket) = pair();
    let mut held = Vec::new();
    for _ in 0..2 {
        client.write_all(b"x").expect("sends");
        ring.receive_one(Token(1), Rc::clone(&socket));
        let Completion::Network(_, NetworkEvent::Received { result, .. }) = next(&mut ring) else {
            panic!("bytes")
        };
        held.push(result.expect("a buffer was free"));
    }
    client.write_all(b"y").expect("sends");
    ring.receive_one(Token(1), Rc::clone(&socket));
    let Completion::Network(_, NetworkEvent::Received { result, .. }) = next(&mut ring) else {
        panic!("an end")
    };
    assert_eq!(result.expect_err("no buffer").raw_os_error(), Some(libc::ENOBUFS));
    held.clear();
    ring.submit().expect("the ring works");
    assert_eq!(ring.receive_buffers_available(), 2);
    ring.receive_one(Token(1), socket);
    let Completion::Network(_, NetworkEvent::Received { result, .. }) = next(&mut ring) else {
        panic!("bytes")
    };
    assert_eq!(&*result.expect("the byte was not lost"), b"y");
}

#[test]
fn a_dropped_ring_ends_its_operations_first() {
    let (_client, socket) = pair();
    let slab = Slab::new(1 << 20);
    let mut ring = ring();
    ring.receive(Token(1), Rc::clone(&socket), slab.take(4096).expect("room"), 0, 4096);
    ring.receive_many(Token(2), Rc::clone(&socket));
    ring.submit().expect("the ring works");
    drop(ring);
    assert_eq!((Rc::strong_count(&socket), slab.bytes_lent()), (1, 0), "all resources came home");
}

#[test]
fn a_wake_up_comes_in_its_time_and_an_earlier_one_replaces_it() {
    let doorbell = Doorbell::new().expect("an eventfd");
    let mut ring = Ring::new(&doorbell, Slab::new(RECEIVE_POOL_BYTES_MAX)).expect("io_uring works here");
    let start = Moment::now();
    ring.wake_at(start.after(Duration::from_secs(3600)));
    ring.wake_at(start.after(Duration::from_millis(20)));
    ring.wake_at(start.after(Duration::from_secs(60)));
    doorbell.park();
    ring.submit().expect("the ring works");
    let deadline = Instant::now() + Duration::from_secs(10);
    while Moment::now() < start.after(Duration::from_millis(20)) || ring.is_wake_up_due() {
        ring.submit().expect("the ring works");
        assert!(ring.next_completion().is_none(), "a wake-up has nobody waiting");
        assert!(Instant::now() < deadline, "the wake-up comes");
    }
    assert_eq!(ring.in_flight(), 0, "what was replaced is gone, too");
    assert!(rustix::io::read(&doorbell, &mut [0; 8]).is_ok(), "the doorbell was signalled");
}
