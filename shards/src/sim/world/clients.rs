//! Clients of a simulated broker: producers that remember what they were told, consumers, and who creates topics.

use super::restart::config;
use super::*;

impl World {
    pub(super) fn pick_shard(&mut self) -> &mut Running {
        let at = self.random.below(self.shards.len());
        &mut self.shards[at]
    }

    pub(super) fn owner(&self, id: PartitionId) -> usize {
        owner(id, self.shards.len())
    }

    pub(super) fn pick_log(&mut self) -> Option<PartitionId> {
        let ids: Vec<_> = self.known.iter().copied().collect();
        self.random.pick(&ids).copied()
    }

    pub(super) fn tag(&mut self, pending: Pending) -> Tag {
        self.last_tag += 1;
        self.tags.insert(Tag(self.last_tag), pending);
        Tag(self.last_tag)
    }

    pub(super) fn client_appends(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        if self.clients[&id].queue.is_empty() {
            self.make_batch(id);
        }
        while self.send_next(id)? {
            if self.random.per_mille(700) {
                break;
            }
        }
        if self.profile.duplicates && !self.may_expire() && self.random.per_mille(100) {
            self.send_duplicate(id)?;
        }
        if self.profile.gaps && self.random.per_mille(50) {
            self.send_gap(id)?;
        }
        Ok(())
    }

    /// Sends a batch whose sequence leaves a gap: where the producer is known it must be refused.
    pub(super) fn send_gap(&mut self, id: PartitionId) -> Result<(), Violation> {
        let Some(client) = self.clients.get(&id) else { return Ok(()) };
        let Some(log) = self.oracle.logs.get(&id) else { return Ok(()) };
        let is_known = log.batches.last().is_some_and(|b| producer_of(&b.bytes) == client.producer);
        if !is_known || self.may_expire() {
            return Ok(());
        }
        let sequence = Sequence(client.next_sequence + 7);
        let header = fixture::Header::idempotent(client.producer, ProducerEpoch(0), sequence);
        let (at, now, acks) = (self.owner(id), self.now, client.acks);
        self.last_tag += 1;
        let bytes = fixture::batch(&header, &[b"gap"]);
        match self.shards[at].core.append(now, id, &bytes, acks, Tag(self.last_tag)) {
            Err(AppendError::OutOfOrderSequence) => self.hits.count("gap refused"),
            Err(AppendError::Stopped | AppendError::PartitionStopped) => {}
            other => return Err(violation(id, format!("a gap in the sequence gave {other:?}"))),
        }
        Ok(())
    }

    /// Whether producers may have been forgotten in this world, so that what they send cannot be judged.
    pub(super) fn may_expire(&self) -> bool {
        self.profile.jump > 0
    }

    pub(super) fn make_batch(&mut self, id: PartitionId) {
        let is_large = self.random.per_mille(self.profile.large);
        let records = if is_large { 1 } else { self.random.between(1, 3) };
        let bytes = if is_large { self.random.between(9_000, 24_000) } else { self.random.between(1, 1500) };
        for _ in 0..self.random.between(1, 2) {
            self.last_uid += 1;
            let uid = self.last_uid;
            let values: Vec<Vec<u8>> = (0..records).map(|i| payload(id, uid, i, bytes)).collect();
            let client = self.clients.get_mut(&id).expect("every log has a client");
            // Producers' clocks differ, and so do their batches' times.
            let base_timestamp = Timestamp(self.now - self.random.below(20_000) as i64);
            let sequence = Sequence(client.next_sequence);
            let header = fixture::Header::idempotent(client.producer, ProducerEpoch(0), sequence);
            let header = fixture::Header { base_timestamp, ..header };
            client.next_sequence += i32::try_from(records).expect("few");
            client.queue.push_back((uid, fixture::batch(&header, &values)));
        }
    }

    /// Sends the first batch in the queue. False: it has to wait, or there is none.
    pub(super) fn send_next(&mut self, id: PartitionId) -> Result<bool, Violation> {
        // A restart in between may have made the metadata store forget the log.
        let Some(client) = self.clients.get(&id) else { return Ok(false) };
        let Some((uid, bytes)) = client.queue.front().cloned() else { return Ok(false) };
        let tag = self.tag(Pending::Append(id, uid));
        let (at, now, acks) = (self.owner(id), self.now, self.clients[&id].acks);
        if self.random.per_mille(self.profile.die_in_append) {
            let stores = self.random.below(12);
            self.staged[at].as_ref().expect("a running shard has staging memory").set_fuse(Some(stores));
        }
        let core = &mut self.shards[at].core;
        let before = core.partition(id).map(|p| p.end);
        let result = core.append(now, id, &bytes, acks, tag);
        if result.is_err() {
            // The refusal is the answer.
            self.tags.remove(&tag);
        }
        let core = &self.shards[at].core;
        let after = core.partition(id).map(|p| p.end);
        if let (Some(base), Some(end)) = (before, after)
            && base != end
        {
            let partition = core.partition(id).expect("it just took a batch");
            let epoch = partition.epoch;
            let stamps = partition.config.timestamp_type == TimestampType::LogAppendTime;
            let append_time = stamps.then_some(Timestamp(now));
            let sent = Sent { uid, bytes, base, end, acks, acked: false, epoch, append_time };
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
    pub(super) fn send_duplicate(&mut self, id: PartitionId) -> Result<(), Violation> {
        let Some(log) = self.oracle.logs.get(&id) else { return Ok(()) };
        let Some(client) = self.clients.get(&id) else { return Ok(()) };
        let own = client.producer;
        let newest = log.batches.iter().rev().take(5).filter(|b| producer_of(&b.bytes) == own);
        let candidates: Vec<_> = newest.map(|b| (b.uid, b.bytes.clone(), b.base)).collect();
        let Some((uid, bytes, _)) = self.random.pick(&candidates).cloned() else { return Ok(()) };
        let tag = self.tag(Pending::Append(id, uid));
        let (at, now, acks) = (self.owner(id), self.now, self.clients[&id].acks);
        let core = &mut self.shards[at].core;
        let before = core.partition(id).map(|p| p.end);
        let result = core.append(now, id, &bytes, acks, tag);
        let is_appended = before != core.partition(id).map(|p| p.end);
        if result.is_err() {
            self.tags.remove(&tag);
        }
        match result {
            Ok(()) if !is_appended => self.hits.count("duplicate recognised"),
            Ok(()) => return Err(violation(id, format!("batch {uid} was appended twice"))),
            Err(AppendError::Stopped | AppendError::PartitionStopped) => {}
            Err(error) => {
                return Err(violation(id, format!("batch {uid}, sent again, was refused: {error}")));
            }
        }
        Ok(())
    }

    pub(super) fn consumer_fetches(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        let client = self.clients.get_mut(&id).expect("every log has a client");
        if client.reader_at >= client.consumer_at || self.random.per_mille(50) {
            client.reader_at = Offset(0);
        }
        let reads_again = self.random.per_mille(500);
        let from = if reads_again { client.reader_at } else { client.consumer_at };
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

    /// A consumer waits for the next record that it cannot see yet, or gives an earlier wait up.
    pub(super) fn consumer_watches(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        let at = self.owner(id);
        let waits = |pending: &Pending| matches!(pending, Pending::Watch(p, _) if *p == id);
        if self.random.per_mille(200)
            && let Some(tag) = self.tags.iter().find(|(_, pending)| waits(pending)).map(|(tag, _)| *tag)
        {
            self.shards[at].core.unwatch(id, tag);
            self.tags.remove(&tag);
            self.hits.count("watch given up");
            return Ok(());
        }
        let Some(visible) = self.shards[at].core.partition(id).map(|p| p.high_watermark) else {
            return Ok(());
        };
        let offset = Offset((visible.get() + self.random.below(4) as i64 - 1).max(0));
        let tag = self.tag(Pending::Watch(id, offset));
        if !self.shards[at].core.watch(id, offset, tag) {
            self.tags.remove(&tag);
            if offset >= visible {
                return Err(violation(id, format!("a wait for {offset} was refused at {visible}")));
            }
        }
        Ok(())
    }

    pub(super) fn consumed(
        &mut self,
        id: PartitionId,
        fetched: &crate::core::Fetched,
    ) -> Result<(), Violation> {
        for batch in &fetched.batches {
            let end = self.oracle.read(id, batch)?;
            if let Some(client) = self.clients.get_mut(&id) {
                client.consumer_at = client.consumer_at.max(end);
                let base = self.oracle.base_of(id, end);
                if base.is_some_and(|base| base <= client.reader_at) && client.reader_at < end {
                    client.reader_at = end;
                }
            }
        }
        Ok(())
    }

    pub(super) fn delete_records(&mut self) -> Result<(), Violation> {
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

    pub(super) fn create_topic(&mut self) -> PartitionId {
        self.topics_made += 1;
        self.last_producer += 1;
        // The incarnation is all that differs between a topic deleted and its successor of the same name and number.
        let id = PartitionId { topic: TopicId([self.topics_made; 16]), index: PartitionIndex(0) };
        self.known.insert(id);
        let acks = if self.random.per_mille(500) { Acks::All } else { Acks::Leader };
        self.add_client(id, acks);
        self.oracle.logs.insert(id, LogHistory::default());
        id
    }

    pub(super) fn add_client(&mut self, id: PartitionId, acks: Acks) {
        self.last_producer += 1;
        let client = Client {
            producer: ProducerId(self.last_producer),
            next_sequence: 0,
            acks,
            queue: VecDeque::new(),
            consumer_at: Offset(0),
            reader_at: Offset(0),
        };
        self.clients.insert(id, client);
    }

    pub(super) fn recreate(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        if self.topics_made == u8::MAX {
            return Ok(());
        }
        // The metadata store commits first.
        self.known.remove(&id);
        self.deleted.insert(id);
        self.clients.remove(&id);
        self.oracle.logs.remove(&id);
        let at = self.owner(id);
        self.shards[at].core.delete_partition(id);
        self.take_effects(at)?;
        let is_of_it =
            |pending: &Pending| matches!(pending, Pending::Append(p, _) | Pending::Watch(p, _) if *p == id);
        if self.tags.values().any(is_of_it) {
            return Err(violation(id, "somebody still waits for the deleted log"));
        }
        self.tags.retain(
            |_, pending| !matches!(pending, Pending::Fetch(p) | Pending::DeleteRecords(p) if *p == id),
        );
        self.epoch_floor += 1;
        let new = self.create_topic();
        let at = self.owner(new);
        self.shards[at].core.create_partition(new, LeaderEpoch(self.epoch_floor), config(new));
        self.take_effects(at)
    }

    /// The client sends again what is not there, and starts over under a new id if acknowledged batches are among it.
    pub(super) fn resume_client(&mut self, id: PartitionId, survivors: usize) -> Result<(), Violation> {
        let log = self.oracle.logs.get_mut(&id).expect("just compared");
        let lost: Vec<Sent> = log.batches.split_off(survivors);
        let log_end = log.batches.last().map_or(Offset(0), |b| b.end);
        let client = self.clients.get_mut(&id).expect("every log has a client");
        client.consumer_at = client.consumer_at.min(log_end);
        if lost.iter().any(|b| b.acked) {
            let acks = client.acks;
            self.hits.count("acks=1 lost with the power");
            self.add_client(id, acks);
            return Ok(());
        }
        if self.profile.jump > 0 {
            // A forgotten producer's batch would not be recognised when it comes again, which is nobody's fault.
            let is_there = |uid: u64| log.batches.iter().chain(&lost).any(|b| b.uid == uid);
            client.queue.retain(|(uid, _)| !is_there(*uid));
        }
        for batch in lost.into_iter().rev() {
            client.queue.push_front((batch.uid, batch.bytes));
        }
        if self.profile.jump == 0 {
            self.resend_unanswered(id, survivors)?;
        }
        Ok(())
    }
}

impl World {
    /// A client whose last batches survived a restart and were never answered sends them again: they are recognised, and
    /// answered where they are.
    fn resend_unanswered(&mut self, id: PartitionId, survivors: usize) -> Result<(), Violation> {
        let producer = self.clients[&id].producer;
        let (at, now, acks) = (self.owner(id), self.now, self.clients[&id].acks);
        let survived = &self.oracle.logs[&id].batches[..survivors];
        let own = survived.iter().rev().take(5).take_while(|b| producer_of(&b.bytes) == producer && !b.acked);
        let mut own: Vec<_> = own.map(|b| (b.uid, b.bytes.clone())).collect();
        own.reverse();
        for (uid, bytes) in own {
            let tag = self.tag(Pending::Append(id, uid));
            let core = &mut self.shards[at].core;
            let before = core.partition(id).map(|p| p.end);
            let result = core.append(now, id, &bytes, acks, tag);
            if result != Ok(()) || before != core.partition(id).map(|p| p.end) {
                return Err(violation(
                    id,
                    format!("batch {uid}, sent again after a restart, gave {result:?}"),
                ));
            }
            self.hits.count("survivor sent again");
        }
        self.take_effects(at)
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
