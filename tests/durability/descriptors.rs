//! A broker that may have few files and sockets open: many logs, more connections than there is room for, and nothing that
//! it needs for its own files is taken from it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use corelane_perf::client::connection::Connection;
use corelane_perf::client::messages::create_topics::CreateTopicsRequest;
use corelane_perf::client::messages::produce::ProduceRequest;
use corelane_perf::client::records::record::{self, Record};

use crate::broker::Home;
use crate::load::{ALL, PATIENCE};

const TOPIC: &str = "many-logs";
const PARTITIONS: i32 = 600;

/// Of one record; so that the journal fills twice and checkpoints write to every log's file.
const RECORD_BYTES: usize = 64 << 10;

/// What the broker may have open, and how many connect: more logs and more connections than that.
const OPEN_FILES_MAX: usize = 256;
const CONNECTIONS: usize = 400;

const PRODUCE_VERSION: i16 = 11;

/// The broker behind a shell that sets its limit on open files, with these arguments of `ulimit`.
fn limited(name: &str, limit: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.sh"));
    let program = env!("CARGO_BIN_EXE_corelane");
    let script = format!("#!/bin/sh\nulimit {limit} && exec '{program}' \"$@\"\n");
    fs::write(&path, script).expect("the target directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

#[test]
fn few_descriptors_stop_no_log() {
    let program = limited("few-descriptors", &format!("-n {OPEN_FILES_MAX}"));
    let mut home = Home::new("few-descriptors").running(program);
    let broker = home.start();
    let mut client = Connection::connect(broker.address(), PATIENCE).expect("the broker serves");
    let answer = client.call(&CreateTopicsRequest::one(TOPIC, PARTITIONS), 7).expect("the broker serves");
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    let connect = |_| TcpStream::connect(broker.address()).expect("the kernel lets it in");
    let crowd: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
    for partition in 0..PARTITIONS {
        let batch = record::encode_batch(&[Record::of(1, vec![0x61; RECORD_BYTES])]);
        let request = ProduceRequest::one(ALL, TOPIC, partition, batch);
        let answer = client.call(&request, PRODUCE_VERSION).expect("the broker serves");
        let produced = answer.only().expect("one partition");
        assert_eq!(produced.error_code, 0, "partition {partition}: {produced:?}: {}", broker.said());
    }
    let refused = broker.metric("corelane_connections_refused_total");
    assert!(refused > 0, "nobody was turned away");
    assert_eq!(broker.metric("corelane_operations_failed_total"), 0, "{}", broker.said());
    println!("{PARTITIONS} logs written; of {CONNECTIONS} connections {refused} were refused");
    drop(crowd);
    assert!(broker.stop().success());
    let broker = home.start();
    assert_eq!(broker.metric("corelane_recovery_entries"), 0, "the stop left something behind");
    assert!(broker.stop().success());
}

#[test]
fn the_limit_on_open_files_is_raised_as_far_as_allowed() {
    let mut home = Home::new("soft-descriptors").running(limited("soft-descriptors", "-S -n 128"));
    let broker = home.start();
    let limits = broker.limits();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("every process has it");
    let values: Vec<&str> = line.split_whitespace().skip(3).collect();
    assert_eq!(values[0], values[1], "soft and hard differ: {line}");
    assert!(broker.stop().success());
}
