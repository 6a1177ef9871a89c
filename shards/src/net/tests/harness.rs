//! An obedient service behind real sockets, and a client that waits with patience.

pub(super) use std::cell::RefCell;
pub(super) use std::io::{Read, Write};
pub(super) use std::net::{SocketAddr, TcpStream};
pub(super) use std::rc::Rc;
pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::time::{Duration, Instant};

pub(super) use super::super::*;
pub(super) use crate::clock::Moment;
pub(super) use crate::driver::Spin;
pub(super) use crate::memory::Slice;
pub(super) use crate::runtime::{Runtime, Settings as RuntimeSettings, Shard, start};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What the tests know of the service from outside.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) connected: AtomicU64,
    pub(super) disconnected: AtomicU64,
}

/// Does what the first byte of a frame says.
///
/// `e` echo, `t` echo from a task, `h` hold, `r` answer all held, last first, and this, `s` no answer, `c` close,
/// `l` lose the slot, `k` echo and count the time, `n` no answer and count the time, `x` close, with a time that must not count, `b` one MiB, `m` echo and mute, `p` panic, `q` panic in a task.
pub(super) struct Obedient {
    pub(super) shard: Shard,
    pub(super) held: RefCell<Vec<Request>>,
    pub(super) big: Slice,
    pub(super) seen: Arc<Seen>,
}

pub(super) fn echo(request: Request, mute: Duration) {
    let length = u32::try_from(request.frame.len()).expect("short").to_be_bytes().to_vec();
    let all = request.frame.slice(0..request.frame.len());
    request.slot.answer_and_mute(Answer::Response(vec![Slice::from_vec(length), all]), mute);
}

/// An answer, or none, to a request whose time is counted.
pub(super) fn counted(request: Request, answer: Answer) {
    let mut stamps = request.context.stamps;
    for stage in [Stage::Started, Stage::Handled, Stage::Answered] {
        stamps.set(stage, Moment::now());
    }
    request.slot.answer_stamped(answer, RequestKind::Append, stamps);
}

impl Obedient {
    pub(super) fn big(&self, request: Request) {
        let length = u32::try_from(self.big.len()).expect("short").to_be_bytes().to_vec();
        request.slot.answer(Answer::Response(vec![Slice::from_vec(length), self.big.clone()]));
    }

    pub(super) fn release(&self, request: Request) {
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
            Some(b'k') => {
                let length = Slice::from_vec(1_u32.to_be_bytes().to_vec());
                let echo = request.frame.slice(0..1);
                counted(request, Answer::Response(vec![length, echo]));
            }
            Some(b'n') => counted(request, Answer::Skip),
            Some(b'x') => counted(request, Answer::Close),
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

pub(super) struct Server {
    pub(super) runtime: Runtime,
    pub(super) seen: Arc<Seen>,
}

pub(super) fn serve(shards: usize, spin: Spin, network: Settings) -> Server {
    let seen = Arc::new(Seen::default());
    let settings = RuntimeSettings {
        // More shards than CPUs share them.
        cpus: (0..shards).map(|shard| shard % cpus_available()).collect(),
        spin,
        listeners: vec!["127.0.0.1:0".parse().expect("an address")],
        network,
        slab_bytes_max: 64 << 20,
        drain_max: PATIENCE,
    };
    let known = Arc::clone(&seen);
    let build = move |shard: &Shard| {
        let (held, big, seen) =
            (RefCell::default(), Slice::from_vec(vec![b'B'; 1 << 20]), Arc::clone(&known));
        Ok((Rc::new(Obedient { shard: shard.clone(), held, big, seen }), ()))
    };
    Server { runtime: start(settings, build).expect("starts"), seen }
}

fn cpus_available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn serve_one() -> Server {
    serve(1, Spin::Park, Settings::default())
}

impl Server {
    pub(super) fn address(&self) -> SocketAddr {
        self.runtime.addresses()[0]
    }

    pub(super) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address()).expect("connects");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        Client { stream }
    }

    pub(super) fn total(&self, field: impl Fn(&Snapshot) -> u64) -> u64 {
        self.runtime.counters().iter().map(|counters| field(&counters.snapshot())).sum()
    }

    /// Waits until the sum over the shards of a counter is what it should be.
    pub(super) fn wait_for(
        &self,
        what: &str,
        field: impl Fn(&Snapshot) -> u64,
        wanted: impl Fn(u64) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self.total(&field)) {
            assert!(Instant::now() < deadline, "{what} is still {}", self.total(&field));
            std::thread::yield_now();
        }
    }

    /// Stops; everything must have come home.
    pub(super) fn stop(self) {
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

pub(super) struct Client {
    pub(super) stream: TcpStream,
}

pub(super) fn framed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(frame.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    bytes
}

impl Client {
    pub(super) fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(&framed(frame)).expect("the server reads");
    }

    pub(super) fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("an answer comes");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("a whole answer comes");
        frame
    }

    pub(super) fn ask(&mut self, frame: &[u8]) -> Vec<u8> {
        self.send(frame);
        self.receive()
    }

    /// The server closes, and sends nothing before.
    pub(super) fn expect_closed(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => assert_eq!(count, 0, "nothing but the end comes"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
}
