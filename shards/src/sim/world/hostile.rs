//! Bytes that no shard would write, under checksums that are right: a manifest or a journal group is changed at random
//! and sealed again, and the directory opened. Opening may succeed or refuse; it must not panic, and whoever opens a
//! directory that it accepted must be able to start.

use super::*;
use crate::format::envelope::{self, Kind};
use crate::format::journal::{GROUP_HEADER_BYTES, GroupView};
use crate::format::manifest::{self, Manifest};
use crate::format::root::Root;
use crate::limits::BLOCK_BYTES;

/// How openings of changed directories went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Openings that succeeded.
    pub opened: u64,
    /// Openings that were refused.
    pub refused: u64,
}

/// Runs a seed for so many steps, kills the process and opens `rounds` changed copies of what it left.
pub fn open_changed(seed: u64, steps: usize, rounds: usize) -> Result<Answers, Violation> {
    let mut world = World::new(seed, Rules::default())?;
    for _ in 0..steps {
        world.step()?;
    }
    let mut answers = Answers::default();
    if world.halted || world.damaged {
        return Ok(answers);
    }
    world.crash(Some(Loss::Process));
    world.staged.iter_mut().for_each(|m| *m = None);
    let left = world.disk.clone();
    for _ in 0..rounds {
        world.disk = left.clone();
        world.change();
        match world.open(false) {
            Ok((opened, report)) => {
                world.start_shards(opened, report.epoch);
                world.shards.clear();
                world.staged.iter_mut().for_each(|m| *m = None);
                answers.opened += 1;
            }
            Err(_) => answers.refused += 1,
        }
    }
    Ok(answers)
}

impl World {
    fn change(&mut self) {
        let root = Root::decode(&self.disk.read_all("root").expect("a root")).expect("unchanged");
        let at = self.random.below(root.manifests.len());
        let path = manifest_path(&root.manifests[at]);
        let mut manifest = Manifest::decode(&self.disk.read_all(&path).expect("named")).expect("unchanged");
        match self.random.below(4) {
            0 | 1 => {
                for _ in 0..self.random.between(1, 3) {
                    self.change_manifest(&mut manifest);
                }
                self.disk.replace(&path, &manifest.encode());
            }
            2 => {
                let sealed = manifest.encode();
                let mut payload = sealed[24..].to_vec();
                for _ in 0..self.random.between(1, 4) {
                    let at = self.random.below(payload.len());
                    payload[at] = self.random.bits().to_le_bytes()[0];
                }
                self.disk.replace(&path, &envelope::seal(Kind::Manifest, manifest::VERSION, &payload));
            }
            _ => self.change_group(ShardIndex(u16::try_from(at).expect("few")), &manifest),
        }
    }

    /// A number that breaks something, or nearly the right one.
    fn strange(&mut self, number: i64) -> i64 {
        let any = self.random.bits().cast_signed();
        let block = BLOCK_BYTES as i64;
        let choices = [0, 1, -1, i64::MAX, i64::MIN, 1 << 31, 1 << 32, block, any, number.wrapping_neg()];
        let near = [number.wrapping_add(1), number.wrapping_sub(1), number.wrapping_add(block), number << 1];
        let at = self.random.below(choices.len() + near.len());
        choices.get(at).or_else(|| near.get(at - choices.len())).copied().unwrap_or(0)
    }

    fn strange_unsigned(&mut self, number: u64) -> u64 {
        self.strange(number.cast_signed()).cast_unsigned()
    }

    fn change_manifest(&mut self, m: &mut Manifest) {
        match self.random.below(9) {
            0 => m.tail.sequence = self.strange_unsigned(m.tail.sequence),
            1 => m.tail.position = self.strange_unsigned(m.tail.position),
            2 => m.capacity = self.strange_unsigned(m.capacity),
            3 => m.group_bytes_max = self.strange_unsigned(m.group_bytes_max),
            4 => m.durable = self.strange_unsigned(m.durable),
            5 => m.settled = self.strange_unsigned(m.settled),
            _ if m.partitions.is_empty() => m.generation ^= 1,
            _ => {
                let at = self.random.below(m.partitions.len());
                self.change_part(&mut m.partitions[at]);
            }
        }
    }

    fn change_part(&mut self, part: &mut manifest::Partition) {
        let segment = part.segments.len().checked_sub(1);
        match (self.random.below(10), segment) {
            (0, _) => part.end = self.strange(part.end),
            (1, _) => part.log_start = self.strange(part.log_start),
            (2, _) => part.tail_fragment.push(1),
            (3, _) => part.epochs.push(manifest::Epoch { epoch: i32::MAX, start: self.strange(part.end) }),
            (4, Some(last)) => part.segments[last].length = self.strange_unsigned(part.segments[last].length),
            (5, Some(last)) => part.segments[last].base = self.strange(part.segments[last].base),
            (6, Some(last)) => part.segments[last].created = self.strange(part.segments[last].created),
            (7, Some(last)) => {
                // The place moves to another block, the fragment still fits.
                let blocks = self.random.below(8) as u64;
                let fragment = part.segments[last].length % BLOCK_BYTES as u64;
                part.segments[last].length = blocks * BLOCK_BYTES as u64 + fragment;
            }
            _ => {
                let strange = self.strange(part.end);
                for batch in part.producers.iter_mut().flat_map(|p| &mut p.batches) {
                    batch.last_offset = strange;
                }
            }
        }
    }

    /// Changes bytes of a group and closes it again.
    fn change_group(&mut self, shard: ShardIndex, manifest: &Manifest) {
        let path = journal_path(shard);
        let ring = self.disk.read_all(&path).expect("a journal");
        let bytes_max = usize::try_from(manifest.group_bytes_max).expect("small");
        let starts: Vec<usize> = (0..ring.len())
            .step_by(BLOCK_BYTES)
            .filter(|at| GroupView::closed(&ring[*at..], manifest.generation(), bytes_max).is_some())
            .collect();
        let Some(start) = self.random.pick(&starts).copied() else { return };
        let view = GroupView::closed(&ring[start..], manifest.generation(), bytes_max).expect("just found");
        let mut header = view.header;
        let length = header.length as usize;
        let mut entries = ring[start + GROUP_HEADER_BYTES..start + length].to_vec();
        if entries.is_empty() || self.random.per_mille(150) {
            header.durable.0 = self.strange_unsigned(header.durable.0);
            header.settled.0 = self.strange_unsigned(header.settled.0);
        }
        for _ in 0..self.random.between(1, 2) {
            // The first entry's header is where most of the meaning lies.
            let reach = if self.random.per_mille(700) { entries.len().min(112) } else { entries.len() };
            if reach >= 8 {
                let at = self.random.below(reach / 4) * 4;
                let word = u32::from_le_bytes(entries[at..at + 4].try_into().expect("four bytes"));
                let [a, b, c, d, ..] = self.strange(word.into()).to_le_bytes();
                entries[at..at + 4].copy_from_slice(&[a, b, c, d]);
            }
        }
        let (closed, _) = header.encode_closed(&entries);
        let mut group = closed.to_vec();
        group.extend_from_slice(&entries);
        group.resize(group.len().next_multiple_of(BLOCK_BYTES), 0);
        self.disk.write(&path, start as u64, &group, || true);
    }
}
