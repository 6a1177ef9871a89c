//! Frames that mean harm, before any login: lengths and counts that no frame can hold, at every place of every API.
//!
//! Each must end its connection, none may cost memory that stays, and the broker must serve on.

use corelane_perf::client::connection::Connection;
use corelane_perf::client::wire::Writer;

use crate::broker::Home;
use crate::checker::{self, After, Seen, Verdict};
use crate::load::{self, LOGS, Load, PATIENCE};
use crate::powercut::left_out;

/// Frames sent in all.
const FRAMES: usize = 10_000;

/// Frames after which whatever a broker touches once has been touched.
const FRAMES_WARM: usize = 2_000;

/// The most that resident memory may move between these. KiB.
const MOVED_KIB_MAX: u64 = 1024;

/// A body up to the first place where it lies. What would follow is left out, so that every lie is one.
struct Lying {
    writer: Writer,
    flexible: bool,
    version: i16,
    /// Honest places before the lie.
    honest: usize,
    has_lied: bool,
}

impl Lying {
    /// The count of an array, truly of one element.
    fn count(&mut self) {
        match (self.lies_now(), self.flexible) {
            (None, _) => {}
            (Some(true), true) => self.writer.unsigned_varint(1 << 31),
            (Some(true), false) => self.writer.int32(i32::MAX),
            (Some(false), true) => self.writer.unsigned_varint(2),
            (Some(false), false) => self.writer.int32(1),
        }
    }

    /// The length of a byte string, truly none.
    fn bytes(&mut self) {
        match (self.lies_now(), self.flexible) {
            (None, _) => {}
            (Some(true), true) => self.writer.unsigned_varint(1 << 31),
            (Some(true), false) => self.writer.int32(i32::MAX),
            (Some(false), true) => self.writer.unsigned_varint(1),
            (Some(false), false) => self.writer.int32(0),
        }
    }

    /// A string, truly of one letter.
    fn string(&mut self) {
        match (self.lies_now(), self.flexible) {
            (None, _) => {}
            (Some(true), true) => self.writer.unsigned_varint(1 << 31),
            (Some(true), false) => self.writer.int16(i16::MAX),
            (Some(false), _) => self.writer.string("t"),
        }
    }

    /// The end of a structure.
    fn tags(&mut self) {
        if self.flexible {
            match self.lies_now() {
                None => {}
                Some(true) => self.writer.unsigned_varint(u32::MAX >> 1),
                Some(false) => self.writer.unsigned_varint(0),
            }
        }
    }

    /// Bytes that need no lie, from this version on.
    fn fixed_since(&mut self, version: i16, bytes: usize) {
        if !self.has_lied && self.version >= version {
            self.writer.raw(&vec![0; bytes]);
        }
    }

    fn fixed(&mut self, bytes: usize) {
        self.fixed_since(0, bytes);
    }

    fn lies_now(&mut self) -> Option<bool> {
        if self.has_lied {
            return None;
        }
        self.has_lied = self.honest == 0;
        self.honest = self.honest.saturating_sub(1);
        Some(self.has_lied)
    }
}

/// An API: its key, its versions, the first flexible one, and its body.
type Api = (i16, std::ops::RangeInclusive<i16>, i16, fn(&mut Lying));

const APIS: [Api; 12] = [
    (0, 3..=12, 9, produce),
    (1, 4..=16, 12, fetch),
    (2, 1..=10, 6, list_offsets),
    (3, 0..=13, 9, metadata),
    (10, 0..=6, 3, find_coordinator),
    (18, 3..=5, 3, api_versions),
    (19, 2..=7, 5, create_topics),
    (20, 1..=6, 4, delete_topics),
    (22, 0..=5, 2, init_producer_id),
    (23, 2..=4, 4, offset_for_leader_epoch),
    (32, 1..=4, 4, describe_configs),
    (60, 0..=2, 0, describe_cluster),
];

fn produce(body: &mut Lying) {
    body.string();
    body.fixed(6);
    body.count();
    body.string();
    body.count();
    body.fixed(4);
    body.bytes();
}

fn fetch(body: &mut Lying) {
    if body.version < 15 {
        body.fixed(4);
    }
    body.fixed(13);
    body.fixed_since(7, 8);
    body.count();
    if body.version < 13 {
        body.string()
    } else {
        body.fixed(16)
    }
    body.count();
}

fn list_offsets(body: &mut Lying) {
    body.fixed(4);
    body.fixed_since(2, 1);
    body.count();
    body.string();
    body.count();
}

fn metadata(body: &mut Lying) {
    body.count();
    body.fixed_since(10, 16);
    body.string();
    body.tags();
}

fn find_coordinator(body: &mut Lying) {
    if body.version < 4 {
        body.string();
    }
    body.fixed_since(1, 1);
    if body.version >= 4 {
        body.count();
        body.string();
    }
    body.tags();
}

fn api_versions(body: &mut Lying) {
    body.string();
    body.string();
}

fn create_topics(body: &mut Lying) {
    body.count();
    body.string();
    body.fixed(6);
    body.count();
    body.fixed(4);
    body.count();
    body.fixed(4);
    body.tags();
    body.count();
    body.string();
    body.string();
    body.tags();
}

fn delete_topics(body: &mut Lying) {
    body.count();
    body.string();
}

fn init_producer_id(body: &mut Lying) {
    body.string();
    body.fixed(4);
    body.fixed_since(3, 10);
    body.tags();
}

fn offset_for_leader_epoch(body: &mut Lying) {
    body.fixed_since(3, 4);
    body.count();
    body.string();
    body.count();
}

fn describe_configs(body: &mut Lying) {
    body.count();
    body.fixed(1);
    body.string();
    body.count();
    body.string();
}

fn describe_cluster(body: &mut Lying) {
    body.fixed(1);
    body.fixed_since(1, 1);
    body.fixed_since(2, 1);
    body.tags();
}

/// The frame whose lie has so many honest places before it, or none when the body has no such place.
fn frame(api: &Api, version: i16, honest: usize) -> Option<Vec<u8>> {
    let (key, _, flexible_from, body) = api;
    let flexible = version >= *flexible_from;
    let mut header = Writer::new(false);
    header.int32(0);
    header.int16(*key);
    header.int16(version);
    header.int32(7);
    header.nullable_string(None);
    let writer = Writer::appending(header.into_bytes(), flexible);
    let mut lying = Lying { writer, flexible, version, honest, has_lied: false };
    lying.tags();
    body(&mut lying);
    let mut frame = lying.has_lied.then(|| lying.writer.into_bytes())?;
    let length = i32::try_from(frame.len() - 4).expect("a short frame");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Some(frame)
}

/// Every lie, each in a frame of its own.
fn frames() -> Vec<Vec<u8>> {
    let lengths = [-1, i32::MIN, i32::MAX, i32::MAX - 1].map(|length| length.to_be_bytes().to_vec());
    let mut frames = lengths.to_vec();
    for api in &APIS {
        for version in api.1.clone() {
            frames.extend((0..).map_while(|honest| frame(api, version, honest)));
        }
    }
    frames
}

/// Each cause has its line, which counts those before it that had none: no client can fill the disk with lines.
fn expect_few_lines(said: &str) {
    for cause in ["a connection is closed for its request", "closing the connection"] {
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(cause)).collect();
        let untold = lines
            .iter()
            .filter_map(|line| line.rsplit_once("untold=")?.1.split(' ').next()?.parse::<usize>().ok());
        let told = lines.len() + untold.sum::<usize>();
        println!("{cause}: {} lines for {told} connections", lines.len());
        assert!(!lines.is_empty(), "nobody was told of: {cause}");
        assert!(told <= FRAMES && lines.len() < FRAMES / 20, "{} lines for {told} of: {cause}", lines.len());
    }
}

#[test]
fn hostile_frames_end_their_connections_and_cost_nothing() {
    if left_out("hostile") {
        return;
    }
    let mut home = Home::new("hostile");
    let broker = home.start();
    let frames = frames();
    let mut warm_kib = 0;
    for (at, frame) in frames.iter().cycle().take(FRAMES).enumerate() {
        if at == FRAMES_WARM {
            warm_kib = broker.resident_kib();
        }
        let mut connection = Connection::connect(broker.address(), PATIENCE).expect("the broker serves");
        connection.send_bytes(frame).expect("it is received before it is judged");
        let end = connection.await_close();
        assert!(end.is_ok(), "{frame:02x?} is met with {end:?}");
    }
    let kib = broker.resident_kib();
    println!(
        "{FRAMES} frames of {} kinds; resident {warm_kib} KiB after {FRAMES_WARM}, {kib} KiB in the end",
        frames.len()
    );
    expect_few_lines(&broker.said());
    assert!(frames.len() > 200, "{} kinds of frames", frames.len());
    assert!(kib.abs_diff(warm_kib) < MOVED_KIB_MAX, "resident memory moved from {warm_kib} to {kib} KiB");

    load::create_topics(broker.address());
    let running = Load::new(1).start(broker.address(), [0; LOGS]);
    running.await_acks(100);
    let mut load = running.finish();
    // A consumer sees what is durable, and acks=1 does not wait for that; a stop does.
    assert!(broker.stop().success());
    let broker = home.start();
    let mut verdict = Verdict::default();
    let seen = checker::read_all(broker.address(), &mut verdict);
    checker::judge(&seen, &Seen::default(), &mut load, After::Kill, &mut verdict);
    verdict.expect_clean(&broker.said());
    assert!(broker.stop().success());
}
