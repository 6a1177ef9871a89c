//! Reads every log to its end and compares each record with what was sent and promised.
//!
//! It shares no code with the broker. What was read once counts as shown to a consumer and must be there for ever.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use corelane_perf::client::connection::{Connection, Error};
use corelane_perf::client::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, FetchedPartition};
use corelane_perf::client::records::{BatchView, batches};
use corelane_perf::client::wire::TopicId;

use crate::load::{ALL, Batch, LOGS, Load, Name, PARTITIONS, PATIENCE, TOPICS, partition, topic};

/// The last version that names topics.
const FETCH_VERSION: i16 = 12;

const FETCH_BYTES: i32 = 8 << 20;

/// Findings that are told in full.
const TOLD_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Records read and compared to the last byte.
    pub(crate) records: u64,
    /// Acknowledged records looked for.
    pub(crate) acked: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    /// Acknowledged at another offset than where it is.
    pub(crate) misplaced: u64,
    /// In a log of another name.
    pub(crate) wrong_log: u64,
    /// Bytes that nobody sent, a bad checksum included.
    pub(crate) wrong_bytes: u64,
    /// Offsets that step back or leave a hole.
    pub(crate) offsets_broken: u64,
    /// Shown to a consumer, and gone or another one now.
    pub(crate) taken_back: u64,
    /// acks=1, above the log's end after a loss of power: allowed.
    pub(crate) lost_as_allowed: u64,
    told: Vec<String>,
}

impl Verdict {
    fn tell(&mut self, finding: impl FnOnce() -> String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(finding());
        }
    }

    /// Nothing is wrong, and something was compared.
    pub(crate) fn expect_clean(&self, said: &str) {
        assert!(self.records > 0 && self.acked > 0, "nothing was compared: {self:?}");
        assert!(self.told.is_empty(), "{self:#?}\nthe broker said: {said}");
    }

    /// Adds another verdict.
    pub(crate) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.acked += other.acked;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.misplaced += other.misplaced;
        self.wrong_log += other.wrong_log;
        self.wrong_bytes += other.wrong_bytes;
        self.offsets_broken += other.offsets_broken;
        self.taken_back += other.taken_back;
        self.lost_as_allowed += other.lost_as_allowed;
        self.told.extend(other.told);
    }
}

/// The logs as a consumer saw them, record by record.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen([Vec<Name>; LOGS]);

impl Seen {
    /// The logs' ends.
    pub(crate) fn ends(&self) -> [i64; LOGS] {
        self.0.each_ref().map(|log| i64::try_from(log.len()).expect("a short log"))
    }
}

/// Reads every log from its start to the high watermark.
pub(crate) fn read_all(address: SocketAddr, verdict: &mut Verdict) -> Seen {
    let mut connection = Connection::connect(address, PATIENCE).expect("the broker serves");
    let mut seen = Seen::default();
    loop {
        let before = seen.ends();
        let at_end = read_on(&mut connection, &mut seen, verdict, 0).expect("the broker serves");
        if at_end {
            return seen;
        }
        assert_ne!(before, seen.ends(), "a fetch below the high watermark gives nothing: {verdict:?}");
    }
}

/// Reads behind the producers until the connection breaks or the broker refuses; gives what a consumer was shown.
pub(crate) fn follow(address: SocketAddr, mut seen: Seen) -> (Seen, Verdict) {
    let mut verdict = Verdict::default();
    if let Ok(mut connection) = Connection::connect(address, PATIENCE) {
        while read_on(&mut connection, &mut seen, &mut verdict, 50).is_ok() {}
    }
    (seen, verdict)
}

/// One fetch of all logs; whether all were at their ends. A refused log counts as a broken connection.
fn read_on(
    connection: &mut Connection,
    seen: &mut Seen,
    verdict: &mut Verdict,
    max_wait_ms: i32,
) -> Result<bool, Error> {
    let answer = connection.call(&fetch_request(seen, max_wait_ms), FETCH_VERSION)?;
    let mut at_end = answer.error_code == 0;
    for (at, fetched) in answer.topics.iter().enumerate() {
        assert_eq!(fetched.name, topic(at * PARTITIONS), "topics are answered in their order");
        for fetched in &fetched.partitions {
            let log = at * PARTITIONS + usize::try_from(fetched.partition).expect("a partition");
            if fetched.error_code != 0 {
                return Err(Error::Closed { buffered: 0 });
            }
            read_log(log, fetched, &mut seen.0[log], verdict);
            at_end &= i64::try_from(seen.0[log].len()).expect("a short log") >= fetched.high_watermark;
        }
    }
    Ok(at_end)
}

fn fetch_request(seen: &Seen, max_wait_ms: i32) -> FetchRequest {
    let ends = seen.ends();
    let fetch_partition = |log: usize| FetchPartition {
        partition: partition(log),
        current_leader_epoch: -1,
        fetch_offset: ends[log],
        last_fetched_epoch: -1,
        max_bytes: FETCH_BYTES,
    };
    let fetch_topic = |at: usize| FetchTopic {
        name: topic(at * PARTITIONS),
        topic_id: TopicId::NONE,
        partitions: (at * PARTITIONS..(at + 1) * PARTITIONS).map(fetch_partition).collect(),
    };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        isolation_level: 0,
        session_id: 0,
        session_epoch: -1,
        topics: (0..TOPICS).map(fetch_topic).collect(),
        forgotten: Vec::new(),
        rack_id: String::new(),
    }
}

fn read_log(log: usize, fetched: &FetchedPartition, seen: &mut Vec<Name>, verdict: &mut Verdict) {
    for batch in batches(fetched.records.as_deref().unwrap_or_default()) {
        match batch {
            Ok(batch) => read_batch(log, &batch, seen, verdict),
            Err(error) => {
                verdict.wrong_bytes += 1;
                verdict.tell(|| format!("log {log} at {}: {error}", seen.len()));
            }
        }
    }
}

fn read_batch(log: usize, batch: &BatchView<'_>, seen: &mut Vec<Name>, verdict: &mut Verdict) {
    for record in batch.records().expect("nothing is compressed") {
        let Ok(record) = record else {
            verdict.wrong_bytes += 1;
            return verdict.tell(|| format!("log {log}: {record:?}"));
        };
        verdict.records += 1;
        if record.offset != i64::try_from(seen.len()).expect("a short log") {
            verdict.offsets_broken += 1;
            verdict.tell(|| format!("log {log}: offset {} follows {} records", record.offset, seen.len()));
        }
        let value = record.value.unwrap_or_default();
        let Some(name) = Name::of(value).filter(|name| name.value() == value) else {
            verdict.wrong_bytes += 1;
            return verdict.tell(|| format!("log {log} at {}: not what was sent", record.offset));
        };
        if name.log != log {
            verdict.wrong_log += 1;
            verdict.tell(|| format!("log {log} at {}: {name:?}", record.offset));
        }
        seen.push(name);
    }
}

/// Whether a loss of power may have taken what acks=1 acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Kill,
    Cut,
}

/// Compares what is there now with what was shown before and with what was promised. What was lost as allowed is
/// promised no more.
pub(crate) fn judge(now: &Seen, before: &Seen, load: &mut Load, after: After, verdict: &mut Verdict) {
    for (log, (now, before)) in now.0.iter().zip(&before.0).enumerate() {
        let kept = now.iter().zip(before).take_while(|(now, before)| now == before).count();
        if kept < before.len() {
            verdict.taken_back += (before.len() - kept) as u64;
            verdict.tell(|| format!("log {log}: a consumer saw {} records, {kept} are there", before.len()));
        }
        judge_order(now, verdict);
    }
    let there: [HashSet<&Name>; LOGS] = now.0.each_ref().map(|log| log.iter().collect());
    for producer in &mut load.producers {
        producer.acked.retain(|batch| judge_batch(batch, now, &there[batch.first.log], after, verdict));
    }
}

/// Each producer's numbers grow, each once.
fn judge_order(log: &[Name], verdict: &mut Verdict) {
    let mut last: HashMap<usize, u64> = HashMap::new();
    let mut there = HashSet::new();
    for (offset, name) in log.iter().enumerate() {
        if !there.insert(name) {
            verdict.duplicated += 1;
            verdict.tell(|| format!("{name:?} is there again at {offset}"));
        } else if last.get(&name.producer).is_some_and(|last| *last > name.number) {
            verdict.reordered += 1;
            verdict.tell(|| format!("{name:?} at {offset} follows a later one"));
        }
        last.insert(name.producer, name.number);
    }
}

/// Each acknowledged record is where the broker said. False when the batch was lost as allowed.
fn judge_batch(
    batch: &Batch,
    now: &Seen,
    there: &HashSet<&Name>,
    after: After,
    verdict: &mut Verdict,
) -> bool {
    let log = &now.0[batch.first.log];
    let may_be_lost = after == After::Cut && batch.acks != ALL;
    if may_be_lost
        && batch.offset >= i64::try_from(log.len()).expect("a short log")
        && !there.contains(&batch.first)
    {
        verdict.lost_as_allowed += batch.records;
        return false;
    }
    for (at, name) in batch.names() {
        verdict.acked += 1;
        let found = usize::try_from(batch.offset + at).ok().and_then(|at| log.get(at));
        if found == Some(&name) {
            continue;
        }
        let is_there = there.contains(&name);
        *if is_there { &mut verdict.misplaced } else { &mut verdict.lost } += 1;
        verdict
            .tell(|| format!("{name:?} is not at {} of {} records: {batch:?}", batch.offset + at, log.len()));
    }
    true
}
