//! Which groups of one shard's journal count: from the manifest's tail on, group by group, on disk or else in staging
//! memory, as far as the chain of checksums goes. Reads only.

use super::disk::Disk;
use super::error::{Damage, Error};
use crate::core::journal::Geometry;
use crate::core::rules::{Rule, Rules};
use crate::format::journal::{GROUP_HEADER_BYTES, GroupView};
use crate::format::manifest::Manifest;
use crate::limits::BLOCK_BYTES;
use crate::types::{JournalSequence, ShardIndex};

/// A group that counts, copied out.
pub(super) struct Group {
    pub(super) sequence: JournalSequence,
    bytes: Vec<u8>,
}

impl Group {
    /// The group again, checked once more.
    pub(super) fn view(&self, manifest: &Manifest) -> GroupView<'_> {
        GroupView::staged(&self.bytes, manifest.generation(), self.bytes.len())
            .expect("it was a group when it was copied")
    }
}

/// What a scan found.
pub(super) struct Scan {
    /// The groups in order.
    pub(super) groups: Vec<Group>,
    /// How many of them only staging memory had.
    pub(super) staged: usize,
    /// Large batches digested up to this group were flushed.
    pub(super) settled: JournalSequence,
}

/// Scans the journal that continues `manifest`.
pub(super) fn scan(
    disk: &mut impl Disk,
    shard: ShardIndex,
    manifest: &Manifest,
    rules: &Rules,
) -> Result<Scan, Error> {
    let ring = read_ring(disk, shard, manifest, rules)?;
    let staging = disk.staged(shard)?.unwrap_or_default();
    let found = follow(&ring, &staging, manifest, rules);
    let end = JournalSequence(manifest.tail.sequence.saturating_add(found.groups.len() as u64));
    let vouchers = vouchers(&ring, manifest);
    let durable = vouchers.durable.max(JournalSequence(manifest.durable));
    let missing_is_damage = if rules.hold(Rule::torn_end_is_no_damage) {
        durable >= end
    } else {
        durable >= end || vouchers.last > end
    };
    if missing_is_damage && rules.hold(Rule::damage_is_reported) {
        let damage = Damage::GroupMissing { missing: end, vouched: durable };
        return Err(Error::Damaged { shard, damage });
    }
    Ok(Scan { settled: vouchers.settled.max(JournalSequence(manifest.settled)), ..found })
}

fn read_ring(
    disk: &mut impl Disk,
    shard: ShardIndex,
    manifest: &Manifest,
    rules: &Rules,
) -> Result<Vec<u8>, Error> {
    let size = disk.journal_bytes(shard)?.ok_or(Error::JournalMissing(shard))?;
    if size < manifest.capacity {
        return Err(Error::JournalMissing(shard));
    }
    let capacity = if rules.hold(Rule::growth_by_manifest) { manifest.capacity } else { size };
    let mut ring = vec![0; usize::try_from(capacity).expect("a journal fits into memory")];
    disk.read_journal(shard, 0, &mut ring)?;
    Ok(ring)
}

fn follow(ring: &[u8], staging: &[u8], manifest: &Manifest, rules: &Rules) -> Scan {
    let geometry = Geometry { capacity: ring.len() as u64, group_bytes_max: manifest.group_bytes_max };
    let bytes_max = usize::try_from(manifest.group_bytes_max).unwrap_or(usize::MAX);
    let mut found = Scan { groups: Vec::new(), staged: 0, settled: JournalSequence(0) };
    let (mut sequence, mut position) = (manifest.tail_sequence(), manifest.tail.position);
    let mut previous = manifest.tail.previous;
    // A ring has no more groups than blocks; a chain that goes on longer would be running in a circle.
    while found.groups.len() <= ring.len() / BLOCK_BYTES {
        let is_next = |view: &GroupView<'_>| {
            let chained = view.header.previous == previous || !rules.hold(Rule::groups_are_chained);
            view.header.sequence == sequence && chained
        };
        let at = usize::try_from(position).unwrap_or(usize::MAX);
        let on_disk =
            ring.get(at..).and_then(|bytes| GroupView::closed(bytes, manifest.generation(), bytes_max));
        let (start, bytes, view) = match on_disk.filter(is_next) {
            Some(view) => (at, ring, view),
            None => {
                let Some((start, view)) = staged(staging, manifest, bytes_max, sequence, is_next, rules)
                else {
                    break;
                };
                found.staged += 1;
                (start, staging, view)
            }
        };
        let length = if view.closed { view.header.length as usize } else { open_length(&view) };
        let group = Group { sequence, bytes: bytes[start..start + length].to_vec() };
        previous = view.checksum;
        position = geometry.next_position(position + length.next_multiple_of(BLOCK_BYTES) as u64);
        sequence = sequence.next();
        let ends = !view.closed;
        found.groups.push(group);
        if ends {
            break;
        }
    }
    found
}

/// The group in staging memory that continues the chain, wherever it lies.
fn staged<'a>(
    staging: &'a [u8],
    manifest: &Manifest,
    bytes_max: usize,
    sequence: JournalSequence,
    is_next: impl Fn(&GroupView<'a>) -> bool,
    rules: &Rules,
) -> Option<(usize, GroupView<'a>)> {
    let chunk_rest = |at: usize| bytes_max - at % bytes_max;
    let mut groups = (0..staging.len()).step_by(BLOCK_BYTES).filter_map(|at| {
        let view = GroupView::staged(&staging[at..], manifest.generation(), chunk_rest(at))?;
        Some((at, view))
    });
    if rules.hold(Rule::staging_is_ordered) {
        groups.find(|(_, view)| is_next(view))
    } else {
        groups.find(|(_, view)| view.header.sequence >= sequence)
    }
}

/// How far an open group's published entries reach.
fn open_length(view: &GroupView<'_>) -> usize {
    let entries = view.entries().map_while(Result::ok).map(|entry| entry.encoded_bytes()).sum::<usize>();
    // With the word behind them, whose zero ends the group when it is read again.
    (GROUP_HEADER_BYTES + entries + 4).min(GROUP_HEADER_BYTES + view.body_bytes())
}

/// What the valid groups anywhere in the ring say of the groups before them.
struct Vouchers {
    durable: JournalSequence,
    settled: JournalSequence,
    last: JournalSequence,
}

fn vouchers(ring: &[u8], manifest: &Manifest) -> Vouchers {
    let none = JournalSequence(0);
    let mut vouchers = Vouchers { durable: none, settled: none, last: none };
    let bytes_max = usize::try_from(manifest.group_bytes_max).unwrap_or(usize::MAX);
    for at in (0..ring.len()).step_by(BLOCK_BYTES) {
        let Some(view) = GroupView::closed(&ring[at..], manifest.generation(), bytes_max) else { continue };
        if view.header.sequence >= manifest.tail_sequence() {
            vouchers.durable = vouchers.durable.max(view.header.durable);
            vouchers.settled = vouchers.settled.max(view.header.settled);
            vouchers.last = vouchers.last.max(view.header.sequence);
        }
    }
    vouchers
}
