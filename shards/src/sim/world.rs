//! One simulated broker: shards, their disk and staging memory, clients, and everything that can happen to them.
//!
//! The world owns the order of events. It keeps the operations that the cores asked for and completes them in any order;
//! in between, clients append and fetch, processes die, power fails. What was promised is the [`oracle`](super::oracle)'s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::directory::{Directory, journal_path, manifest_path, partition_path, segment_path};
use super::disk::SimDisk;
use super::oracle::{Compared, Loss, Oracle, Sent, Violation, violation};
use super::profile::Profile;
use super::random::Random;
use super::report::Hits;
use crate::core::effect::{Completion, Effect, Operation, OperationError, Tag};
use crate::core::journal::{FlushMethod, Geometry};
use crate::core::partition::Config;
use crate::core::recovery::{self, DiskError, Opening};
use crate::core::{Acks, AppendError, Rule, Rules, Shard, Tuning};
use crate::format::batch::{TimestampType, fixture};
use crate::memory::{Mapping, Slab, Staging};
use crate::types::{
    LeaderEpoch, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, ShardIndex,
    TopicId,
};

/// The longest group, and a chunk of staging memory, in a simulation. Bytes.
const GROUP_BYTES_MAX: u64 = 16 << 10;
/// A fresh journal. Bytes.
const JOURNAL_BYTES: u64 = 64 << 10;
const STAGING_CHUNKS: usize = 4;
const SLAB_BYTES: usize = 4 << 20;

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
    damaged: bool,
    halted: bool,
    /// How often each kind of fault and each branch of recovery was met.
    pub hits: Hits,
}

struct Running {
    core: Shard,
    manifest: String,
    in_flight: Vec<(Effect, u64)>,
}

/// A producer of one log: idempotent, with its batches in order until they are answered.
struct Client {
    producer: ProducerId,
    next_sequence: i32,
    acks: Acks,
    /// Sent and not appended yet, or to be sent again.
    queue: VecDeque<(u64, Vec<u8>)>,
    consumer_at: Offset,
}

enum Pending {
    Append(PartitionId, u64),
    Fetch(PartitionId),
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
            damaged: false,
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
        let choices: [(&'static str, u32); 13] = [
            ("append", p.append),
            ("complete", p.complete),
            ("turn", p.turn),
            ("fetch", p.fetch),
            ("checkpoint", p.checkpoint),
            ("wait", p.wait),
            ("jump", p.jump),
            ("delete records", p.delete_records),
            ("recreate", p.recreate),
            ("kill", p.kill),
            ("power", p.power),
            ("damage", p.damage),
            ("fork", p.fork),
        ];
        let total: u32 = choices.iter().map(|c| c.1).sum();
        let mut at = self.random.below(total as usize) as u32;
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
            "checkpoint" => self.pick_shard().core.request_checkpoint(),
            "wait" => self.now += 30,
            "jump" => self.now += [-3_600_000, 3_600_000, 90_000_000][self.random.below(3)],
            "delete records" => self.delete_records()?,
            "recreate" => self.recreate()?,
            "kill" => self.restart(Some(Loss::Process))?,
            "power" => self.restart(Some(Loss::Power))?,
            "damage" => self.damage_and_restart()?,
            _ => self.compare_with_replay()?,
        }
        self.hits.count(name);
        Ok(())
    }

    /// Runs everything to its end without further faults, then checks that nothing is stuck and every log reads whole.
    pub fn finish(&mut self) -> Result<Compared, Violation> {
        if !self.halted {
            self.profile.errors = 0;
            self.settle()?;
            for id in self.known.clone() {
                self.read_whole(id)?;
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
        let mut sum = self.random.clone().next();
        for (id, log) in &self.oracle.logs {
            for batch in &log.batches {
                let mixed = sum ^ batch.uid ^ batch.base.get().cast_unsigned() ^ u64::from(batch.acked) << 60;
                sum = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(id.topic.0[0]);
            }
        }
        sum
    }

    // ---- clients

    fn pick_shard(&mut self) -> &mut Running {
        let at = self.random.below(self.shards.len());
        &mut self.shards[at]
    }

    fn owner(&self, id: PartitionId) -> usize {
        owner(id, self.shards.len())
    }

    fn pick_log(&mut self) -> Option<PartitionId> {
        let ids: Vec<_> = self.known.iter().copied().collect();
        self.random.pick(&ids).copied()
    }

    fn tag(&mut self, pending: Pending) -> Tag {
        self.last_tag += 1;
        self.tags.insert(Tag(self.last_tag), pending);
        Tag(self.last_tag)
    }

    fn client_appends(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        if self.clients[&id].queue.is_empty() {
            self.make_batch(id);
        }
        while self.send_next(id)? {
            if self.random.per_mille(700) {
                break;
            }
        }
        if self.profile.duplicates && self.random.per_mille(100) {
            self.send_duplicate(id)?;
        }
        Ok(())
    }

    fn make_batch(&mut self, id: PartitionId) {
        let is_large = self.random.per_mille(self.profile.large);
        let records = if is_large { 1 } else { self.random.between(1, 3) };
        let bytes = if is_large { self.random.between(9_000, 24_000) } else { self.random.between(1, 1500) };
        for _ in 0..self.random.between(1, 2) {
            self.last_uid += 1;
            let uid = self.last_uid;
            let values: Vec<Vec<u8>> = (0..records).map(|i| payload(id, uid, i, bytes)).collect();
            let client = self.clients.get_mut(&id).expect("every log has a client");
            let header = fixture::Header::idempotent(
                client.producer,
                ProducerEpoch(0),
                Sequence(client.next_sequence),
            );
            client.next_sequence += i32::try_from(records).expect("few");
            client.queue.push_back((uid, fixture::batch(&header, &values)));
        }
    }

    /// Sends the first batch in the queue. False: it has to wait, or there is none.
    fn send_next(&mut self, id: PartitionId) -> Result<bool, Violation> {
        let Some((uid, bytes)) = self.clients[&id].queue.front().cloned() else { return Ok(false) };
        let tag = self.tag(Pending::Append(id, uid));
        let (at, now, acks) = (self.owner(id), self.now, self.clients[&id].acks);
        if self.random.per_mille(self.profile.die_in_append) {
            let stores = self.random.below(12);
            self.staged[at].as_ref().expect("a running shard has staging memory").set_fuse(Some(stores));
        }
        let core = &mut self.shards[at].core;
        let before = core.partition(id).map(|p| p.end);
        let result = core.append(now, id, &bytes, acks, tag);
        let after = core.partition(id).map(|p| p.end);
        if let (Some(base), Some(end)) = (before, after)
            && base != end
        {
            let sent = Sent { uid, bytes, base, end, acks, acked: false };
            self.oracle.logs.entry(id).or_default().batches.push(sent);
        }
        if self.staged[at].as_ref().is_some_and(|m| m.is_dead()) {
            // What this step asked for never left the process.
            self.hits.count("died in append");
            self.restart(Some(Loss::Process))?;
            return Ok(false);
        }
        self.staged[at].as_ref().expect("as above").set_fuse(None);
        match result {
            Ok(()) => {
                self.clients.get_mut(&id).expect("it just sent").queue.pop_front();
                Ok(true)
            }
            Err(AppendError::Busy) => {
                self.hits.count("busy");
                Ok(false)
            }
            Err(AppendError::Stopped | AppendError::PartitionStopped) => Ok(false),
            Err(error) => Err(violation(id, format!("batch {uid} was refused: {error}"))),
        }
    }

    /// Sends a batch again that was appended and perhaps not answered: it must be recognised.
    fn send_duplicate(&mut self, id: PartitionId) -> Result<(), Violation> {
        let Some(log) = self.oracle.logs.get(&id) else { return Ok(()) };
        let own = self.clients[&id].producer;
        let newest = log.batches.iter().rev().take(5).filter(|b| producer_of(&b.bytes) == own);
        let candidates: Vec<_> = newest.map(|b| (b.uid, b.bytes.clone(), b.base)).collect();
        let Some((uid, bytes, _)) = self.random.pick(&candidates).cloned() else { return Ok(()) };
        let tag = self.tag(Pending::Append(id, uid));
        let (at, now, acks) = (self.owner(id), self.now, self.clients[&id].acks);
        let core = &mut self.shards[at].core;
        let before = core.partition(id).map(|p| p.end);
        let result = core.append(now, id, &bytes, acks, tag);
        let is_appended = before != core.partition(id).map(|p| p.end);
        if is_appended && self.profile.jump == 0 {
            return Err(violation(id, format!("batch {uid} was appended twice")));
        }
        match result {
            Ok(()) if !is_appended => self.hits.count("duplicate recognised"),
            Ok(()) => return Err(violation(id, format!("batch {uid} was appended twice"))),
            Err(_) => {}
        }
        Ok(())
    }

    fn consumer_fetches(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        let anywhere = self.random.per_mille(300);
        let from = if anywhere { Offset(0) } else { self.clients[&id].consumer_at };
        let at = self.owner(id);
        let Some(partition) = self.shards[at].core.partition(id) else { return Ok(()) };
        let from = from.max(partition.log_start);
        let tag = self.tag(Pending::Fetch(id));
        let bytes_max = self.random.between(1, 40_000);
        match self.shards[at].core.fetch(id, from, bytes_max, tag) {
            Ok(Some(fetched)) => self.consumed(id, &fetched),
            Ok(None) | Err(crate::core::FetchError::Busy) => Ok(()),
            Err(error) => Err(violation(id, format!("a fetch from {from} was refused: {error}"))),
        }
    }

    fn consumed(&mut self, id: PartitionId, fetched: &crate::core::Fetched) -> Result<(), Violation> {
        for batch in &fetched.batches {
            let end = self.oracle.read(id, batch)?;
            if let Some(client) = self.clients.get_mut(&id) {
                client.consumer_at = client.consumer_at.max(end);
            }
        }
        Ok(())
    }

    fn delete_records(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        let at = self.owner(id);
        let Some(partition) = self.shards[at].core.partition(id) else { return Ok(()) };
        let (low, high) = (partition.log_start.get(), partition.high_watermark.get());
        let wanted = Offset(low + self.random.below(usize::try_from(high - low + 1).expect("small")) as i64);
        // Only batch boundaries, so that whole logs can be compared batch by batch.
        let log = self.oracle.logs.entry(id).or_default();
        let offset = log.batches.iter().map(|b| b.base).rfind(|base| *base <= wanted).unwrap_or(Offset(low));
        log.start_asked = log.start_asked.max(offset);
        let tag = self.tag(Pending::DeleteRecords(id));
        match self.shards[at].core.delete_records(id, offset, tag) {
            Ok(()) | Err(AppendError::Busy | AppendError::Stopped) => Ok(()),
            Err(error) => {
                Err(violation(id, format!("deleting records before {offset} was refused: {error}")))
            }
        }
    }

    // ---- topics

    fn create_topic(&mut self) -> PartitionId {
        self.topics_made += 1;
        self.last_producer += 1;
        // The incarnation is all that differs between a topic deleted and its successor of the same name and number.
        let id = PartitionId { topic: TopicId([self.topics_made; 16]), index: PartitionIndex(0) };
        self.known.insert(id);
        let acks = if self.random.per_mille(500) { Acks::All } else { Acks::Leader };
        self.add_client(id, acks);
        self.oracle.logs.insert(id, super::oracle::LogHistory::default());
        id
    }

    fn add_client(&mut self, id: PartitionId, acks: Acks) {
        self.last_producer += 1;
        let client = Client {
            producer: ProducerId(self.last_producer),
            next_sequence: 0,
            acks,
            queue: VecDeque::new(),
            consumer_at: Offset(0),
        };
        self.clients.insert(id, client);
    }

    fn recreate(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        if self.topics_made == u8::MAX {
            return Ok(());
        }
        // The metadata store commits first.
        self.known.remove(&id);
        self.deleted.insert(id);
        self.clients.remove(&id);
        self.oracle.logs.remove(&id);
        self.tags.retain(|_, pending| !matches!(pending, Pending::Append(p, _) | Pending::Fetch(p) | Pending::DeleteRecords(p) if *p == id));
        let at = self.owner(id);
        self.shards[at].core.delete_partition(id);
        self.epoch_floor += 1;
        let new = self.create_topic();
        let at = self.owner(new);
        self.shards[at].core.create_partition(new, LeaderEpoch(self.epoch_floor), config());
        self.take_effects(at)
    }

    // ---- the process

    fn turn(&mut self) -> Result<(), Violation> {
        let (at, now) = (self.random.below(self.shards.len()), self.now);
        if self.random.per_mille(self.profile.die_in_append) {
            let stores = self.random.below(8);
            self.staged[at].as_ref().expect("a running shard has staging memory").set_fuse(Some(stores));
        }
        self.shards[at].core.turn(now);
        if self.staged[at].as_ref().is_some_and(|m| m.is_dead()) {
            self.hits.count("died in a turn");
            return self.restart(Some(Loss::Process));
        }
        self.staged[at].as_ref().expect("as above").set_fuse(None);
        self.take_effects(at)
    }

    fn take_effects(&mut self, at: usize) -> Result<(), Violation> {
        for effect in self.shards[at].core.take_effects() {
            match effect {
                Effect::Appended { tag, result } => self.appended(tag, result.map(|a| a.base_offset))?,
                Effect::Fetched { tag, result } => {
                    let Some(Pending::Fetch(id)) = self.tags.remove(&tag) else { continue };
                    match result {
                        Ok(fetched) => self.consumed(id, &fetched)?,
                        Err(crate::core::FetchError::Busy | crate::core::FetchError::OffsetOutOfRange) => {}
                        Err(crate::core::FetchError::Failed(_)) if self.profile.errors > 0 => {}
                        Err(crate::core::FetchError::Damaged) if self.damaged => {
                            self.hits.count("damage reported by a fetch");
                            self.halted = true;
                        }
                        Err(error) => return Err(violation(id, format!("a fetch failed: {error}"))),
                    }
                }
                Effect::RecordsDeleted { tag, result } => {
                    if let (Some(Pending::DeleteRecords(id)), Ok(offset)) = (self.tags.remove(&tag), result)
                        && let Some(log) = self.oracle.logs.get_mut(&id)
                    {
                        log.start_answered = log.start_answered.max(offset);
                    }
                }
                Effect::Room | Effect::Advanced { .. } => {}
                Effect::Stopped { .. } => self.hits.count("shard stopped"),
                operation => {
                    let issued = self.disk.next_write();
                    self.shards[at].in_flight.push((operation, issued));
                }
            }
        }
        Ok(())
    }

    fn appended(&mut self, tag: Tag, result: Result<Offset, AppendError>) -> Result<(), Violation> {
        let Some(Pending::Append(id, uid)) = self.tags.remove(&tag) else { return Ok(()) };
        let Some(log) = self.oracle.logs.get_mut(&id) else { return Ok(()) };
        let Ok(base) = result else { return Ok(()) };
        let sent = log.batches.iter_mut().find(|b| b.uid == uid);
        let sent =
            sent.ok_or_else(|| violation(id, format!("batch {uid} was acknowledged and not appended")))?;
        if sent.base != base {
            return Err(violation(id, format!("batch {uid} at {} was acknowledged at {base}", sent.base)));
        }
        sent.acked = true;
        Ok(())
    }

    fn complete_one(&mut self) -> Result<(), Violation> {
        let at = self.random.below(self.shards.len());
        let count = self.shards[at].in_flight.len();
        if count > 0 {
            let pick = self.random.below(count);
            self.complete(at, pick)?;
        }
        Ok(())
    }

    fn complete(&mut self, at: usize, pick: usize) -> Result<(), Violation> {
        let (effect, issued) = self.shards[at].in_flight.remove(pick);
        if let Effect::RemovePartition { partition } = effect {
            return self.remove_files(at, partition);
        }
        let fails = self.random.per_mille(self.profile.errors);
        let (operation, buffer) = self.perform(at, effect, issued, fails);
        let error = if self.random.per_mille(500) { OperationError::Os(5) } else { OperationError::Short };
        let result = if fails { Err(error) } else { Ok(()) };
        if fails {
            self.hits.count("operation failed");
        }
        self.shards[at].core.complete(Completion { operation, result, buffer });
        self.take_effects(at)
    }

    /// Removes a deleted log's files once no operation on them is under way.
    fn remove_files(&mut self, at: usize, partition: PartitionId) -> Result<(), Violation> {
        let prefix = partition_path(partition);
        let is_busy = self.shards[at]
            .in_flight
            .iter()
            .any(|(e, _)| path_of(e, at).is_some_and(|p| p.starts_with(&prefix)));
        if is_busy {
            self.shards[at].in_flight.push((Effect::RemovePartition { partition }, 0));
            return Ok(());
        }
        for path in self.disk.paths(&prefix) {
            self.disk.remove(&path);
        }
        Ok(())
    }

    /// Does what an operation says, or a part of it if it fails.
    fn perform(
        &mut self,
        at: usize,
        effect: Effect,
        issued: u64,
        fails: bool,
    ) -> (Operation, Option<crate::memory::AlignedBuffer>) {
        let path = path_of(&effect, at).unwrap_or_default();
        let random = &mut self.random;
        let mut lands = || !fails || random.per_mille(500);
        match effect {
            Effect::WriteJournal { operation, position, bytes, durable } => {
                self.disk.write(&path, position, &bytes, &mut lands);
                if durable && !fails {
                    self.disk.flush_write(&path, position, bytes.len());
                }
                (operation, None)
            }
            Effect::WriteSegment { operation, position, bytes, .. } => {
                self.disk.write(&path, position, &bytes, &mut lands);
                (operation, None)
            }
            Effect::FlushJournal { operation } | Effect::FlushSegment { operation, .. } => {
                if !fails {
                    self.disk.flush(&path, issued);
                }
                (operation, None)
            }
            Effect::GrowJournal { operation, bytes } => {
                if !fails {
                    self.disk.grow(&path, bytes);
                }
                (operation, None)
            }
            Effect::CreateSegment { operation, .. } => {
                if !fails {
                    self.disk.create(&path);
                }
                (operation, None)
            }
            Effect::FlushDirectory { operation, .. } => {
                if !fails {
                    self.disk.flush_directory(&path);
                }
                (operation, None)
            }
            Effect::TrimSegment { operation, length, .. } => {
                if !fails {
                    self.disk.truncate(&path, length);
                }
                (operation, None)
            }
            Effect::ReadSegment { operation, position, mut buffer, .. } => {
                let read = self.disk.read(&path, position, &mut buffer);
                buffer.set_length(read);
                (operation, Some(buffer))
            }
            Effect::CommitManifest { operation, manifest } => {
                if !fails {
                    self.disk.replace(&manifest_path(&self.shards[at].manifest), &manifest.encode());
                }
                (operation, None)
            }
            other => unreachable!("{other:?} is no operation"),
        }
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) -> Result<(), Violation> {
        for round in 0..2000 {
            for id in self.known.clone() {
                while self.send_next(id)? {}
            }
            for at in 0..self.shards.len() {
                self.shards[at].core.turn(self.now);
                self.take_effects(at)?;
                while !self.shards[at].in_flight.is_empty() {
                    let before = self.shards[at].in_flight.len();
                    self.complete(at, 0)?;
                    if before == self.shards[at].in_flight.len() && before == 1 {
                        break;
                    }
                }
                if round % 8 == 0 {
                    self.shards[at].core.request_checkpoint();
                }
            }
            self.now += 20;
            if self.is_settled() {
                self.hits.count("settled");
                return Ok(());
            }
        }
        let stuck: Vec<_> = self.known.iter().filter(|id| !self.log_is_settled(**id)).copied().collect();
        Err(Violation(format!(
            "nothing moves any more in {stuck:?}, {} answers outstanding {}",
            self.tags.len(),
            self.describe()
        )))
    }

    fn is_settled(&self) -> bool {
        let stopped = |at: usize| self.shards[at].core.stopped().is_some();
        self.known.iter().all(|id| self.log_is_settled(*id) || stopped(self.owner(*id)))
            && (0..self.shards.len())
                .all(|at| self.shards[at].core.is_settled() || stopped(at) || self.has_stopped_log(at))
    }

    fn has_stopped_log(&self, at: usize) -> bool {
        self.shards[at].core.partitions().any(|p| p.stopped_from.is_some())
    }

    fn log_is_settled(&self, id: PartitionId) -> bool {
        let at = self.owner(id);
        let Some(partition) = self.shards[at].core.partition(id) else { return true };
        partition.stopped_from.is_some()
            || (self.clients[&id].queue.is_empty() && partition.high_watermark == partition.end)
    }

    // ---- the end of a process, and the next one

    fn restart(&mut self, loss: Option<Loss>) -> Result<(), Violation> {
        let live: BTreeMap<_, _> = self
            .shards
            .iter()
            .flat_map(|s| s.core.partitions())
            .map(|p| (p.id, (p.end, p.producers.without_times(), p.stopped_from.is_some())))
            .collect();
        self.crash(loss);
        let mut loss = loss;
        let mut attempt = 0;
        let (opened, report) = loop {
            attempt += 1;
            let dies = attempt < 4 && loss.is_some() && self.random.per_mille(self.profile.die_in_recovery);
            match self.open(dies) {
                Ok(opened) => break opened,
                Err(recovery::Error::Disk(DiskError::Died)) => {
                    self.hits.count("died in recovery");
                    if self.profile.power > 0 && self.random.per_mille(500) {
                        loss = Some(Loss::Power);
                        self.disk.lose_power(&mut self.random, self.profile.garbage);
                        self.staged.iter_mut().for_each(|m| *m = None);
                    }
                }
                Err(error) => {
                    if !self.damaged {
                        return Err(Violation(format!("a restart after {loss:?} failed: {error}")));
                    }
                    self.hits.count("damage reported at a restart");
                    self.halted = true;
                    return Ok(());
                }
            }
        };
        self.count_recovery(&report);
        self.start_shards(opened, report.epoch);
        let writes = std::mem::take(&mut self.late_writes);
        for (path, position, bytes) in writes {
            self.disk.write(&path, position, &bytes, || true);
        }
        let Some(loss) = loss else { return Ok(()) };
        for id in self.known.clone() {
            self.check_recovered(id, loss, live.get(&id))?;
        }
        Ok(())
    }

    fn count_recovery(&mut self, report: &recovery::Report) {
        let replayed = report.replayed;
        for (name, count) in [
            ("groups from the journal", report.groups - report.groups_staged),
            ("groups from staging memory", report.groups_staged),
            ("entries replayed", replayed.entries),
            ("entries from staging memory", replayed.entries_staged),
            ("logs cut at a digest", replayed.logs_cut),
            ("entries of deleted logs", replayed.entries_of_deleted),
        ] {
            self.hits.add(name, count as u64);
        }
    }

    /// The process dies, and perhaps the power with it.
    fn crash(&mut self, loss: Option<Loss>) {
        let fenced = self.rules.hold(Rule::writes_are_fenced);
        for at in 0..self.shards.len() {
            for (effect, _) in std::mem::take(&mut self.shards[at].in_flight) {
                let path = path_of(&effect, at).unwrap_or_default();
                match effect {
                    Effect::WriteJournal { position, bytes, .. }
                    | Effect::WriteSegment { position, bytes, .. } => {
                        // Under way at the end: all of it lands, or a part, or nothing.
                        let chance = [1000, 500, 0][self.random.below(3)];
                        let random = &mut self.random;
                        self.disk.write(&path, position, &bytes, || random.per_mille(chance));
                        if !fenced && self.random.per_mille(500) {
                            self.late_writes.push((path, position, bytes.to_vec()));
                        }
                    }
                    Effect::CreateSegment { .. } if self.random.per_mille(500) => self.disk.create(&path),
                    Effect::CommitManifest { manifest, .. } if self.random.per_mille(500) => {
                        self.disk.replace(&manifest_path(&self.shards[at].manifest), &manifest.encode());
                        self.hits.count("died behind a manifest");
                    }
                    _ => {}
                }
            }
        }
        self.shards.clear();
        self.tags.clear();
        self.staged.iter().flatten().for_each(|m| m.set_fuse(None));
        if loss == Some(Loss::Power) {
            self.late_writes.clear();
            self.disk.lose_power(&mut self.random, self.profile.garbage);
            self.staged.iter_mut().for_each(|m| *m = None);
        }
    }

    fn open(&mut self, dies: bool) -> Result<(Vec<recovery::Opened>, recovery::Report), recovery::Error> {
        if !self.rules.hold(Rule::staging_is_kept) && dies {
            // The mutant maps fresh staging memory before the old one's content is safe.
            self.staged.iter_mut().for_each(|m| *m = None);
        }
        let shards = u16::try_from(self.random.between(1, self.profile.shards_max)).expect("few");
        let steps_left = dies.then(|| self.random.below(14) as u64);
        let deleted = self.deleted.clone();
        let owner = move |id: PartitionId| ShardIndex(u16::try_from(owner(id, shards.into())).expect("few"));
        let opening = Opening {
            shards,
            known: &self.known.clone(),
            is_deleted: &|id| deleted.contains(&id),
            owner: &owner,
            geometry: Geometry { capacity: JOURNAL_BYTES, group_bytes_max: GROUP_BYTES_MAX },
            flush_method: if self.random.per_mille(500) {
                FlushMethod::Dsync
            } else {
                FlushMethod::Fdatasync
            },
            epoch_floor: LeaderEpoch(self.epoch_floor),
            now: self.now,
            rules: &self.rules.clone(),
        };
        let mut directory =
            Directory { disk: &mut self.disk, staged: &self.staged, random: &mut self.random, steps_left };
        recovery::open(&mut directory, &opening)
    }

    fn start_shards(&mut self, opened: Vec<recovery::Opened>, epoch: LeaderEpoch) {
        self.epoch_floor = self.epoch_floor.max(epoch.get());
        self.staged.clear();
        for opened in opened {
            let bytes = STAGING_CHUNKS * usize::try_from(GROUP_BYTES_MAX).expect("small");
            let mapping = Rc::new(Mapping::private(bytes).expect("memory"));
            let staging = Staging::new(Rc::clone(&mapping), usize::try_from(GROUP_BYTES_MAX).expect("small"));
            self.staged.push(Some(mapping));
            let slab = Slab::new(SLAB_BYTES);
            let mut core = Shard::new(opened.start, epoch, staging, slab, tuning(), self.rules.clone());
            for part in &opened.partitions {
                core.open_partition(part, config());
            }
            for part in opened.set_aside {
                core.set_aside(part);
            }
            self.shards.push(Running { core, manifest: opened.manifest, in_flight: Vec::new() });
        }
    }

    fn check_recovered(
        &mut self,
        id: PartitionId,
        loss: Loss,
        live: Option<&(Offset, crate::core::producers::Producers, bool)>,
    ) -> Result<(), Violation> {
        let (found, start, end) = self.read_whole(id)?;
        if self.halted {
            return Ok(());
        }
        let survivors = self.oracle.recovered(id, &found, start, end, loss)?;
        let at = self.owner(id);
        let partition =
            self.shards[at].core.partition(id).ok_or_else(|| violation(id, "a known log is not open"))?;
        if let Some((live_end, producers, stopped)) = live
            && loss != Loss::Damage
            && *live_end == end
            && !stopped
            && self.profile.jump == 0
        {
            self.oracle.compared.replays += 1;
            if *producers != partition.producers.without_times() {
                return Err(violation(id, "the producers differ from those before the restart"));
            }
        }
        self.resume_client(id, survivors);
        Ok(())
    }

    /// The client sends again what is not there, and starts over under a new id if acknowledged batches are among it.
    fn resume_client(&mut self, id: PartitionId, survivors: usize) {
        let log = self.oracle.logs.get_mut(&id).expect("just compared");
        let lost: Vec<Sent> = log.batches.split_off(survivors);
        let log_end = log.batches.last().map_or(Offset(0), |b| b.end);
        let client = self.clients.get_mut(&id).expect("every log has a client");
        client.consumer_at = client.consumer_at.min(log_end);
        if lost.iter().any(|b| b.acked) {
            let acks = client.acks;
            self.hits.count("acks=1 lost with the power");
            self.add_client(id, acks);
            return;
        }
        for batch in lost.into_iter().rev() {
            client.queue.push_front((batch.uid, batch.bytes));
        }
    }

    /// Reads a log from its start to its high watermark through the core, disk reads included.
    fn read_whole(
        &mut self,
        id: PartitionId,
    ) -> Result<(Vec<(Offset, Offset, Vec<u8>)>, Offset, Offset), Violation> {
        let at = self.owner(id);
        let partition =
            self.shards[at].core.partition(id).ok_or_else(|| violation(id, "a known log is not open"))?;
        let (start, end) = (partition.log_start, partition.high_watermark);
        let mut found = Vec::new();
        let mut offset = start;
        while offset < end {
            let fetched = match self.fetch_now(at, id, offset) {
                Err(_) if self.damaged => {
                    self.hits.count("damage reported by a fetch");
                    self.halted = true;
                    break;
                }
                other => other.map_err(|e| violation(id, format!("reading at {offset} of {end}: {e}")))?,
            };
            if fetched.batches.is_empty() {
                return Err(violation(id, format!("nothing to read at {offset} of {end}")));
            }
            for bytes in &fetched.batches {
                let (batch, _) = crate::format::batch::BatchView::parse(bytes)
                    .map_err(|e| violation(id, format!("at {offset}: {e}")))?;
                batch.check_crc().map_err(|e| violation(id, format!("at {offset}: {e}")))?;
                let batch_end = Offset(batch.last_offset().get() + 1);
                found.push((batch.base_offset(), batch_end, batch.body().to_vec()));
                if batch_end <= offset {
                    return Err(violation(id, format!("the log steps back at {offset}")));
                }
                offset = batch_end;
            }
        }
        Ok((found, start, end))
    }

    /// Fetches and performs the reads at once.
    fn fetch_now(
        &mut self,
        at: usize,
        id: PartitionId,
        offset: Offset,
    ) -> Result<crate::core::Fetched, crate::core::FetchError> {
        self.last_tag += 1;
        let tag = Tag(self.last_tag);
        if let Some(fetched) = self.shards[at].core.fetch(id, offset, 64 << 10, tag)? {
            return Ok(fetched);
        }
        loop {
            let mut answer = None;
            for effect in self.shards[at].core.take_effects() {
                match effect {
                    Effect::Fetched { tag: answered, result } if answered == tag => answer = Some(result),
                    read @ Effect::ReadSegment { .. } => {
                        let (operation, buffer) = self.perform(at, read, 0, false);
                        self.shards[at].core.complete(Completion { operation, result: Ok(()), buffer });
                    }
                    other => self.shards[at].in_flight.push((other, self.disk.next_write())),
                }
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Flips a bit of what is durable, while the process is down. From here on it must be noticed or harmless.
    fn damage_and_restart(&mut self) -> Result<(), Violation> {
        self.settle_in_flight()?;
        self.damaged = true;
        self.hits.count("bit flipped");
        let paths: Vec<_> = ["journal/", "topics/", "manifest/", "root"]
            .iter()
            .flat_map(|prefix| self.disk.paths(prefix))
            .filter(|path| self.disk.length(path).is_some_and(|length| length > 0))
            .collect();
        if let Some(path) = self.random.pick(&paths).cloned() {
            let length = usize::try_from(self.disk.length(&path).expect("it exists")).expect("small");
            let (byte, bit) = (self.random.below(length) as u64, self.random.below(8));
            self.disk.flip(&path, byte, u8::try_from(bit).expect("below eight"));
        }
        self.restart(Some(Loss::Damage))
    }

    fn settle_in_flight(&mut self) -> Result<(), Violation> {
        for at in 0..self.shards.len() {
            for _ in 0..200 {
                if self.shards[at].in_flight.is_empty() {
                    break;
                }
                self.complete(at, 0)?;
            }
        }
        Ok(())
    }

    /// Recovers a copy of everything as if the process died here, and compares it with the living.
    fn compare_with_replay(&mut self) -> Result<(), Violation> {
        if self.damaged {
            return Ok(());
        }
        let mut disk = self.disk.clone();
        let mut random = Random::new(self.random.next());
        let deleted = &self.deleted;
        let opening = Opening {
            shards: 1,
            known: &self.known,
            is_deleted: &|id| deleted.contains(&id),
            owner: &|_| ShardIndex(0),
            geometry: Geometry { capacity: JOURNAL_BYTES, group_bytes_max: GROUP_BYTES_MAX },
            flush_method: FlushMethod::Dsync,
            epoch_floor: LeaderEpoch(self.epoch_floor),
            now: self.now,
            rules: &self.rules,
        };
        let mut directory =
            Directory { disk: &mut disk, staged: &self.staged, random: &mut random, steps_left: None };
        let (opened, _) = recovery::open(&mut directory, &opening)
            .map_err(|error| Violation(format!("a replay failed: {error}")))?;
        let live = self.shards.iter().flat_map(|s| s.core.partitions());
        for partition in live {
            let id = partition.id;
            let replayed = opened[0].partitions.iter().find(|p| p.id() == id);
            let replayed = replayed.ok_or_else(|| violation(id, "a log is missing in its replay"))?;
            let (end, written) = (Offset(replayed.end), partition.written_end());
            let is_stopped =
                partition.stopped_from.is_some() || self.shards[self.owner(id)].core.stopped().is_some();
            if !is_stopped && (end < written || end > partition.end) {
                return Err(violation(
                    id,
                    format!("its replay ends at {end}; it is {written} to {}", partition.end),
                ));
            }
            if end == partition.end && self.profile.jump == 0 {
                let producers = crate::core::producers::Producers::from_manifest(&replayed.producers);
                if producers.without_times() != partition.producers.without_times() {
                    return Err(violation(id, "the producers differ from their replay"));
                }
            }
            if replayed.log_start != partition.log_start.min(end).get()
                && self.rules.hold(Rule::log_start_is_journaled)
            {
                return Err(violation(id, "the log start differs from its replay"));
            }
            self.oracle.compared.replays += 1;
        }
        Ok(())
    }
}

fn owner(id: PartitionId, shards: usize) -> usize {
    usize::from(id.topic.0[0]) % shards
}

fn path_of(effect: &Effect, at: usize) -> Option<String> {
    let shard = ShardIndex(u16::try_from(at).expect("few"));
    match effect {
        Effect::WriteJournal { .. } | Effect::FlushJournal { .. } | Effect::GrowJournal { .. } => {
            Some(journal_path(shard))
        }
        Effect::CreateSegment { file, .. }
        | Effect::FlushDirectory { file, .. }
        | Effect::WriteSegment { file, .. }
        | Effect::FlushSegment { file, .. }
        | Effect::TrimSegment { file, .. }
        | Effect::ReadSegment { file, .. } => Some(segment_path(*file)),
        _ => None,
    }
}

fn producer_of(batch: &[u8]) -> ProducerId {
    crate::format::batch::BatchView::parse(batch).map_or(ProducerId::NONE, |(view, _)| view.producer_id())
}

/// A value that names its log, batch and record, filled up to `bytes`.
fn payload(id: PartitionId, uid: u64, record: usize, bytes: usize) -> Vec<u8> {
    let mut value = format!("{id}#{uid}.{record}:").into_bytes();
    let fill = uid.to_le_bytes()[0] ^ 0xA5;
    value.resize(bytes.max(value.len()), fill);
    value
}

fn config() -> Config {
    Config {
        segment_bytes: 96 << 10,
        segment_ms: 600_000,
        batch_bytes_max: 64 << 10,
        timestamp_type: TimestampType::CreateTime,
        producer_expiration_ms: 86_400_000,
    }
}

fn tuning() -> Tuning {
    Tuning {
        large_batch_bytes: 9_000,
        large_segments_per_commit: 2,
        lazy_write_bytes: 12 << 10,
        digested_bytes_per_checkpoint: 200 << 10,
        read_bytes: 8 << 10,
        journal_bytes_max: 256 << 10,
    }
}
