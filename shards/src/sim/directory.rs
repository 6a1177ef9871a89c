//! The simulated disk as a data directory: paths, and what recovery asks.

use std::rc::Rc;

use super::disk::SimDisk;
use super::random::Random;
use crate::core::effect::SegmentFile;
use crate::core::recovery::{Disk, DiskError, IndexFiles};
use crate::memory::Mapping;
use crate::types::{Generation, PartitionId, ShardIndex};

/// A segment's path.
pub fn segment_path(file: SegmentFile) -> String {
    format!("topics/{}/{:020}", file.partition, file.base.get())
}

/// The paths of a segment's index files, by offset and by time.
pub fn index_paths(file: SegmentFile) -> [String; 2] {
    let path = segment_path(file);
    [format!("{path}.index"), format!("{path}.time")]
}

/// Reads a segment's index files.
pub fn read_index(disk: &SimDisk, file: SegmentFile) -> Option<IndexFiles> {
    let [offsets, times] = index_paths(file).map(|path| disk.read_all(&path));
    if offsets.is_none() && times.is_none() {
        return None;
    }
    Some(IndexFiles { offsets: offsets.unwrap_or_default(), times: times.unwrap_or_default() })
}

/// Replaces a segment's index files, as far as sectors land.
pub fn write_index(
    disk: &mut SimDisk,
    file: SegmentFile,
    files: &IndexFiles,
    mut lands: impl FnMut() -> bool,
) {
    let [offsets, times] = index_paths(file);
    disk.rewrite(&offsets, &files.offsets, &mut lands);
    disk.rewrite(&times, &files.times, &mut lands);
}

/// Where a log's segments lie.
pub fn partition_path(id: PartitionId) -> String {
    format!("topics/{id}/")
}

/// A shard's journal's path.
pub fn journal_path(shard: ShardIndex) -> String {
    format!("journal/{shard}")
}

/// A manifest's path.
pub fn manifest_path(name: &str) -> String {
    format!("manifest/{name}")
}

/// A data directory on a simulated disk, with a process that may die at any step.
pub struct Directory<'a> {
    /// The disk.
    pub disk: &'a mut SimDisk,
    /// The staging memory that former processes left, by shard.
    pub staged: &'a [Option<Rc<Mapping>>],
    /// For secrets, and for how much of a write lands when the process dies.
    pub random: &'a mut Random,
    /// How many more steps the process makes.
    pub steps_left: Option<u64>,
}

impl Directory<'_> {
    fn step(&mut self) -> Result<(), DiskError> {
        match &mut self.steps_left {
            Some(0) => Err(DiskError::Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk for Directory<'_> {
    fn read_root(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.disk.read_all("root"))
    }

    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.step()?;
        self.disk.replace("root", bytes);
        self.step()
    }

    fn read_manifest(&mut self, name: &str) -> Result<Vec<u8>, DiskError> {
        self.disk.read_all(&manifest_path(name)).ok_or_else(|| DiskError::Io {
            what: format!("reading the manifest {name}"),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    fn replace_manifest(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.step()?;
        self.disk.replace(&manifest_path(name), bytes);
        self.step()
    }

    fn retain_manifests(&mut self, names: &[String]) -> Result<(), DiskError> {
        self.step()?;
        for path in self.disk.paths("manifest/") {
            if !names.iter().any(|name| manifest_path(name) == path) {
                self.disk.remove(&path);
            }
        }
        Ok(())
    }

    fn journal_bytes(&mut self, shard: ShardIndex) -> Result<Option<u64>, DiskError> {
        Ok(self.disk.length(&journal_path(shard)))
    }

    fn create_journal(&mut self, shard: ShardIndex, bytes: u64) -> Result<(), DiskError> {
        self.step()?;
        let zeros = vec![0; usize::try_from(bytes).expect("small")];
        self.disk.replace(&journal_path(shard), &zeros);
        self.step()
    }

    fn extend_journal(&mut self, shard: ShardIndex, from: u64, to: u64) -> Result<(), DiskError> {
        self.step()?;
        self.disk.extend(&journal_path(shard), from, to);
        self.step()
    }

    fn read_journal(&mut self, shard: ShardIndex, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read(&journal_path(shard), position, buffer);
        Ok(())
    }

    fn staged(&mut self, shard: ShardIndex) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.staged.get(usize::from(shard.get())).and_then(|m| m.as_ref()).map(|m| m.copy_out()))
    }

    fn segment_bytes(&mut self, file: SegmentFile) -> Result<Option<u64>, DiskError> {
        Ok(self.disk.length(&segment_path(file)))
    }

    fn read_segment(
        &mut self,
        file: SegmentFile,
        position: u64,
        length: usize,
    ) -> Result<Option<Vec<u8>>, DiskError> {
        let path = segment_path(file);
        if !self.disk.exists(&path) {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        let read = self.disk.read(&path, position, &mut bytes);
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    fn write_segment(&mut self, file: SegmentFile, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let is_last = self.steps_left == Some(0);
        let random = &mut *self.random;
        // A process that dies in a write leaves any part of it behind.
        let mut lands = || !is_last || random.per_mille(500);
        self.disk.write(&segment_path(file), position, bytes, &mut lands);
        self.step()
    }

    fn replace_segment(&mut self, file: SegmentFile, bytes: &[u8]) -> Result<(), DiskError> {
        self.step()?;
        self.disk.replace(&segment_path(file), bytes);
        self.step()
    }

    fn trim_segment(&mut self, file: SegmentFile, length: u64) -> Result<(), DiskError> {
        self.step()?;
        self.disk.truncate(&segment_path(file), length);
        Ok(())
    }

    fn flush_segment(&mut self, file: SegmentFile) -> Result<(), DiskError> {
        self.step()?;
        let path = segment_path(file);
        self.disk.flush(&path, self.disk.next_write());
        self.disk.flush_directory(&path);
        self.step()
    }

    fn retain_segments(&mut self, partition: PartitionId, bases: &[i64]) -> Result<(), DiskError> {
        self.step()?;
        for path in self.disk.paths(&partition_path(partition)) {
            let name = path.rsplit('/').next().unwrap_or_default();
            let is_of = |base: &i64| name.split('.').next() == Some(&format!("{base:020}"));
            if !bases.iter().any(is_of) {
                self.disk.remove(&path);
            }
        }
        Ok(())
    }

    fn read_index(&mut self, file: SegmentFile) -> Result<Option<IndexFiles>, DiskError> {
        Ok(read_index(self.disk, file))
    }

    fn write_index(&mut self, file: SegmentFile, files: &IndexFiles) -> Result<(), DiskError> {
        self.step()?;
        write_index(self.disk, file, files, || true);
        self.step()
    }

    fn new_generation(&mut self) -> Generation {
        Generation(self.random.bits())
    }
}
