//! Damage: a bit flips or a segment file is cut while no process runs. Found out beside it: whether something durable
//! vouches for what is gone, so that the restart has to report it. This reads the directory on its own and shares only the
//! decoders with recovery.

use super::*;
use crate::format::journal::{Entry, GroupView, fragments};
use crate::format::manifest::{self, Manifest};
use crate::format::root::Root;
use crate::limits::BLOCK_BYTES;

/// How often damage is a file that is cut or gone. Per mille.
const CUT: u32 = 150;

/// What the next restart has to say of the damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flipped {
    /// Nothing vouches for it, or it may be harmless.
    Anywhere,
    /// In the root or a manifest that counts: the restart fails.
    Envelope,
    /// In a group that was durable: the restart reports damage.
    Group,
    /// In a large batch that was settled: the restart reports damage.
    Batch,
    /// A segment file is shorter than its manifest vouches for, or gone: the restart says so.
    Segment,
}

/// A group of a journal, where it lies.
struct Found<'a> {
    start: u64,
    view: GroupView<'a>,
}

impl World {
    /// Damages what is on disk. From here on it must be noticed or harmless.
    pub(super) fn do_damage(&mut self) -> Flipped {
        let cut = if self.random.per_mille(CUT) { self.cut_a_segment() } else { None };
        cut.unwrap_or_else(|| self.flip_a_bit())
    }

    /// Cuts or removes a segment file that a manifest vouches for, if there is one.
    fn cut_a_segment(&mut self) -> Option<Flipped> {
        let root = Root::decode(&self.disk.read_all("root")?).ok()?;
        let manifests = root.manifests.iter().map(|name| {
            let bytes = self.disk.read_all(&manifest_path(name)).expect("the root names it");
            Manifest::decode(&bytes).expect("nothing was damaged yet")
        });
        let parts = manifests.flat_map(|manifest| manifest.partitions);
        let parts = parts.filter(|part| !self.deleted.contains(&part.id()));
        let files: Vec<_> = parts.flat_map(|part| vouched_files(&part)).collect();
        let (path, vouched) = self.random.pick(&files)?.clone();
        let is_removed = self.random.per_mille(300);
        match is_removed {
            true => self.disk.remove(&path),
            false => {
                let length = self.random.below(usize::try_from(vouched).expect("small"));
                self.disk.truncate(&path, length as u64);
            }
        }
        self.hits.count(if is_removed { "segment file removed" } else { "segment file cut" });
        Some(Flipped::Segment)
    }

    fn flip_a_bit(&mut self) -> Flipped {
        self.hits.count("bit flipped");
        let paths: Vec<_> = ["journal/", "topics/", "manifest/", "root"]
            .iter()
            .flat_map(|prefix| self.disk.paths(prefix))
            .filter(|path| self.disk.length(path).is_some_and(|length| length > 0))
            .collect();
        let (keeps_staging, bit) = (self.random.per_mille(300), self.random.below(8));
        let (mut path, mut byte, mut flipped) = (String::new(), 0, Flipped::Anywhere);
        // Most bytes of a directory are vouched for by nothing: half of the time one is looked for that is.
        for _ in 0..[1, 24][self.random.below(2)] {
            let Some(picked) = self.random.pick(&paths) else { return Flipped::Anywhere };
            let length = usize::try_from(self.disk.length(picked).expect("it exists")).expect("small");
            (path, byte) = (picked.clone(), self.random.below(length) as u64);
            flipped = if keeps_staging { Flipped::Anywhere } else { self.vouched(&path, byte) };
            if matches!(flipped, Flipped::Group | Flipped::Batch) {
                break;
            }
        }
        if !keeps_staging {
            self.staged.iter_mut().for_each(|m| *m = None);
        }
        self.disk.flip(&path, byte, u8::try_from(bit).expect("below eight"));
        flipped
    }

    /// Whether something durable vouches for a byte, apart from staging memory.
    fn vouched(&self, path: &str, byte: u64) -> Flipped {
        let Some(bytes) = self.disk.read_all("root") else { return Flipped::Anywhere };
        let Ok(root) = Root::decode(&bytes) else { return Flipped::Anywhere };
        if path == "root" || root.manifests.iter().any(|name| manifest_path(name) == path) {
            return Flipped::Envelope;
        }
        for (i, name) in (0..).zip(&root.manifests) {
            let bytes = self.disk.read_all(&manifest_path(name)).expect("the root names it");
            let manifest = Manifest::decode(&bytes).expect("nothing was flipped yet");
            let ring = self.disk.read_all(&journal_path(ShardIndex(i))).expect("a manifest needs it");
            let ring = &ring[..usize::try_from(manifest.capacity).expect("small")];
            let flipped = if path == journal_path(ShardIndex(i)) {
                vouched_group(&manifest, ring, byte)
            } else {
                self.vouched_batch(&manifest, ring, path, byte)
            };
            if flipped != Flipped::Anywhere {
                return flipped;
            }
        }
        Flipped::Anywhere
    }

    /// Whether the byte lies in the whole blocks of a large batch that a settled group digests.
    fn vouched_batch(&self, manifest: &Manifest, ring: &[u8], path: &str, byte: u64) -> Flipped {
        let groups = groups(manifest, ring);
        let settled = groups.iter().map(|g| g.view.header.settled.get()).max().unwrap_or(0);
        let settled = settled.max(manifest.settled);
        let entries = || groups.iter().flat_map(|g| g.view.entries().flatten().map(move |e| (g, e)));
        for (group, entry) in entries() {
            let Entry::Large { batch, .. } = entry else { continue };
            let file = SegmentFile { partition: batch.partition, base: batch.segment };
            let Some((head, tail)) = fragments(batch.position, batch.length) else { continue };
            let blocks = batch.position + head as u64..batch.position + u64::from(batch.length) - tail as u64;
            let is_void = entries().any(|(_, e)| matches!(e, Entry::Void(p, _) if p == batch.partition));
            let part = manifest.partitions.iter().find(|p| p.id() == batch.partition);
            let is_above = part.map_or(0, |p| p.end) <= batch.base_offset.get();
            if segment_path(file) == path
                && blocks.contains(&byte)
                && group.view.header.sequence.get() <= settled
                && self.known.contains(&batch.partition)
                && is_above
                && !is_void
            {
                return Flipped::Batch;
            }
        }
        Flipped::Anywhere
    }

    /// Compares what a restart said with what had to be said.
    pub(super) fn check_reported(
        &mut self,
        flipped: Flipped,
        error: Option<&recovery::Error>,
    ) -> Result<(), Violation> {
        let is_right = match (flipped, error) {
            (Flipped::Anywhere, _) => return Ok(()),
            (Flipped::Envelope, Some(_)) => true,
            (Flipped::Group | Flipped::Batch, Some(error)) => {
                matches!(error, recovery::Error::Damaged { .. })
            }
            (Flipped::Segment, Some(error)) => matches!(error, recovery::Error::SegmentCut { .. }),
            (_, None) => false,
        };
        if !is_right {
            return Err(Violation(format!("damage was done ({flipped:?}), and the restart said {error:?}")));
        }
        self.hits.count(match flipped {
            Flipped::Envelope => "damage of root or manifest reported",
            Flipped::Group => "damage of a durable group reported",
            Flipped::Segment => "cut segment file reported",
            _ => "damage of a settled batch reported",
        });
        Ok(())
    }
}

/// A log's segment files of which something must be on disk, and how many bytes.
fn vouched_files(part: &manifest::Partition) -> Vec<(String, u64)> {
    let Some((last, rolled)) = part.segments.split_last() else { return Vec::new() };
    let by_value = part.tail_fragment.len() as u64;
    let bytes = rolled.iter().map(|s| (s.base, s.length)).chain([(last.base, last.length - by_value)]);
    let file = |base| SegmentFile { partition: part.id(), base: Offset(base) };
    bytes
        .filter(|(_, vouched)| *vouched > 0)
        .map(|(base, vouched)| (segment_path(file(base)), vouched))
        .collect()
}

/// The valid groups from the manifest's tail on.
fn groups<'a>(manifest: &Manifest, ring: &'a [u8]) -> Vec<Found<'a>> {
    let bytes_max = usize::try_from(manifest.group_bytes_max).expect("small");
    let found = (0..ring.len()).step_by(BLOCK_BYTES).filter_map(|at| {
        let view = GroupView::closed(&ring[at..], manifest.generation(), bytes_max)?;
        (view.header.sequence >= manifest.tail_sequence()).then_some(Found { start: at as u64, view })
    });
    found.collect()
}

fn vouched_group(manifest: &Manifest, ring: &[u8], byte: u64) -> Flipped {
    let groups = groups(manifest, ring);
    let holds = |g: &&Found<'_>| (g.start..g.start + u64::from(g.view.header.length)).contains(&byte);
    let Some(hit) = groups.iter().find(holds) else { return Flipped::Anywhere };
    // The four bytes of zeros behind the checksum are the only ones that it does not cover.
    if (byte - hit.start) >= 60 && (byte - hit.start) < 64 {
        return Flipped::Anywhere;
    }
    let others = groups.iter().filter(|g| g.start != hit.start).map(|g| g.view.header.durable.get());
    let durable = others.max().unwrap_or(0).max(manifest.durable);
    if hit.view.header.sequence.get() <= durable { Flipped::Group } else { Flipped::Anywhere }
}
