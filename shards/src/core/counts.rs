//! What a shard has done since it started, counted for metrics and for tests that must know which branches they met.

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
    /// Reads for fetches that gave bytes which are not what was written.
    pub reads_damaged: u64,
    /// Reads for fetches that failed.
    pub reads_failed: u64,
    /// Operations other than reads that failed.
    pub operations_failed: u64,
    /// Checkpoints whose manifest is durable.
    pub checkpoints: u64,
}
