//! What a metadata store of our own writes.

use std::collections::BTreeMap;

use corelane::cluster::image::{Broker, ClusterId, Endpoint, MetadataImage, NewTopic, NodeId};
use corelane::cluster::store::{EmbeddedStore, MetadataStore, Options, Transaction};
use corelane_shards::types::TopicId;

use super::super::input::piece;
use super::super::metadata::{MemoryFiles, now};
use super::Put;

/// Bytes of a log before its first record, of a snapshot before its entries, and of a record before its payload.
const LOG_HEADER_BYTES: usize = 40;
const SNAPSHOT_HEADER_BYTES: usize = 32;
const RECORD_HEADER_BYTES: usize = 24;

/// Kinds of file in the target's input, sealed ones.
const LOG: u8 = 4;
const SNAPSHOT: u8 = 5;

pub(super) fn put(put: &mut Put<'_>) {
    for (name, log_bytes_before_snapshot) in [("log", 1 << 20), ("snapshot", 200)] {
        let files = MemoryFiles::default();
        write(files.clone(), Options { log_bytes_before_snapshot });
        let files = files.contents();
        put(
            "metadata",
            &format!("{name}-files"),
            files.iter().flat_map(|(name, bytes)| as_it_is(name, bytes)).collect(),
        );
        put(
            "metadata",
            &format!("{name}-sealed"),
            files.iter().flat_map(|(name, bytes)| sealed(name, bytes)).collect(),
        );
    }
    let seal = [&[2][..], &piece(&[])].concat();
    for (name, number) in [("greatest", u64::MAX), ("half-the-greatest", u64::MAX / 2), ("no", 0)] {
        let number = number.to_le_bytes();
        let snapshot = [&[SNAPSHOT], &number[..], &piece(&[])].concat();
        put("metadata", &format!("snapshot-of-{name}-revision"), snapshot);
        put("metadata", &format!("log-of-{name}-revision"), [&[LOG], &number[..], &piece(&seal)].concat());
    }
}

/// A cluster with a broker, two topics, and one of them deleted again.
fn write(files: MemoryFiles, options: Options) {
    let store = EmbeddedStore::open(files, options).expect("an empty store opens");
    let image = || MetadataImage::from_range(now(store.range(b"")).expect("read")).expect("an image");
    let commit = |transaction: Transaction| {
        now(store.commit(transaction)).expect("committed");
    };
    commit(image().initialise(ClusterId([7; 16])).expect("an empty image"));
    let endpoint = Endpoint { listener: "PLAINTEXT".into(), host: "here".into(), port: 9092 };
    let broker = Broker { node_id: NodeId(1), incarnation: [1; 16], rack: None, endpoints: vec![endpoint] };
    commit(image().start_broker(&broker).expect("a small broker").0);
    for (name, id) in [("t", 2), ("u.v", 3)] {
        let new = NewTopic {
            name: name.into(),
            id: TopicId([id; 16]),
            partitions: 2,
            replication_factor: 1,
            overrides: BTreeMap::from([("retention.ms".into(), "1000".into())]),
        };
        commit(image().create_topic(new).expect("a new topic").0);
    }
    commit(image().begin_delete(TopicId([3; 16])).expect("it exists").expect("it lives"));
    commit(image().finish_delete(TopicId([3; 16])).expect("it is being deleted"));
}

/// A file of the target's input, of the kind that its name says.
fn as_it_is(name: &str, bytes: &[u8]) -> Vec<u8> {
    let (kind, number) = kind_and_number(name);
    [&[kind], &number.to_le_bytes()[..], &piece(bytes)].concat()
}

fn sealed(name: &str, bytes: &[u8]) -> Vec<u8> {
    let (kind, number) = kind_and_number(name);
    let (kind, content) = match kind {
        0 => (LOG, records(&bytes[LOG_HEADER_BYTES..])),
        _ => (SNAPSHOT, bytes[SNAPSHOT_HEADER_BYTES..].to_vec()),
    };
    [&[kind], &number.to_le_bytes()[..], &piece(&content)].concat()
}

fn kind_and_number(name: &str) -> (u8, u64) {
    let kind = u8::from(name.starts_with("snapshot"));
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    (kind, digits.parse().expect("a revision"))
}

/// The records of a log, as the target seals them: kind and payload.
fn records(mut log: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    while log.len() >= RECORD_HEADER_BYTES {
        let length = u32::from_le_bytes(*log[8..].first_chunk().expect("a header")) as usize;
        let payload = &log[RECORD_HEADER_BYTES..][..length];
        records.push(log[4]);
        records.extend(piece(payload));
        log = &log[RECORD_HEADER_BYTES + length.next_multiple_of(8)..];
    }
    records
}
