//! The network over real loopback sockets.

mod bounds;
mod frames;
mod lifecycle;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::driver::Spin;
use crate::memory::Slice;
use crate::runtime::{Runtime, Settings as RuntimeSettings, Shard, start};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the tests know of the service from outside.
#[derive(Default)]
struct Seen {
    connected: AtomicU64,
    disconnected: AtomicU64,
}

/// Does what the first byte of a frame says.
///
/// `e` echo, `t` echo from a task, `h` hold, `r` answer all held, last first, and this, `s` no answer, `c` close,
/// `l` lose the slot, `b` one MiB, `m` echo and mute, `p` panic, `q` panic in a task.
struct Obedient {
    shard: Shard,
    held: RefCell<Vec<Request>>,
    big: Slice,
    seen: Arc<Seen>,
}

fn echo(request: Request, mute: Duration) {
    let length = u32::try_from(request.frame.len()).expect("short").to_be_bytes().to_vec();
    let all = request.frame.slice(0..request.frame.len());
    request.slot.answer_and_mute(Answer::Response(vec![Slice::from_vec(length), all]), mute);
}

impl Obedient {
    fn big(&self, request: Request) {
        let length = u32::try_from(self.big.len()).expect("short").to_be_bytes().to_vec();
        request.slot.answer(Answer::Response(vec![Slice::from_vec(length), self.big.clone()]));
    }

    fn release(&self, request: Request) {
        let mut held = self.held.take();
        held.push(request);
        held.into_iter().rev().for_each(|request| echo(request, Duration::ZERO));
    }
}

impl Service for Obedient {
    fn connected(&self, _peer: &Rc<Peer>) {
        self.seen.connected.fetch_add(1, Ordering::Release);
    }

    fn disconnected(&self, _peer: &Rc<Peer>) {
        self.seen.disconnected.fetch_add(1, Ordering::Release);
    }

    fn request(&self, request: Request) {
        let stamps = &request.context.stamps;
        assert!(
            stamps.get(Stage::Received) <= stamps.get(Stage::Framed) && stamps.get(Stage::Received).is_some()
        );
        match request.frame.first() {
            Some(b'e') | None => echo(request, Duration::ZERO),
            Some(b'm') => echo(request, Duration::from_millis(300)),
            Some(b't') => self.shard.spawn_local(async move { echo(request, Duration::ZERO) }),
            Some(b'h') => self.held.borrow_mut().push(request),
            Some(b'r') => self.release(request),
            Some(b's') => request.slot.answer(Answer::Skip),
            Some(b'c') => request.slot.answer(Answer::Close),
            Some(b'l') => drop(request.slot),
            Some(b'b') => self.big(request),
            Some(b'p') => panic!("the service was asked to panic"),
            Some(b'q') => self.shard.spawn_local(async { panic!("the task was asked to panic") }),
            Some(other) => panic!("no such order: {other}"),
        }
    }
}

struct Server {
    runtime: Runtime,
    seen: Arc<Seen>,
}

fn serve(shards: usize, spin: Spin, network: Settings) -> Server {
    let seen = Arc::new(Seen::default());
    let settings = RuntimeSettings {
        cpus: (0..shards).collect(),
        spin,
        listeners: vec!["127.0.0.1:0".parse().expect("an address")],
        network,
        slab_bytes_max: 64 << 20,
        drain_max: PATIENCE,
        fence: None,
    };
    let known = Arc::clone(&seen);
    let build = move |shard: &Shard| {
        let (held, big, seen) =
            (RefCell::default(), Slice::from_vec(vec![b'B'; 1 << 20]), Arc::clone(&known));
        Ok((Rc::new(Obedient { shard: shard.clone(), held, big, seen }), ()))
    };
    Server { runtime: start(settings, build).expect("starts"), seen }
}

fn serve_one() -> Server {
    serve(1, Spin::Park, Settings::default())
}

impl Server {
    fn address(&self) -> SocketAddr {
        self.runtime.addresses()[0]
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address()).expect("connects");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        Client { stream }
    }

    fn total(&self, field: impl Fn(&Snapshot) -> u64) -> u64 {
        self.runtime.counters().iter().map(|counters| field(&counters.snapshot())).sum()
    }

    /// Waits until the sum over the shards of a counter is what it should be.
    fn wait_for(&self, what: &str, field: impl Fn(&Snapshot) -> u64, wanted: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self.total(&field)) {
            assert!(Instant::now() < deadline, "{what} is still {}", self.total(&field));
            std::thread::yield_now();
        }
    }

    /// Stops; everything must have come home.
    fn stop(self) {
        self.runtime.stop();
        let counters = self.runtime.counters().to_vec();
        self.runtime.join().expect("ends well");
        for counters in counters {
            let snapshot = counters.snapshot();
            assert_eq!((snapshot.connections_open, snapshot.ring_operations), (0, 0));
        }
        let (connected, disconnected) = (&self.seen.connected, &self.seen.disconnected);
        assert_eq!(connected.load(Ordering::Acquire), disconnected.load(Ordering::Acquire));
    }
}

struct Client {
    stream: TcpStream,
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(frame.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    bytes
}

impl Client {
    fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(&framed(frame)).expect("the server reads");
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("an answer comes");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("a whole answer comes");
        frame
    }

    fn ask(&mut self, frame: &[u8]) -> Vec<u8> {
        self.send(frame);
        self.receive()
    }

    /// The server closes, and sends nothing before.
    fn expect_closed(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => assert_eq!(count, 0, "nothing but the end comes"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
}
