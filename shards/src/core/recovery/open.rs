//! Opening: every old shard's journal is recovered, new manifests are written, and one new root makes them count.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use super::disk::Disk;
use super::error::{Damage, Error};
use super::files;
use super::replay::{self, Finished, Input, Replayed};
use super::scan;
use crate::core::effect::Millis;
use crate::core::journal::{FlushMethod, Geometry, Start};
use crate::core::rules::{Rule, Rules};
use crate::format::manifest::{self, Manifest, Tail};
use crate::format::root::Root;
use crate::types::{LeaderEpoch, Offset, PartitionId, ShardIndex};

/// What an opening is to give.
pub struct Opening<'a> {
    /// How many shards will run.
    pub shards: u16,
    /// The logs whose topic the metadata store has.
    pub known: &'a BTreeSet<PartitionId>,
    /// Whether the metadata store knows of a log that it was deleted. Logs that it knows nothing of are set aside.
    pub is_deleted: &'a dyn Fn(PartitionId) -> bool,
    /// Which shard owns a log from now on.
    pub owner: &'a dyn Fn(PartitionId) -> ShardIndex,
    /// The size of a new journal and of the longest group.
    pub geometry: Geometry,
    /// How groups become durable.
    pub flush_method: FlushMethod,
    /// Whether the process before said at its end that its manifests hold everything and its journals nothing: they are
    /// believed as they are, segments are measured, and none is opened.
    pub was_stopped_cleanly: bool,
    /// The largest epoch that the metadata store has given to a log.
    pub epoch_floor: LeaderEpoch,
    /// The time. Milliseconds since 1970.
    pub now: Millis,
    /// The rules of the protocol.
    pub rules: &'a Rules,
}

/// A shard's start.
pub struct Opened {
    /// The name of its manifest, which its checkpoints replace.
    pub manifest: String,
    /// Where its journal starts.
    pub start: Start,
    /// Its logs.
    pub partitions: Vec<manifest::Partition>,
    /// Logs that the metadata store knows nothing of: kept in every manifest, and not opened.
    pub set_aside: Vec<manifest::Partition>,
}

/// What an opening did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The epoch that this opening stamps.
    pub epoch: LeaderEpoch,
    /// Journal groups read.
    pub groups: usize,
    /// Of these, groups that only staging memory had.
    pub groups_staged: usize,
    /// What replay did, over all shards.
    pub replayed: Replayed,
}

/// Opens the directory behind `disk`.
///
/// No write of a former process may still be under way. On an error nothing was changed that the next attempt needs.
pub fn open(disk: &mut impl Disk, opening: &Opening<'_>) -> Result<(Vec<Opened>, Report), Error> {
    let mut report = Report::default();
    let old = read_old(disk, opening)?;
    let (parts, untidy) = recover_all(disk, &old, opening, &mut report)?;
    let step = i32::from(opening.rules.hold(Rule::epoch_is_new));
    let epoch = old.epoch.max(opening.epoch_floor.get()).checked_add(step).ok_or(Error::EpochsUsedUp)?;
    report.epoch = LeaderEpoch(epoch);
    let opened = write_manifests(disk, opening, &old, epoch, parts)?;
    if opening.rules.hold(Rule::recovery_commits) {
        let names: Vec<String> = opened.iter().map(|shard| shard.manifest.clone()).collect();
        disk.replace_root(&Root { epoch, manifests: names.clone() }.encode())?;
        disk.retain_manifests(&names)?;
    }
    // Only now: the old root may have needed what goes.
    for part in opened.iter().flat_map(|shard| shard.partitions.iter().chain(&shard.set_aside)) {
        if let Some(first_to_cut) = untidy.get(&part.id()) {
            replay::tidy_up(disk, part, *first_to_cut)?;
        }
    }
    Ok((opened, report))
}

/// The logs' parts of the next manifests, and from which segment on the files of each may be longer than they should be.
type Parts = (BTreeMap<PartitionId, manifest::Partition>, BTreeMap<PartitionId, usize>);

/// Recovers the logs of all old shards, and begins those that no shard had.
fn recover_all(
    disk: &mut impl Disk,
    old: &Old,
    opening: &Opening<'_>,
    report: &mut Report,
) -> Result<Parts, Error> {
    let (mut parts, mut untidy) = (BTreeMap::new(), BTreeMap::new());
    for (i, manifest) in (0..).zip(&old.manifests) {
        for Finished { part, first_to_cut } in recover(disk, ShardIndex(i), manifest, opening, report)? {
            let id = part.id();
            let offset = Offset(part.end);
            untidy.extend(first_to_cut.map(|first| (id, first)));
            if parts.insert(id, part).is_some() {
                let damage = Damage::Inconsistent { partition: id, offset, what: "two shards own the log" };
                return Err(Error::Damaged { shard: ShardIndex(i), damage });
            }
        }
    }
    for id in opening.known {
        if let Entry::Vacant(new) = parts.entry(*id) {
            // Of a log that nothing vouches for, a dead process may have left files.
            untidy.insert(*id, 0);
            new.insert(manifest::Partition::empty(*id));
        }
    }
    Ok((parts, untidy))
}

/// Gives a shard its journal, without touching a byte that the old root may still need. Gives back its size.
///
/// What lies behind the capacity that the old manifest names was perhaps never written: an unfinished growth left it. A
/// journal that the old root does not name is a leftover, and made anew.
fn prepare_journal(
    disk: &mut impl Disk,
    shard: ShardIndex,
    opening: &Opening<'_>,
    old: Option<&Manifest>,
) -> Result<u64, Error> {
    let wanted = opening.geometry.capacity;
    match old {
        None => disk.create_journal(shard, wanted)?,
        Some(manifest) if manifest.capacity < wanted => {
            disk.extend_journal(shard, manifest.capacity, wanted)?
        }
        Some(_) => {}
    }
    Ok(old.map_or(wanted, |manifest| manifest.capacity.max(wanted)))
}

/// The former opening, or nothing in a new directory.
struct Old {
    epoch: i32,
    manifests: Vec<Manifest>,
}

fn read_old(disk: &mut impl Disk, opening: &Opening<'_>) -> Result<Old, Error> {
    let Some(bytes) = disk.read_root()? else {
        // The first root is durable before anybody is served, so before the metadata can name a log and give it an epoch.
        let was_served = !opening.known.is_empty() && opening.epoch_floor > LeaderEpoch(0);
        if was_served {
            return Err(Error::RootMissing(opening.known.len()));
        }
        return Ok(Old { epoch: 0, manifests: Vec::new() });
    };
    let root = Root::decode(&bytes)?;
    let mut manifests = Vec::with_capacity(root.manifests.len());
    for name in root.manifests {
        let bytes = disk.read_manifest(&name)?;
        manifests.push(Manifest::decode(&bytes).map_err(|source| Error::Manifest { name, source })?);
    }
    Ok(Old { epoch: root.epoch, manifests })
}

fn recover(
    disk: &mut impl Disk,
    shard: ShardIndex,
    manifest: &Manifest,
    opening: &Opening<'_>,
    report: &mut Report,
) -> Result<Vec<Finished>, Error> {
    if opening.was_stopped_cleanly {
        let stopped = replay::as_stopped(manifest, opening.known, opening.is_deleted);
        stopped.iter().try_for_each(|log| files::check(disk, shard, &log.part))?;
        return Ok(stopped);
    }
    let scan = scan::scan(disk, shard, manifest, opening.rules)?;
    let Opening { known, is_deleted, now, rules, .. } = *opening;
    let input = Input { shard, manifest, scan: &scan, known, is_deleted, now, rules };
    let (parts, replayed) = replay::replay(disk, &input)?;
    report.groups += scan.groups.len();
    report.groups_staged += scan.staged;
    report.replayed.entries += replayed.entries;
    report.replayed.entries_staged += replayed.entries_staged;
    report.replayed.logs_cut += replayed.logs_cut;
    report.replayed.logs_moved += replayed.logs_moved;
    report.replayed.entries_of_deleted += replayed.entries_of_deleted;
    Ok(parts)
}

fn write_manifests(
    disk: &mut impl Disk,
    opening: &Opening<'_>,
    old: &Old,
    epoch: i32,
    parts: BTreeMap<PartitionId, manifest::Partition>,
) -> Result<Vec<Opened>, Error> {
    let mut by_shard: Vec<Vec<manifest::Partition>> = (0..opening.shards).map(|_| Vec::new()).collect();
    for (id, part) in parts {
        by_shard[usize::from((opening.owner)(id).get())].push(part);
    }
    let mut opened = Vec::with_capacity(by_shard.len());
    for (i, partitions) in (0..).zip(by_shard) {
        let shard = ShardIndex(i);
        let capacity = prepare_journal(disk, shard, opening, old.manifests.get(usize::from(i)))?;
        let kept = old.manifests.get(usize::from(i)).filter(|_| !opening.rules.hold(Rule::generation_is_new));
        let generation = kept.map_or_else(|| disk.new_generation(), Manifest::generation);
        let geometry = Geometry { capacity, group_bytes_max: opening.geometry.group_bytes_max };
        let tail = Tail { sequence: 1, position: 0, previous: 0 };
        let manifest = Manifest {
            generation: generation.get(),
            epoch,
            tail,
            capacity,
            group_bytes_max: geometry.group_bytes_max,
            durable: 0,
            settled: 0,
            partitions,
        };
        let name = format!("{epoch:010}-{i}");
        if opening.rules.hold(Rule::recovery_commits) {
            disk.replace_manifest(&name, &manifest.encode())?;
        }
        let start = Start { generation, geometry, tail, flush_method: opening.flush_method };
        let (partitions, set_aside) =
            manifest.partitions.into_iter().partition(|p| opening.known.contains(&p.id()));
        opened.push(Opened { manifest: name, start, partitions, set_aside });
    }
    Ok(opened)
}
