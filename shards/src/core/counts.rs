//! What a shard has done since it started, and how full it is: for metrics and for tests that must know which branches they
//! met.

use super::shard::Shard;

/// Counts since the start of the shard; they only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs of small batches gathered and written to a segment.
    pub lazy_writes: u64,
    /// Of these, how many had to take reserved memory because the slab was full.
    pub runs_from_reserve: u64,
    /// Staging chunks whose batches had to be written because memory ran short.
    pub chunks_evicted: u64,
    /// Large batches that went into the journal by value, since their commit flushed enough segments already.
    pub large_by_value: u64,
    /// Segments rolled because they were full.
    pub rolled_by_size: u64,
    /// Segments rolled because they were old.
    pub rolled_by_time: u64,
    /// Journal groups closed.
    pub groups: u64,
    /// Their bytes, whole blocks.
    pub group_bytes: u64,
    /// The entries in them.
    pub entries: u64,
    /// Appends that were recognised as duplicates.
    pub duplicates: u64,
    /// Reads for fetches that gave bytes which are not what was written.
    pub reads_damaged: u64,
    /// Reads for fetches that failed.
    pub reads_failed: u64,
    /// Operations other than reads that failed.
    pub operations_failed: u64,
    /// Checkpoints whose manifest is durable.
    pub checkpoints: u64,
    /// Pieces read before they were asked for, and of these, how many were ready when they were.
    pub reads_ahead: u64,
    /// See above.
    pub reads_ahead_used: u64,
    /// Fetches that waited for a read that was under way already.
    pub reads_joined: u64,
    /// Indexes of segments that memory ran short for.
    pub indexes_forgotten: u64,
}

/// How full a shard is at one moment. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// Logs.
    pub partitions: usize,
    /// Logs that take no more appends.
    pub logs_stopped: usize,
    /// Journal space that waits for a manifest to set it free.
    pub journal: u64,
    /// The journal's size.
    pub journal_capacity: u64,
    /// Journal groups, the open one among them, that are not flushed.
    pub journal_unflushed: u64,
    /// Large batches, by number, that are not flushed.
    pub large_unflushed: usize,
    /// Staging chunks in use.
    pub staging: usize,
    /// All staging chunks.
    pub staging_capacity: usize,
    /// Slab memory lent out.
    pub slab: usize,
    /// Its ceiling.
    pub slab_capacity: usize,
    /// Reserved memory lent out.
    pub reserve: usize,
    /// Its ceiling.
    pub reserve_capacity: usize,
}

impl Shard {
    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How full it is; costs a look at each staging chunk.
    pub fn fullness(&self) -> Fullness {
        let journal = &self.journal;
        let chunk = journal.chunk_bytes();
        Fullness {
            partitions: self.partitions.len(),
            logs_stopped: self.logs_stopped(),
            journal: journal.bytes_live(),
            journal_capacity: journal.geometry().capacity,
            journal_unflushed: journal.bytes_unflushed(),
            large_unflushed: journal.large_unsettled(),
            staging: (journal.chunks() - journal.chunks_free()) * chunk,
            staging_capacity: journal.chunks() * chunk,
            slab: self.slab.bytes_lent(),
            slab_capacity: self.slab.bytes_max(),
            reserve: self.reserve.bytes_lent(),
            reserve_capacity: self.reserve.bytes_max(),
        }
    }
}
