//! The end of a process, what that does to memory and disk, and the next one.

use super::damage::Flipped;
use super::process::path_of;
use super::*;

/// Turns within which a broker that is told to stop comes to its end.
const STOP_TURNS: usize = 200;

impl World {
    pub(super) fn restart(&mut self, loss: Option<Loss>) -> Result<(), Violation> {
        let live: BTreeMap<_, _> = self
            .shards
            .iter()
            .flat_map(|s| s.core.partitions())
            .map(|p| (p.id, (p.end, p.producers.without_times(), p.stopped_from.is_some())))
            .collect();
        self.count_running();
        self.crash(loss);
        if self.random.per_mille(self.profile.hurt_index) {
            self.hurt_an_index();
        }
        let mut flipped = match loss {
            Some(Loss::Damage) => self.do_damage(),
            _ => Flipped::Anywhere,
        };
        let mut loss = loss;
        if self.damaged {
            // Whatever happens to a damaged directory, nothing more is promised of it than that nothing wrong is served.
            loss = Some(Loss::Damage);
        }
        let remembered = self.remember_and_forget(loss);
        let mut attempt = 0;
        let (opened, report) = loop {
            attempt += 1;
            let dies = attempt < 4 && loss.is_some() && self.random.per_mille(self.profile.die_in_recovery);
            match self.open(dies) {
                Ok(opened) => break opened,
                Err(recovery::Error::Disk(DiskError::Died)) => {
                    self.hits.count("died in recovery");
                    if self.profile.power > 0 && self.random.per_mille(500) {
                        if loss != Some(Loss::Damage) {
                            loss = Some(Loss::Power);
                        }
                        self.disk.lose_power(&mut self.random, self.profile.garbage);
                        self.staged.iter_mut().for_each(|m| *m = None);
                        if flipped != Flipped::Envelope {
                            // What vouched for it was perhaps never flushed.
                            flipped = Flipped::Anywhere;
                        }
                    }
                }
                Err(error) => {
                    self.check_reported(flipped, Some(&error))?;
                    if !self.damaged {
                        return Err(Violation(format!("a restart after {loss:?} failed: {error}")));
                    }
                    self.hits.count("damage reported at a restart");
                    self.halted = true;
                    return Ok(());
                }
            }
        };
        self.check_reported(flipped, None)?;
        self.count_recovery(&report);
        self.start_shards(opened, report.epoch);
        self.land_late_writes();
        let Some(loss) = loss else { return Ok(()) };
        for id in self.known.clone() {
            let loss = remembered.get(&id).copied().unwrap_or(loss);
            self.check_recovered(id, loss, live.get(&id))?;
        }
        for forgotten in self.forgotten.values_mut() {
            if loss == Loss::Power && forgotten.loss == Loss::Process && forgotten.is_fresh {
                forgotten.loss = loss;
            }
            forgotten.is_fresh = false;
        }
        Ok(())
    }

    /// What the dead process had in flight lands now, if the rule that waits for it is broken.
    fn land_late_writes(&mut self) {
        for (path, position, bytes) in std::mem::take(&mut self.late_writes) {
            self.disk.write(&path, position, &bytes, || true);
        }
    }

    /// The metadata store knows some logs again that it had forgotten, and forgets one. Gives back what may be missing of
    /// the former.
    fn remember_and_forget(&mut self, loss: Option<Loss>) -> BTreeMap<PartitionId, Loss> {
        let mut remembered = BTreeMap::new();
        for id in self.forgotten.keys().copied().collect::<Vec<_>>() {
            if self.random.per_mille(500) {
                let Forgotten { history, client, loss, .. } =
                    self.forgotten.remove(&id).expect("just listed");
                self.known.insert(id);
                self.oracle.logs.insert(id, history);
                self.clients.insert(id, client);
                remembered.insert(id, if self.damaged { Loss::Damage } else { loss });
                self.hits.count("log known again");
            }
        }
        if let Some(loss) = loss.filter(|loss| *loss != Loss::Damage)
            && self.known.len() > 1
            && self.random.per_mille(self.profile.forget)
            && let Some(id) = self.pick_log().filter(|id| !remembered.contains_key(id))
        {
            self.known.remove(&id);
            let history = self.oracle.logs.remove(&id).unwrap_or_default();
            let client = self.clients.remove(&id).expect("every log has a client");
            self.forgotten.insert(id, Forgotten { history, client, loss, is_fresh: true });
            self.hits.count("log set aside");
        }
        remembered
    }

    /// Counts what the shards did, before they go.
    pub(super) fn count_running(&mut self) {
        for shard in &self.shards {
            let counts = shard.core.counts();
            for (name, count) in [
                ("lazy write", counts.lazy_writes),
                ("run from reserve", counts.runs_from_reserve),
                ("chunk evicted", counts.chunks_evicted),
                ("large by value", counts.large_by_value),
                ("roll by size", counts.rolled_by_size),
                ("roll by time", counts.rolled_by_time),
                ("checkpoint completed", counts.checkpoints),
                ("index forgotten", counts.indexes_forgotten),
                ("read ahead", counts.reads_ahead),
                ("read ahead used", counts.reads_ahead_used),
                ("read joined", counts.reads_joined),
                (
                    "partition stopped",
                    shard.core.partitions().filter(|p| p.stopped_from.is_some()).count() as u64,
                ),
            ] {
                self.hits.add(name, count);
            }
        }
    }

    pub(super) fn count_recovery(&mut self, report: &recovery::Report) {
        let replayed = report.replayed;
        for (name, count) in [
            ("groups from the journal", report.groups - report.groups_staged),
            ("groups from staging memory", report.groups_staged),
            ("entries replayed", replayed.entries),
            ("entries from staging memory", replayed.entries_staged),
            ("logs cut at a digest", replayed.logs_cut),
            ("logs moved on", replayed.logs_moved),
            ("entries of deleted logs", replayed.entries_of_deleted),
        ] {
            self.hits.add(name, count as u64);
        }
    }

    /// The process dies, and perhaps the power with it.
    pub(super) fn crash(&mut self, loss: Option<Loss>) {
        let fenced = self.rules.hold(Rule::writes_are_fenced);
        for at in 0..self.shards.len() {
            for (effect, issued) in std::mem::take(&mut self.shards[at].in_flight) {
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
                    // It fails, and the process does not live to hear of it.
                    Effect::FlushJournal { .. } | Effect::FlushSegment { .. }
                        if self.profile.flush_errors > 0 && self.random.per_mille(500) =>
                    {
                        self.disk.fail_flush(&path, issued);
                        self.hits.count("died before a failed flush was told");
                    }
                    Effect::GrowJournal { to, .. } if self.random.per_mille(500) => {
                        self.disk.extend_in_part(&path, to);
                        self.hits.count("died while the journal grew");
                    }
                    Effect::CreateSegment { .. } if self.random.per_mille(500) => self.disk.create(&path),
                    Effect::WriteIndex { file, index, .. } => self.put_index(file, &index, true),
                    Effect::CommitManifest { manifest, .. } if self.random.per_mille(500) => {
                        self.disk.replace(&manifest_path(&self.shards[at].manifest), &manifest.encode());
                        self.hits.count("died behind a manifest");
                    }
                    _ => {}
                }
            }
        }
        self.shards.clear();
        self.full = false;
        self.tags.clear();
        self.staged.iter().flatten().for_each(|m| m.set_fuse(None));
        if loss == Some(Loss::Power) {
            self.late_writes.clear();
            self.disk.lose_power(&mut self.random, self.profile.garbage);
            self.staged.iter_mut().for_each(|m| *m = None);
        }
    }

    pub(super) fn open(
        &mut self,
        dies: bool,
    ) -> Result<(Vec<recovery::Opened>, recovery::Report), recovery::Error> {
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
            was_stopped_cleanly: std::mem::take(&mut self.was_stopped_cleanly),
            epoch_floor: LeaderEpoch(self.epoch_floor),
            now: self.now,
            rules: &self.rules.clone(),
        };
        let mut directory =
            Directory { disk: &mut self.disk, staged: &self.staged, random: &mut self.random, steps_left };
        recovery::open(&mut directory, &opening)
    }

    pub(super) fn start_shards(&mut self, opened: Vec<recovery::Opened>, epoch: LeaderEpoch) {
        self.epoch_floor = self.epoch_floor.max(epoch.get());
        self.staged.clear();
        for opened in opened {
            let bytes = self.profile.staging_chunks * usize::try_from(GROUP_BYTES_MAX).expect("small");
            let mapping = Rc::new(Mapping::private(bytes).expect("memory"));
            let staging = Staging::new(Rc::clone(&mapping), usize::try_from(GROUP_BYTES_MAX).expect("small"));
            self.staged.push(Some(mapping));
            let slab = Slab::new(self.profile.slab_bytes);
            let mut core = Shard::new(opened.start, epoch, staging, slab, self.tuning(), self.rules.clone());
            for part in &opened.partitions {
                core.open_partition(part, config(part.id()));
            }
            for part in opened.set_aside {
                core.set_aside(part);
            }
            self.shards.push(Running {
                core,
                manifest: opened.manifest,
                in_flight: Vec::new(),
                not_taken: Vec::new(),
            });
        }
    }

    fn tuning(&self) -> Tuning {
        Tuning {
            large_batch_bytes: 9_000,
            large_segments_per_commit: 2,
            lazy_write_bytes: 12 << 10,
            lazy_run_bytes: self.profile.lazy_run_bytes,
            lazy_reserve_bytes: 0,
            digested_bytes_per_checkpoint: 200 << 10,
            read_bytes: 8 << 10,
            journal_bytes_max: 256 << 10,
            read_ahead_bytes_max: 64 << 10,
            index_bytes_max: self.profile.index_bytes,
            index_files_from_bytes: 1,
        }
    }

    /// The broker is told to stop: it brings everything into the manifests, says so, and ends. What could not be brought
    /// there is recovered as after a death.
    pub(super) fn stop_and_restart(&mut self) -> Result<(), Violation> {
        let is_settled = |world: &World| world.shards.iter().all(|s| s.core.is_settled());
        for _ in 0..STOP_TURNS {
            if is_settled(self) || !self.rules.hold(Rule::clean_stop_is_settled) {
                break;
            }
            for at in 0..self.shards.len() {
                self.shards[at].core.settle();
                self.shards[at].core.turn(self.now);
                self.take_effects(at)?;
            }
            self.settle_in_flight()?;
            self.now += 10;
        }
        self.was_stopped_cleanly = is_settled(self) || !self.rules.hold(Rule::clean_stop_is_settled);
        if !self.was_stopped_cleanly {
            self.check_left_over()?;
            return self.restart(Some(Loss::Process));
        }
        self.hits.count("stopped cleanly");
        self.staged.iter_mut().for_each(|m| *m = None);
        if self.random.per_mille(500) {
            self.disk.lose_power(&mut self.random, self.profile.garbage);
        }
        self.restart(Some(Loss::Process))
    }

    /// A shard that could not bring everything into its manifest has a reason, and waits for nothing.
    fn check_left_over(&mut self) -> Result<(), Violation> {
        for shard in &self.shards {
            let core = &shard.core;
            if !core.is_settled() && !core.is_at_rest() && core.stopped().is_none() {
                return Err(Violation(format!("a stop does not end: {}", self.describe())));
            }
        }
        self.hits.count("stopped with something left to recover");
        Ok(())
    }

    /// A bit flips or a file is cut while the process is down, whose last operations came to their end.
    pub(super) fn damage_and_restart(&mut self) -> Result<(), Violation> {
        self.settle_in_flight()?;
        self.damaged = true;
        self.restart(Some(Loss::Damage))
    }
}

/// A topic's settings.
pub(super) fn config(id: PartitionId) -> Config {
    let stamps = id.topic.0[0].is_multiple_of(3);
    Config {
        segment_bytes: 96 << 10,
        segment_ms: 600_000,
        batch_bytes_max: 64 << 10,
        timestamp_type: if stamps { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        producer_expiration_ms: 86_400_000,
    }
}
