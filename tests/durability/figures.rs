//! What an operator is shown: figures that add up after a known load, and a word about every damaged segment.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use corelane_perf::client::connection::Connection;
use corelane_perf::client::messages::create_topics::CreateTopicsRequest;
use corelane_perf::client::messages::fetch::FetchRequest;
use corelane_perf::client::messages::produce::ProduceRequest;
use corelane_perf::client::records::BatchHeader;
use corelane_perf::client::records::record::{self, Record};
use corelane_perf::client::wire::TopicId;
use corelane_shards::format::journal::{ENTRY_ALIGN, ENTRY_HEADER_BYTES, GROUP_HEADER_BYTES};

use crate::broker::{Broker, Home};
use crate::load::{ALL, PATIENCE};
use crate::powercut::left_out;

const TOPIC: &str = "figures";
const PARTITIONS: i32 = 3;
const REQUESTS: u64 = 50;
const BLOCK_BYTES: u64 = 4096;

const PRODUCE_VERSION: i16 = 11;
const FETCH_VERSION: i16 = 12;
const CORRUPT_MESSAGE: i16 = 2;

/// Between two looks at the broker's figures.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

fn connect(address: SocketAddr) -> Connection {
    Connection::connect(address, PATIENCE).expect("the broker serves")
}

fn create_topic(connection: &mut Connection) {
    let request = CreateTopicsRequest::one(TOPIC, PARTITIONS);
    let answer = connection.call(&request, 7).expect("the broker serves");
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

fn batch(number: u64, sequence: i32) -> Vec<u8> {
    let bytes = usize::try_from(100 + 37 * number).expect("short");
    let records = [Record::of(1, vec![0x61; bytes])];
    BatchHeader::of(&records).from_producer(4711, 0, sequence).encode(&record::encode(&records))
}

/// Produces one batch with acks=all and waits for its offset.
fn produce(connection: &mut Connection, partition: i32, batch: Vec<u8>) -> i64 {
    let request = ProduceRequest::one(ALL, TOPIC, partition, batch);
    let answer = connection.call(&request, PRODUCE_VERSION).expect("the broker serves");
    let produced = answer.only().expect("one partition");
    assert_eq!(produced.error_code, 0, "{produced:?}");
    produced.base_offset
}

/// The error of a fetch, and how many bytes of records came.
fn fetch(connection: &mut Connection, offset: i64) -> (i16, usize) {
    let request = FetchRequest::one(TOPIC, TopicId::default(), 0, offset, 0);
    let answer = connection.call(&request, FETCH_VERSION).expect("the broker serves");
    let fetched = answer.only().expect("one partition");
    (fetched.error_code, fetched.records.as_ref().map_or(0, Vec::len))
}

/// Looks until a condition holds of the broker's figures.
fn await_figures(broker: &Broker, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: {}", broker.said());
        thread::sleep(POLL_INTERVAL);
    }
}

#[test]
fn figures_add_up_after_a_known_load() {
    if left_out("figures") {
        return;
    }
    let mut home = Home::new("figures");
    let broker = home.start();
    let mut connection = connect(broker.address());
    create_topic(&mut connection);
    let mut journaled = 0;
    for number in 0..REQUESTS {
        let batch = batch(number, i32::try_from(number).expect("few"));
        let entry = (ENTRY_HEADER_BYTES + batch.len()).next_multiple_of(ENTRY_ALIGN);
        journaled += ((GROUP_HEADER_BYTES + entry) as u64).next_multiple_of(BLOCK_BYTES);
        assert_eq!(produce(&mut connection, 0, batch), i64::try_from(number).expect("few"));
    }
    let last = i32::try_from(REQUESTS - 1).expect("few");
    assert_eq!(
        produce(&mut connection, 0, batch(REQUESTS - 1, last)),
        i64::from(last),
        "it was there already"
    );
    let answered = 1 + REQUESTS + 1;
    await_figures(&broker, "every answered request is counted", || {
        let figure = |name| broker.metric(name);
        let stages = broker.counts("corelane_request_stage_seconds");
        figure("corelane_requests_total") == answered
            && broker.counts("corelane_request_seconds") == [REQUESTS + 1, 0, 1]
            && stages == [[REQUESTS + 1; 5], [0; 5], [1; 5]].concat()
            && figure("corelane_journal_unflushed_bytes") == 0
    });
    // Each request was answered before the next was sent, so that none shared its group. What else was written are empty
    // groups of one block, which vouch for those before them.
    let vouching = broker.metric("corelane_journal_groups_total") - REQUESTS;
    let expected = [
        ("corelane_partitions", 3),
        ("corelane_logs_read_only", 0),
        ("corelane_shard_read_only", 0),
        ("corelane_journal_entries_total", REQUESTS),
        ("corelane_journal_written_bytes_total", journaled + vouching * BLOCK_BYTES),
        ("corelane_journal_bytes", journaled + vouching * BLOCK_BYTES),
        ("corelane_duplicates_total", 1),
        ("corelane_large_batches_unflushed", 0),
        ("corelane_connections_open", 1),
    ];
    let compared = expected.len();
    for (name, value) in expected {
        assert_eq!(broker.metric(name), value, "{name}");
    }
    let writes = broker.counts("corelane_storage_operation_seconds")[0];
    assert!(writes >= REQUESTS, "each group was written: {writes}");
    for size in ["journal", "staging", "cache", "request_memory", "write_reserve"] {
        let bytes = broker.metric(&format!("corelane_{size}_bytes"));
        let capacity = broker.metric(&format!("corelane_{size}_capacity_bytes"));
        assert!(bytes <= capacity && capacity > 0, "{size}: {bytes} of {capacity}");
    }
    println!("{compared} figures after {answered} requests, {vouching} vouching groups");
    assert!(broker.stop().success());
}

/// The one segment file of a log.
fn segment(data: &Path) -> PathBuf {
    let mut folders = vec![data.join("topics")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                return path;
            }
        }
    }
    panic!("there is no segment below {}", data.display());
}

/// A home with a log of many batches in one segment, after a clean stop, and its length.
fn stopped_home(name: &str) -> (Home, u64) {
    let mut home = Home::new(name);
    let broker = home.start();
    let mut connection = connect(broker.address());
    create_topic(&mut connection);
    let batches = 0..REQUESTS;
    let bytes = batches.map(|number| {
        let batch = batch(number, i32::try_from(number).expect("few"));
        let length = batch.len() as u64;
        produce(&mut connection, 0, batch);
        length
    });
    let bytes = bytes.sum();
    drop(connection);
    assert!(broker.stop().success());
    (home, bytes)
}

#[test]
fn a_damaged_segment_is_named_in_the_log_and_counted() {
    if left_out("figures") {
        return;
    }
    let (mut home, _) = stopped_home("damaged-segment");
    let path = segment(home.data());
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("it is ours");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 120).expect("it is long enough");
    file.write_all_at(&[byte[0] ^ 1], 120).expect("it can be written");
    let broker = home.start();
    let mut connection = connect(broker.address());
    assert_eq!(fetch(&mut connection, 0), (CORRUPT_MESSAGE, 0));
    let (error, bytes) = fetch(&mut connection, 1);
    assert!(error == 0 && bytes > 0, "the batches behind it are served: {error}");
    await_figures(&broker, "the read is counted", || broker.metric("corelane_reads_damaged_total") == 1);
    for _ in 0..100 {
        assert_eq!(fetch(&mut connection, 0), (CORRUPT_MESSAGE, 0));
    }
    await_figures(&broker, "each read is counted", || broker.metric("corelane_reads_damaged_total") == 101);
    let said = broker.said();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("segment-damaged.md")).collect();
    assert!(lines[0].contains("segment=0") && lines[0].contains("offset=0"), "{}", lines[0]);
    assert!(lines.len() < 50, "a hundred refusals are no hundred lines: {}", lines.len());
    assert!(broker.stop().success());
}

#[test]
fn a_segment_that_is_cut_or_gone_stops_the_start() {
    if left_out("figures") {
        return;
    }
    let (mut home, bytes) = stopped_home("cut-segment");
    let path = segment(home.data());
    let whole = fs::read(&path).expect("it is there");
    let cuts: [&dyn Fn(); 2] = [
        &|| {
            OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(bytes / 2)).expect("it is ours")
        },
        &|| fs::remove_file(&path).expect("it is ours"),
    ];
    for (cut, word) in cuts.into_iter().zip(["bytes, though", "is missing, though"]) {
        cut();
        let said = home.refuses_to_start();
        assert!(said.contains("E-DIRECTORY-DAMAGED") && said.contains(word), "{said}");
    }
    fs::write(&path, whole).expect("the folder is ours");
    let broker = home.start();
    let (error, bytes) = fetch(&mut connect(broker.address()), 0);
    assert!(error == 0 && bytes > 0, "the file put back is served");
    assert!(broker.stop().success());
}
