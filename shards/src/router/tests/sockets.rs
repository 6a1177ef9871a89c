//! Back-pressure and order from socket to log.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Condvar;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::harness::*;
use crate::core::Acks;
use crate::limits::{HOPS_IN_FLIGHT_MAX, REQUESTS_PER_CONNECTION_MAX};
use crate::net::Answer;
use crate::types::Offset;

/// Larger than all that sockets and shards may hold of one connection.
const BATCHES: usize = 6000;
const VALUE_BYTES: usize = 8 << 10;

/// Something that a shard waits at until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().expect("whole") = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().expect("whole");
        let (is_open, _) =
            self.opened.wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open).expect("whole");
        assert!(*is_open, "the gate opens");
    }
}

/// `w`: which shard. `g` and a log: its owner waits at the gate. `a`, a log and a batch: appends it.
struct Appender {
    logs: Logs,
    gate: Arc<Gate>,
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [u32::try_from(bytes.len()).expect("short").to_be_bytes().as_slice(), bytes].concat()
}

impl Service for Appender {
    fn request(&self, request: Request) {
        let (frame, slot) = (request.frame, request.slot);
        let to = |at: usize| partition(u16::from(frame[at]));
        let answer = |bytes: &[u8]| Answer::Response(vec![Slice::from_vec(framed(bytes))]);
        match frame[0] {
            b'w' => slot.answer(answer(&self.logs.home().shard().index().get().to_be_bytes())),
            b'g' => {
                let gate = Arc::clone(&self.gate);
                let passed = self.logs.ask(to(1), move |_| gate.pass());
                passed.call_back(move |passed| slot.answer(answer(&[u8::from(passed.is_ok())])));
            }
            _ => {
                let batch = frame.slice(2..frame.len());
                self.logs.append(to(1), &batch, Acks::All).call_back(move |result| {
                    let offset = result.expect("appended").base_offset;
                    slot.answer(answer(&offset.get().to_be_bytes()));
                });
            }
        }
    }
}

struct Broker {
    shards: Shards,
    gate: Arc<Gate>,
}

fn broker(count: u16) -> Broker {
    let gate = Arc::<Gate>::default();
    let passed = Arc::clone(&gate);
    let listeners = vec!["127.0.0.1:0".parse().expect("an address")];
    let shards = serving(count, Spin::Park, listeners, move |logs| {
        Rc::new(Appender { logs: logs.clone(), gate: Arc::clone(&passed) })
    });
    Broker { shards, gate }
}

impl Broker {
    /// A connection, and the shard that it lives on.
    fn connect(&self) -> (TcpStream, u16) {
        let mut stream = TcpStream::connect(self.shards.runtime.addresses()[0]).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        stream.write_all(&framed(b"w")).expect("is read");
        let shard = receive(&mut stream);
        let shard = u16::from_be_bytes(shard.try_into().expect("two bytes"));
        (stream, shard)
    }

    fn counted(&self, of: impl Fn(&crate::net::Snapshot) -> u64) -> u64 {
        self.shards.runtime.counters().iter().map(|counters| of(&counters.snapshot())).sum()
    }
}

fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer comes");
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes).expect("a whole one");
    bytes
}

fn append(owner: u16, value_bytes: usize) -> Vec<u8> {
    let batch = fixture::batch(&fixture::Header::default(), &[vec![7; value_bytes]]);
    framed(&[[b'a', u8::try_from(owner).expect("few")].as_slice(), &batch].concat())
}

/// Sends `count` appends to the owners in turn, without waiting for an answer. `sent` says how many have left.
fn send_all(mut stream: TcpStream, owners: &[u16], count: usize, value_bytes: usize, sent: &AtomicUsize) {
    let frames: Vec<_> = owners.iter().map(|owner| append(*owner, value_bytes)).collect();
    for frame in frames.iter().cycle().take(count) {
        stream.write_all(frame).expect("is read in the end");
        sent.fetch_add(1, Ordering::Release);
    }
}

/// Reads the answers; each owner's offsets must grow in the order of the requests. How many there were.
fn check_answers(stream: &mut TcpStream, owners: &[u16], count: usize) -> usize {
    let mut last = vec![Offset(-1); owners.len()];
    for number in 0..count {
        let offset = receive(stream).try_into().expect("eight bytes");
        let (offset, last) = (Offset(i64::from_be_bytes(offset)), &mut last[number % owners.len()]);
        assert!(offset > *last, "append {number} got offset {offset:?} behind {last:?}");
        *last = offset;
    }
    count
}

#[test]
fn storms_between_all_shards_keep_the_order_of_each_connection_and_log() {
    let broker = broker(4);
    let owners = [0, 1, 2, 3];
    let compared: usize = std::thread::scope(|scope| {
        let connections = (0..8).map(|_| broker.connect().0);
        let clients = connections.map(|mut stream| {
            let (writing, sent) = (stream.try_clone().expect("a socket"), AtomicUsize::new(0));
            scope.spawn(move || {
                std::thread::scope(|scope| {
                    scope.spawn(|| send_all(writing, &owners, 3000, 10, &sent));
                    check_answers(&mut stream, &owners, 3000)
                })
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().expect("is served")).sum()
    });
    assert_eq!(compared, 8 * 3000);
    assert!(broker.counted(|c| c.hops_waited_total) > 0, "the slots did not suffice");
    assert_eq!(broker.counted(|c| c.hops_sent_total), broker.counted(|c| c.hops_answered_total));
    broker.shards.stop();
}

#[test]
fn an_owner_that_does_not_answer_is_felt_at_the_socket() {
    let broker = broker(2);
    let (mut stream, home) = broker.connect();
    let owner = 1 - home;
    stream.write_all(&framed(&[b'g', u8::try_from(owner).expect("few")])).expect("is read");
    let (writing, sent) = (stream.try_clone().expect("a socket"), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || send_all(writing, &[owner], BATCHES, VALUE_BYTES, sent));
        let taken = || broker.shards.runtime.counters()[usize::from(home)].snapshot();
        let deadline = Instant::now() + PATIENCE;
        // One request was answered, and the gate's waits with the appends.
        while taken().requests_total <= REQUESTS_PER_CONNECTION_MAX as u64 {
            assert!(Instant::now() < deadline, "a connection's requests are taken: {:?}", taken());
            std::thread::yield_now();
        }
        assert!(sent.load(Ordering::Acquire) < BATCHES, "the client is not read any further");
        assert!(taken().requests_total <= REQUESTS_PER_CONNECTION_MAX as u64 + 1, "a connection has a bound");
        let hops = (taken().hops_sent_total, taken().hops_waited_total > 0);
        assert_eq!(hops, (HOPS_IN_FLIGHT_MAX as u64, true), "a pair of shards has a bound");
        broker.gate.open();
        assert_eq!(receive(&mut stream), [1], "the gate was passed");
        assert_eq!(check_answers(&mut stream, &[owner], BATCHES), BATCHES);
    });
    assert!(sent.load(Ordering::Acquire) == BATCHES, "all were taken in the end");
    broker.shards.stop();
}
