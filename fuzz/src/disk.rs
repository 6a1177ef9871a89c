//! A data directory in memory, for recovery. Blocks that were never written are zeros and take no memory.

use std::collections::BTreeMap;

use corelane_shards::core::effect::SegmentFile;
use corelane_shards::core::recovery::{Disk, DiskError, IndexFiles};
use corelane_shards::limits::BLOCK_BYTES;
use corelane_shards::types::{Generation, PartitionId, ShardIndex};

/// A file of blocks.
#[derive(Clone, Default)]
pub(crate) struct Blocks {
    pub(crate) bytes: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>,
}

impl Blocks {
    /// A file of so many zeros.
    pub(crate) fn zeros(bytes: u64) -> Blocks {
        Blocks { bytes, blocks: BTreeMap::new() }
    }

    pub(crate) fn write(&mut self, position: u64, bytes: &[u8]) {
        assert!(position.is_multiple_of(BLOCK_BYTES as u64), "direct writes are aligned");
        for (at, chunk) in (position / BLOCK_BYTES as u64..).zip(bytes.chunks(BLOCK_BYTES)) {
            let block = self.blocks.entry(at).or_insert_with(|| Box::new([0; BLOCK_BYTES]));
            block[..chunk.len()].copy_from_slice(chunk);
        }
        self.bytes = self.bytes.max(position + bytes.len() as u64);
    }

    /// All of it.
    pub(crate) fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.bytes).expect("64 bits")];
        self.read(0, &mut bytes);
        bytes
    }

    fn read(&self, position: u64, buffer: &mut [u8]) {
        for (at, chunk) in (position / BLOCK_BYTES as u64..).zip(buffer.chunks_mut(BLOCK_BYTES)) {
            match self.blocks.get(&at) {
                Some(block) => chunk.copy_from_slice(&block[..chunk.len()]),
                None => chunk.fill(0),
            }
        }
    }
}

/// The directory.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
    pub(crate) root: Option<Vec<u8>>,
    pub(crate) manifests: BTreeMap<String, Vec<u8>>,
    pub(crate) journals: BTreeMap<ShardIndex, Blocks>,
    pub(crate) staged: Option<Vec<u8>>,
    pub(crate) segments: BTreeMap<SegmentFile, Blocks>,
    pub(crate) indexes: BTreeMap<SegmentFile, IndexFiles>,
    /// The next opening's secret.
    pub(crate) generation: u64,
}

impl Disk for MemoryDisk {
    fn read_root(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.root.clone())
    }

    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.root = Some(bytes.to_vec());
        Ok(())
    }

    fn read_manifest(&mut self, name: &str) -> Result<Vec<u8>, DiskError> {
        self.manifests.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn replace_manifest(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.manifests.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn retain_manifests(&mut self, names: &[String]) -> Result<(), DiskError> {
        self.manifests.retain(|name, _| names.contains(name));
        Ok(())
    }

    fn journal_bytes(&mut self, shard: ShardIndex) -> Result<Option<u64>, DiskError> {
        Ok(self.journals.get(&shard).map(|journal| journal.bytes))
    }

    fn create_journal(&mut self, shard: ShardIndex, bytes: u64) -> Result<(), DiskError> {
        self.journals.insert(shard, Blocks::zeros(bytes));
        Ok(())
    }

    fn extend_journal(&mut self, shard: ShardIndex, from: u64, to: u64) -> Result<(), DiskError> {
        let journal = self.journals.get_mut(&shard).ok_or_else(|| missing("a journal"))?;
        journal.blocks.retain(|at, _| *at < from / BLOCK_BYTES as u64);
        journal.bytes = journal.bytes.max(to);
        Ok(())
    }

    fn read_journal(&mut self, shard: ShardIndex, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.journals.get(&shard).ok_or_else(|| missing("a journal"))?.read(position, buffer);
        Ok(())
    }

    fn staged(&mut self, _shard: ShardIndex) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.staged.clone())
    }

    fn read_segment(
        &mut self,
        file: SegmentFile,
        position: u64,
        length: usize,
    ) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(segment) = self.segments.get(&file) else { return Ok(None) };
        let available = usize::try_from(segment.bytes.saturating_sub(position)).expect("64 bits");
        let mut bytes = vec![0; length.min(available)];
        segment.read(position, &mut bytes);
        Ok(Some(bytes))
    }

    fn write_segment(&mut self, file: SegmentFile, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.segments.entry(file).or_default().write(position, bytes);
        Ok(())
    }

    fn segment_bytes(&mut self, file: SegmentFile) -> Result<Option<u64>, DiskError> {
        Ok(self.segments.get(&file).map(|segment| segment.bytes))
    }

    fn replace_segment(&mut self, file: SegmentFile, bytes: &[u8]) -> Result<(), DiskError> {
        let mut segment = Blocks::default();
        segment.write(0, bytes);
        self.segments.insert(file, segment);
        Ok(())
    }

    fn trim_segment(&mut self, file: SegmentFile, length: u64) -> Result<(), DiskError> {
        if let Some(segment) = self.segments.get_mut(&file) {
            segment.bytes = segment.bytes.min(length);
            segment.blocks.retain(|at, _| *at < length.div_ceil(BLOCK_BYTES as u64));
        }
        Ok(())
    }

    fn flush_segment(&mut self, _file: SegmentFile) -> Result<(), DiskError> {
        Ok(())
    }

    fn retain_segments(&mut self, partition: PartitionId, bases: &[i64]) -> Result<(), DiskError> {
        let is_kept = |file: &SegmentFile| file.partition != partition || bases.contains(&file.base.get());
        self.segments.retain(|file, _| is_kept(file));
        self.indexes.retain(|file, _| is_kept(file));
        Ok(())
    }

    fn read_index(&mut self, file: SegmentFile) -> Result<Option<IndexFiles>, DiskError> {
        Ok(self.indexes.get(&file).cloned())
    }

    fn write_index(&mut self, file: SegmentFile, files: &IndexFiles) -> Result<(), DiskError> {
        self.indexes.insert(file, files.clone());
        Ok(())
    }

    fn new_generation(&mut self) -> Generation {
        self.generation += 1;
        Generation(self.generation)
    }
}

fn missing(name: &str) -> DiskError {
    DiskError::Io { what: format!("reading {name}"), source: std::io::ErrorKind::NotFound.into() }
}
