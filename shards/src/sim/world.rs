//! One simulated broker: shards, their disk and staging memory, clients, and everything that can happen to them.
//!
//! The world owns the order of events. It keeps the operations that the cores asked for and completes them in any order;
//! in between, clients append and fetch, processes die, power fails. What was promised is the [`oracle`](super::oracle)'s.

mod checks;
mod clients;
mod damage;
mod hostile;
mod indexes;
mod process;
mod restart;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

pub use hostile::{Answers, open_changed};

use super::directory::{Directory, journal_path, manifest_path, partition_path, segment_path, write_index};
use super::disk::SimDisk;
use super::oracle::{Compared, LogHistory, Loss, Oracle, Sent, Violation, violation};
use super::profile::Profile;
use super::random::Random;
use super::report::Hits;
use crate::core::effect::{Completion, Effect, Operation, OperationError, SegmentFile, Tag};
use crate::core::journal::{FlushMethod, Geometry};
use crate::core::partition::Config;
use crate::core::recovery::{self, DiskError, IndexFiles, Opening};
use crate::core::{Acks, AppendError, Rule, Rules, Shard, Tuning};
use crate::format::batch::{TimestampType, fixture};
use crate::memory::{Mapping, Slab, Staging};
use crate::types::{
    LeaderEpoch, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, ShardIndex,
    Timestamp, TopicId,
};

/// The longest group, and a chunk of staging memory, in a simulation. Bytes.
const GROUP_BYTES_MAX: u64 = 16 << 10;
/// A fresh journal. Bytes.
const JOURNAL_BYTES: u64 = 64 << 10;

/// The world of one seed.
pub struct World {
    profile: Profile,
    rules: Rules,
    random: Random,
    disk: SimDisk,
    staged: Vec<Option<Rc<Mapping>>>,
    shards: Vec<Running>,
    known: BTreeSet<PartitionId>,
    deleted: BTreeSet<PartitionId>,
    topics_made: u8,
    epoch_floor: i32,
    now: i64,
    clients: BTreeMap<PartitionId, Client>,
    oracle: Oracle,
    tags: BTreeMap<Tag, Pending>,
    last_tag: u64,
    last_uid: u64,
    last_producer: i64,
    late_writes: Vec<(String, u64, Vec<u8>)>,
    /// Index files as they were once, by path.
    old_indexes: BTreeMap<String, Vec<u8>>,
    damaged: bool,
    /// The process before said at its end that nothing is to be recovered.
    was_stopped_cleanly: bool,
    /// Nothing new fits on the disk until the next restart.
    full: bool,
    /// Logs that the metadata store does not know for now, and what each was when it was forgotten.
    forgotten: BTreeMap<PartitionId, Forgotten>,
    halted: bool,
    /// How often each kind of fault and each branch of recovery was met.
    pub hits: Hits,
}

struct Running {
    core: Shard,
    manifest: String,
    in_flight: Vec<(Effect, u64)>,
    /// What the core asked for or answered while somebody waited for something else.
    not_taken: Vec<Effect>,
}

/// A producer of one log: idempotent, with its batches in order until they are answered.
struct Client {
    producer: ProducerId,
    next_sequence: i32,
    acks: Acks,
    /// Sent and not appended yet, or to be sent again.
    queue: VecDeque<(u64, Vec<u8>)>,
    consumer_at: Offset,
    /// Where another consumer is, that reads the log from its start again and again.
    reader_at: Offset,
}

/// A log while the metadata store does not know it.
struct Forgotten {
    history: LogHistory,
    client: Client,
    /// What the restart that forgot it may have taken from it.
    loss: Loss,
    /// Whether that restart has not ended yet.
    is_fresh: bool,
}

enum Pending {
    Append(PartitionId, u64),
    Fetch(PartitionId),
    /// A consumer waits for the record at this offset.
    Watch(PartitionId, Offset),
    DeleteRecords(PartitionId),
}

impl World {
    /// A fresh directory under a seed.
    pub fn new(seed: u64, rules: Rules) -> Result<World, Violation> {
        let mut random = Random::new(seed);
        let profile = Profile::draw(&mut random);
        let mut world = World {
            profile,
            rules,
            random,
            disk: SimDisk::default(),
            staged: Vec::new(),
            shards: Vec::new(),
            known: BTreeSet::new(),
            deleted: BTreeSet::new(),
            topics_made: 0,
            epoch_floor: 0,
            now: 1_700_000_000_000,
            clients: BTreeMap::new(),
            oracle: Oracle::default(),
            tags: BTreeMap::new(),
            last_tag: 0,
            last_uid: 0,
            last_producer: 0,
            late_writes: Vec::new(),
            old_indexes: BTreeMap::new(),
            damaged: false,
            was_stopped_cleanly: false,
            full: false,
            forgotten: BTreeMap::new(),
            halted: false,
            hits: Hits::default(),
        };
        for _ in 0..profile.partitions {
            world.create_topic();
        }
        world.restart(None)?;
        Ok(world)
    }

    /// Makes one thing happen. Gives back what it was, for the trace.
    pub fn step(&mut self) -> Result<&'static str, Violation> {
        if self.halted {
            return Ok("halted");
        }
        self.now += i64::from(self.random.per_mille(300)) * self.random.below(4) as i64;
        let p = self.profile;
        let choices: [(&'static str, u32); 18] = [
            ("append", p.append),
            ("complete", p.complete),
            ("turn", p.turn),
            ("fetch", p.fetch),
            ("watch", p.watch),
            ("seek", p.seek),
            ("write indexes", p.write_indexes),
            ("checkpoint", p.checkpoint),
            ("wait", p.wait),
            ("jump", p.jump),
            ("delete records", p.delete_records),
            ("recreate", p.recreate),
            ("kill", p.kill),
            ("power", p.power),
            ("stop", p.stop),
            ("damage", p.damage),
            ("fork", p.fork),
            ("disk full", p.full),
        ];
        let total: u32 = choices.iter().map(|c| c.1).sum();
        let mut at = u32::try_from(self.random.below(total as usize)).expect("weights are small");
        let name = choices.iter().find(|c| {
            let hit = at < c.1;
            at = at.saturating_sub(c.1);
            hit
        });
        let name = name.map_or("turn", |c| c.0);
        self.act(name)?;
        Ok(name)
    }

    fn act(&mut self, name: &'static str) -> Result<(), Violation> {
        match name {
            "append" => self.client_appends()?,
            "complete" => self.complete_one()?,
            "turn" => self.turn()?,
            "fetch" => self.consumer_fetches()?,
            "watch" => self.consumer_watches()?,
            "seek" => self.somebody_seeks()?,
            "write indexes" => self.write_indexes()?,
            "checkpoint" => self.pick_shard().core.request_checkpoint(),
            "wait" => self.now += 30,
            "jump" => self.jump(),
            "disk full" => self.full = true,
            "delete records" => self.delete_records()?,
            "recreate" => self.recreate()?,
            "kill" => self.restart(Some(Loss::Process))?,
            "power" => self.restart(Some(Loss::Power))?,
            "stop" => self.stop_and_restart()?,
            "damage" => self.damage_and_restart()?,
            _ => self.compare_with_replay()?,
        }
        self.hits.count(name);
        Ok(())
    }

    /// Runs everything to its end without further faults, then checks that nothing is stuck and every log reads whole.
    pub fn finish(&mut self) -> Result<Compared, Violation> {
        if !self.halted {
            let is_calm = self.profile.is_calm();
            self.profile.errors = 0;
            self.profile.flush_errors = 0;
            self.profile.misdirected = 0;
            self.full = false;
            self.settle()?;
            self.count_running();
            if is_calm {
                self.hits.count("calm world");
            }
            for id in self.known.clone() {
                self.check_times(id)?;
                self.read_whole(id)?;
                self.check_files(id)?;
            }
        }
        Ok(self.oracle.compared)
    }

    /// The state in a line, for a trace.
    pub fn describe(&self) -> String {
        let mut line = String::new();
        for (at, shard) in self.shards.iter().enumerate() {
            let journal = shard.core.journal();
            line += &format!(
                "| shard {at}: group {} durable {} settled {} live {} of {} in flight {} {:?} ",
                journal.next(),
                journal.durable(),
                journal.settled(),
                journal.bytes_live(),
                journal.geometry().capacity,
                shard.in_flight.len(),
                shard.core.stopped(),
            );
            for p in shard.core.partitions() {
                line += &format!(
                    "{:02x}[{} {} {} {}{}] ",
                    p.id.topic.0[0],
                    p.log_start,
                    p.flushed.boundary.end,
                    p.high_watermark,
                    p.end,
                    if p.stopped_from.is_some() { " stopped" } else { "" },
                );
            }
        }
        line
    }

    /// What the disk did.
    pub fn faults(&self) -> super::disk::Faults {
        self.disk.faults
    }

    /// A number that two runs of the same seed share, and hardly two others.
    pub fn fingerprint(&self) -> u64 {
        let mut sum = self.random.clone().bits();
        for (id, log) in &self.oracle.logs {
            for batch in &log.batches {
                let mixed = sum ^ batch.uid ^ batch.base.get().cast_unsigned() ^ u64::from(batch.acked) << 60;
                sum = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(id.topic.0[0]);
            }
        }
        sum
    }
}

fn owner(id: PartitionId, shards: usize) -> usize {
    usize::from(id.topic.0[0]) % shards
}
