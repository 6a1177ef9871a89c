//! What a dump says of a directory that nothing is wrong with.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Home, LARGE, SMALL};
use crate::dumped::{Dumped, every_file, files};

/// How long the operations of a killed broker may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at its lock.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[test]
fn what_was_produced_is_shown_live_after_a_kill_and_after_a_stop() {
    let home = Home::new("whole");
    let broker = home.start();
    broker.create_topics();
    broker.produce();
    check_journal(&home.data(), 1);
    check_overview(&home.data(), 1);
    let live = Dumped::of(&every_file(&home.data()), &[]);
    live.expect_whole();
    let notes: Vec<_> = live.all("note").iter().map(|note| note["text"].to_string()).collect();
    assert_eq!(notes.iter().filter(|note| note.contains("uses this data directory")).count(), 1, "{notes:?}");
    assert_eq!(live.all("lock")[0]["held"], true);

    broker.kill();
    await_unlocked(&home.data());
    let killed = check_overview(&home.data(), 1);
    let expected = (SMALL.0 + LARGE) as u64;
    assert_eq!(killed.all("shard")[0]["entries_to_replay"].as_u64(), Some(expected));

    let left = killed.all("note").iter().any(|note| note["text"].to_string().contains("left staging files"));
    assert!(left, "what staging memory has is not shown");

    let broker = home.start();
    broker.produce();
    broker.stop();
    check_overview(&home.data(), 2);
    check_segments(&home.data(), 2);
    let stopped = Dumped::of(&every_file(&home.data()), &[]);
    stopped.expect_whole();
    assert_eq!(stopped.all("format")[0]["stopped_cleanly"], true);
    assert_eq!(stopped.all("journal_summary")[0]["entries_to_replay"], 0);
    assert!(stopped.all("operation").len() > 5, "topics stand in the metadata");
    let logs = stopped.of_log("log", "small").len() + stopped.of_log("log", "large").len();
    assert_eq!((logs, stopped.all("root").len(), stopped.all("manifest").len()), (2, 1, 1));
}

/// Waits until the killed broker's last operation has ended, which keeps its lock.
fn await_unlocked(data: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while Dumped::of(&[data.join("lock")], &[]).all("lock")[0]["held"] == true {
        assert!(Instant::now() < deadline, "the lock stays with a process that is gone");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Each batch of the present opening has its entry.
fn check_journal(data: &Path, times: usize) {
    let dumped = Dumped::of(&[data.join("journal/0")], &[]);
    let entries = dumped.expect_whole().all("entry");
    let count = |kind: &str| entries.iter().filter(|entry| entry["entry"] == kind).count();
    assert_eq!((count("small"), count("large")), (times * SMALL.0, times * LARGE));
    let last = dumped.of_log("entry", "small").last().map(|entry| entry["last_offset"].as_u64());
    assert_eq!(last, Some(Some((times * SMALL.0 * SMALL.1 - 1) as u64)));
}

/// Both topics are there and end where they should.
fn check_overview(data: &Path, times: usize) -> Dumped {
    let dumped = Dumped::of(&[data.to_owned()], &[]);
    let end = |topic: &str| dumped.expect_whole().of_log("log", topic)[0]["end"].as_u64();
    assert_eq!(end("small"), Some((times * SMALL.0 * SMALL.1) as u64));
    assert_eq!(end("large"), Some((times * LARGE) as u64));
    assert_eq!(dumped.all("topic").len(), 2);
    dumped
}

/// Segments hold every batch and every record.
fn check_segments(data: &Path, times: usize) {
    let dumped = Dumped::of(&files(&data.join("topics"), &|name| name.ends_with(".log")), &["--records"]);
    let batches = dumped.expect_whole().all("batch");
    assert_eq!(batches.len(), times * (SMALL.0 + LARGE));
    assert!(batches.iter().all(|batch| batch["crc"] == "ok"));
    let values: Vec<_> = dumped.all("record").iter().map(|record| record["value"].to_string()).collect();
    assert_eq!(values.len(), times * (SMALL.0 * SMALL.1 + LARGE));
    assert!(values.contains(&"\"record 4 of batch 29\"".to_owned()));
    assert!(values.iter().any(|value| value.len() > 200_000), "JSON has all of a large value");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let home = Home::new("pipe");
    let broker = home.start();
    broker.create_topics();
    broker.produce();
    broker.stop();
    let segments = files(&home.data().join("topics"), &|name| name.ends_with(".log"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["dump", "--json", "--records"])
        .args(segments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut line = String::new();
    // Far more follows than a pipe holds.
    BufReader::new(child.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("it says something");
    assert!(line.starts_with('{'), "{line}");
    let mut errors = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut errors).expect("text");
    assert_eq!((child.wait().expect("it is ours").code(), errors.as_str()), (Some(0), ""));
}
