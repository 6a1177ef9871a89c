//! A deletion that the broker's death cut in two: the metadata say that the topic is gone, its files are still there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use corelane_perf::client::connection::Connection;
use corelane_perf::client::messages::create_topics::CreateTopicsRequest;
use corelane_perf::client::messages::delete_topics::DeleteTopicsRequest;
use corelane_perf::client::messages::produce::ProduceRequest;
use corelane_perf::client::records::record::{self, Record};

use crate::broker::{Broker, Home};
use crate::load::{ALL, PATIENCE};

const TOPIC: &str = "deleted";
const PARTITIONS: i32 = 3;
const PRODUCE_VERSION: i16 = 11;

fn connect(broker: &Broker) -> Connection {
    Connection::connect(broker.address(), PATIENCE).expect("the broker serves")
}

fn create(client: &mut Connection) {
    let answer = client.call(&CreateTopicsRequest::one(TOPIC, PARTITIONS), 7).expect("the broker serves");
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

/// A record into each partition; where they landed.
fn produce(client: &mut Connection) -> Vec<i64> {
    let one = |partition| {
        let batch = record::encode_batch(&[Record::of(1, "of the topic's life")]);
        let request = ProduceRequest::one(ALL, TOPIC, partition, batch);
        let answer = client.call(&request, PRODUCE_VERSION).expect("the broker serves");
        let produced = answer.only().expect("one partition");
        assert_eq!(produced.error_code, 0, "{produced:?}");
        produced.base_offset
    };
    (0..PARTITIONS).map(one).collect()
}

/// The directories of topics.
fn topics(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("topics")).expect("a broker ran here");
    let mut found: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp is everywhere");
    assert!(copied.success());
}

#[test]
fn a_deletion_goes_on_after_a_death_between_its_phases() {
    let mut home = Home::new("deletion").over(&[2]);
    let broker = home.start();
    let mut client = connect(&broker);
    create(&mut client);
    assert_eq!([produce(&mut client), produce(&mut client)], [vec![0; 3], vec![1; 3]]);
    assert!(broker.stop().success(), "which writes the records to their segments");
    let [before] = &topics(home.data())[..] else { panic!("one topic has files") };
    let aside = home.data().with_file_name("aside");
    copy(before, &aside);

    let broker = home.start();
    let mut client = connect(&broker);
    let answer = client.call(&DeleteTopicsRequest::one(TOPIC), 5).expect("the broker serves");
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    broker.kill();
    // As if the death had come before the files went.
    if !before.exists() {
        fs::create_dir_all(home.data().join("topics")).expect("the target directory is writable");
        copy(&aside, before);
    }

    let broker = home.start();
    assert_eq!(
        topics(home.data()),
        Vec::<PathBuf>::new(),
        "the second phase was forgotten: {}",
        broker.said()
    );
    let mut client = connect(&broker);
    create(&mut client);
    assert_eq!(produce(&mut client), vec![0; 3], "the new topic of this name begins anew");
    assert!(broker.stop().success());
    let after = topics(home.data());
    assert!(after.len() == 1 && after[0] != *before, "it has an id of its own: {after:?}");
}
