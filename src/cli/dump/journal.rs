//! A journal: each group and its entries, which of them the next start would replay, and whether one is missing that
//! something vouches for.
//!
//! What counts as damage follows recovery. A torn end, for which nothing vouches, is none, nor are the remains of former
//! openings. A group that is missing although the manifest or a later group says that it was flushed is damage, and so is
//! a group that the manifest covers and whose bytes have changed: no record is lost with it, but the disk did not keep it.
//!
//! Of a generation only a CRC-32 is shown, and of digests nothing: whoever knows the generation of a running broker can
//! make records that pass for journal groups, and dumps are handed on.

use std::collections::BTreeMap;
use std::io;

use corelane_shards::format::journal::{BatchEntry, Entry, GroupHeader, GroupView};
use corelane_shards::format::manifest::Manifest;
use corelane_shards::limits::BLOCK_BYTES;
use corelane_shards::types::{JournalSequence, PartitionId, ShardIndex};

use super::cell::{Cell, count};
use super::chain::{Chain, Found, Groups, State, padded};
use super::manifest::{facts, opening};
use super::report::{Report, Table};
use super::source::Source;
use super::surroundings::{Named, Surroundings, log_name};

static GROUPS: Table = Table {
    kind: "group",
    columns: &[
        "position", "sequence", "state", "bytes", "entries", "durable", "settled", "previous", "checksum",
        "opening",
    ],
    more: &[],
    indent: 0,
};

static ENTRIES: Table = Table {
    kind: "entry",
    columns: &[
        "entry",
        "log",
        "base_offset",
        "last_offset",
        "epoch",
        "segment",
        "segment_position",
        "bytes",
        "max_timestamp",
        "producer",
        "producer_epoch",
        "base_sequence",
    ],
    more: &["group", "group_position", "topic_id", "partition", "head_bytes", "tail_bytes"],
    indent: 6,
};

/// A journal with the manifest that it continues.
pub(super) struct Journal<'j> {
    pub(super) source: &'j Source,
    pub(super) manifest: Option<(&'j Surroundings, &'j Named)>,
}

/// What a journal holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// Groups that the next start would replay from the file.
    pub(super) groups_to_replay: usize,
    /// Their entries.
    pub(super) entries_to_replay: u64,
    /// Of each log that has batches among them: how many, and the offset behind the last one.
    pub(super) logs: BTreeMap<PartitionId, (u64, i64)>,
    in_manifest: u64,
    former: u64,
    unreached: u64,
    bad: u64,
    /// Every group of this opening up to this one was flushed, as far as something says so.
    vouched: u64,
}

/// Everything in a journal.
pub(super) fn journal(
    report: &mut Report<'_>,
    source: &Source,
    around: Option<&Surroundings>,
) -> io::Result<()> {
    let manifest = around.and_then(|around| Some((around, around.manifest(shard_of(source)?)?)));
    let journal = Journal { source, manifest };
    let mut about = vec![("file_bytes", Cell::from(source.length()))];
    match manifest.map(|(_, named)| (&named.name, &named.manifest)) {
        Some((name, Ok(manifest))) => {
            about.push(("continues_manifest", Cell::text(name)));
            about
                .extend(facts(manifest).into_iter().filter(|(name, _)| !matches!(*name, "version" | "logs")));
            report.facts("journal", about)?;
        }
        Some((name, Err(error))) => {
            report.facts("journal", about)?;
            report.note(&format!("manifest {name}: {error}; what a start would replay is not known"))?;
        }
        None => {
            report.facts("journal", about)?;
            report
                .note("no manifest is known that it continues, so what a start would replay is not known")?;
        }
    }
    let summary = journal.walk(report, true)?;
    report.facts("journal_summary", summary.facts(journal.manifest().is_some()))
}

/// The shard in a journal's name.
fn shard_of(source: &Source) -> Option<ShardIndex> {
    source.path().file_name()?.to_str()?.parse().ok().map(ShardIndex)
}

impl Journal<'_> {
    fn manifest(&self) -> Option<&Manifest> {
        self.manifest.and_then(|(_, named)| named.manifest.as_ref().ok())
    }

    /// Reads all of the file and tells damage; groups and entries only if `shown`.
    pub(super) fn walk(&self, report: &mut Report<'_>, shown: bool) -> io::Result<Summary> {
        let manifest = self.manifest();
        let mut groups = Groups::of(self.source, manifest.map(|manifest| manifest.group_bytes_max));
        let chain = manifest.map(|manifest| followed(manifest, &mut groups)).transpose();
        let mut chain = match chain {
            Ok(chain) => chain,
            Err(error) => {
                report.unreadable(self.source.path(), &error.to_string())?;
                return Ok(Summary::default());
            }
        };
        let vouched = manifest.map_or(0, |manifest| manifest.durable);
        let mut walk =
            Walk { journal: self, report, shown, summary: Summary { vouched, ..Summary::default() } };
        let end = self.source.length().min(manifest.map_or(u64::MAX, |manifest| manifest.capacity));
        let mut position = 0;
        while position < end {
            position += walk.block(&mut groups, chain.as_ref(), position)?;
        }
        walk.summary.groups_to_replay = chain.as_ref().map_or(0, Chain::groups);
        if let Some(manifest) = manifest.filter(|manifest| manifest.capacity > self.source.length()) {
            let (there, due) = (self.source.length(), manifest.capacity);
            walk.report.damage(
                Some(there),
                &format!("the file ends here, and its manifest says it has {due} bytes"),
            )?;
        }
        if let Some(chain) = &mut chain {
            walk.judge(chain, &mut groups)?;
        }
        Ok(walk.summary)
    }

    /// Whether the manifest is still the one that was compared with.
    fn is_manifest_the_same(&self) -> bool {
        self.manifest.is_none_or(|(around, named)| {
            !around.is_in_use()
                || around.read_manifest(&named.name).is_ok_and(|now| Ok(&now) == named.manifest.as_ref())
        })
    }

    fn is_in_use(&self) -> bool {
        self.manifest.is_some_and(|(around, _)| around.is_in_use())
    }
}

fn followed(manifest: &Manifest, groups: &mut Groups<'_>) -> io::Result<Chain> {
    let mut chain = Chain::of(manifest);
    chain.follow(groups)?;
    Ok(chain)
}

impl Summary {
    fn note_batch(&mut self, entry: &Entry<'_>, state: Option<State>) {
        if let (Some(State::ToReplay), Entry::Small(batch, _) | Entry::Large { batch, .. }) = (state, entry) {
            let (batches, end) = self.logs.entry(batch.partition).or_default();
            *batches += 1;
            *end = (*end).max(batch.last_offset.get().saturating_add(1));
        }
    }

    fn facts(&self, is_manifest_known: bool) -> Vec<(&'static str, Cell)> {
        let known = |cell: Cell| if is_manifest_known { cell } else { Cell::Absent };
        vec![
            ("groups_to_replay", known(count(self.groups_to_replay))),
            ("entries_to_replay", known(self.entries_to_replay.into())),
            ("groups_in_manifest", known(self.in_manifest.into())),
            ("groups_unreached", known(self.unreached.into())),
            ("groups_of_former_openings", known(self.former.into())),
            ("groups_with_a_bad_checksum", self.bad.into()),
            ("flushed_up_to_sequence", known(self.vouched.into())),
        ]
    }
}

/// One pass over a journal's file.
struct Walk<'w, 'o> {
    journal: &'w Journal<'w>,
    report: &'w mut Report<'o>,
    shown: bool,
    summary: Summary,
}

impl Walk<'_, '_> {
    /// Looks at what begins at `position`; gives the bytes to the next place to look at.
    fn block(&mut self, groups: &mut Groups<'_>, chain: Option<&Chain>, position: u64) -> io::Result<u64> {
        match groups.at(position) {
            Ok(Found::Nothing) => {}
            Ok(Found::Whole(group)) => {
                self.whole(&group, chain.map(|chain| chain.state(position, &group.header)), position)?;
                return Ok(padded(group.header.length));
            }
            Ok(Found::Bad(header)) => self.bad(&header, chain, position)?,
            Err(error) => self.report.damage(Some(position), &format!("it cannot be read: {error}"))?,
        }
        Ok(BLOCK_BYTES as u64)
    }

    fn whole(&mut self, group: &GroupView<'_>, state: Option<State>, position: u64) -> io::Result<()> {
        self.count(group, state);
        let word = state.map_or(Cell::Absent, |state| Cell::text(state.word()));
        self.group_row(&group.header, position, word, Cell::Checksum(group.checksum))?;
        for entry in group.entries() {
            match entry {
                Ok(entry) => {
                    self.summary.note_batch(&entry, state);
                    self.entry_row(&entry, group.header.sequence, position)?;
                }
                Err(error) => self.report.damage(Some(position), &error.to_string())?,
            }
        }
        Ok(())
    }

    fn count(&mut self, group: &GroupView<'_>, state: Option<State>) {
        let summary = &mut self.summary;
        let header = &group.header;
        match state {
            Some(State::InManifest) => summary.in_manifest += 1,
            Some(State::ToReplay) => summary.entries_to_replay += u64::from(header.entries),
            Some(State::Unreached) => summary.unreached += 1,
            Some(State::Former) => summary.former += 1,
            None => {}
        }
        if matches!(state, Some(State::ToReplay | State::Unreached)) {
            summary.vouched = summary.vouched.max(header.durable.get());
        }
    }

    fn bad(&mut self, header: &GroupHeader, chain: Option<&Chain>, position: u64) -> io::Result<()> {
        self.summary.bad += 1;
        self.group_row(header, position, Cell::text("bad checksum"), Cell::Absent)?;
        let sequence = header.sequence;
        let reason = match chain {
            None => format!("the checksum of group {sequence} does not match"),
            Some(chain) if !self.journal.is_in_use() && chain.was_whole(position, header) => {
                format!("group {sequence} is not as it was written; the manifest has what it said")
            }
            Some(_) => return Ok(()),
        };
        self.report.damage(Some(position), &reason)
    }

    /// Tells whether the chain ends before it should. A broker that runs may have gone on meanwhile.
    fn judge(&mut self, chain: &mut Chain, groups: &mut Groups<'_>) -> io::Result<()> {
        if let Err(error) = chain.follow(groups) {
            return self.report.damage(Some(chain.end().1), &format!("it cannot be read: {error}"));
        }
        let (missing, position) = chain.end();
        let vouched = self.summary.vouched;
        if vouched < missing.get() {
            return Ok(());
        }
        if !self.journal.is_manifest_the_same() {
            return self
                .report
                .note("the manifest was replaced meanwhile: dump again to see what a start would replay");
        }
        let reason = format!(
            "group {missing} should begin here and does not, yet every group up to {vouched} was flushed: \
             a start refuses this journal"
        );
        self.report.damage(Some(position), &reason)
    }

    fn group_row(
        &mut self,
        header: &GroupHeader,
        position: u64,
        state: Cell,
        checksum: Cell,
    ) -> io::Result<()> {
        if !self.shown {
            return Ok(());
        }
        let cells = vec![
            position.into(),
            header.sequence.get().into(),
            state,
            header.length.into(),
            header.entries.into(),
            header.durable.get().into(),
            header.settled.get().into(),
            Cell::Checksum(header.previous),
            checksum,
            Cell::Checksum(opening(header.generation.get())),
        ];
        self.report.row(&GROUPS, cells)
    }

    fn entry_row(&mut self, entry: &Entry<'_>, group: JournalSequence, position: u64) -> io::Result<()> {
        if !self.shown {
            return Ok(());
        }
        let mut cells = match entry {
            Entry::Small(batch, _) => self.batch_cells("small", batch),
            Entry::Large { batch, .. } => self.batch_cells("large", batch),
            Entry::LogStart(partition, offset) => self.mark_cells("log start", *partition, offset.get()),
            Entry::Void(partition, offset) => self.mark_cells("void", *partition, offset.get()),
        };
        let (head, tail) = match entry {
            Entry::Large { head, tail, .. } => (count(head.len()), count(tail.len())),
            _ => (Cell::Absent, Cell::Absent),
        };
        let id = entry.partition();
        cells.extend([
            group.get().into(),
            position.into(),
            Cell::text(id.topic),
            id.index.get().into(),
            head,
            tail,
        ]);
        self.report.row(&ENTRIES, cells)
    }

    fn batch_cells(&self, kind: &str, batch: &BatchEntry) -> Vec<Cell> {
        let has_producer = batch.producer_id.get() >= 0;
        let of_producer = |cell: Cell| if has_producer { cell } else { Cell::Absent };
        vec![
            Cell::text(kind),
            self.log_cell(batch.partition),
            batch.base_offset.get().into(),
            batch.last_offset.get().into(),
            batch.epoch.get().into(),
            batch.segment.get().into(),
            batch.position.into(),
            batch.length.into(),
            Cell::Time(batch.max_timestamp),
            of_producer(batch.producer_id.get().into()),
            of_producer(batch.producer_epoch.get().into()),
            of_producer(batch.base_sequence.into()),
        ]
    }

    fn mark_cells(&self, kind: &str, partition: PartitionId, offset: i64) -> Vec<Cell> {
        let mut cells = vec![Cell::text(kind), self.log_cell(partition), offset.into()];
        cells.resize(ENTRIES.columns.len(), Cell::Absent);
        cells
    }

    fn log_cell(&self, partition: PartitionId) -> Cell {
        Cell::Text(log_name(self.journal.manifest.map(|(around, _)| around), partition))
    }
}
