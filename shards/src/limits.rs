//! The bound of every queue, buffer, loop and in-flight count in the engine, each with its reason.

/// The unit of direct I/O and of trust: a disk keeps or loses 4 KiB blocks, and only whole ones are vouched for. Bytes.
pub const BLOCK_BYTES: usize = 4096;

/// Size classes of a slab: one block up to 128 MiB, which holds the largest request frame Kafka allows by default.
pub const SLAB_CLASSES: usize = 16;

/// Free buffers kept for reuse in each class of a slab.
pub const SLAB_FREE_PER_CLASS: usize = 64;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());

/// Batches remembered for each idempotent producer: a client has at most five requests in flight (KIP-98).
pub const PRODUCER_BATCHES: usize = 5;

/// A run of small batches is gathered into writes of about this size. Bytes.
pub const LAZY_WRITE_BYTES: u64 = 256 << 10;

/// Journal groups written or being flushed at a time: one under way while the next one fills the disk's queue.
pub const JOURNAL_GROUPS_IN_FLIGHT: usize = 2;

/// From this size on a batch goes straight to its segment and the journal has its digest. Bytes.
pub const LARGE_BATCH_BYTES: usize = 128 << 10;

/// When one commit would flush more segments than this for large batches, the rest go into the journal by value.
pub const LARGE_SEGMENTS_PER_COMMIT: usize = 4;

/// Bytes of large batches after which a checkpoint is due, so that recovery reads a bounded amount.
pub const DIGESTED_BYTES_PER_CHECKPOINT: u64 = 1 << 30;

/// A disk read's least size, which is also its read-ahead. Bytes.
pub const READ_BYTES: usize = 64 << 10;

/// Segment flushes that a checkpoint has under way at a time.
pub const CHECKPOINT_FLUSHES_IN_FLIGHT: usize = 16;

/// A journal never grows beyond this. Bytes.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// A quiet journal's last group is vouched for by an empty one after so long. Milliseconds.
pub const VOUCH_AFTER_MS: i64 = 10;

/// The largest single disk read: a batch of the largest size that a topic may allow, and its surroundings. Bytes.
pub const READ_BYTES_MAX: usize = 64 << 20;

/// A segment file never grows beyond this, whatever a topic asks for: Kafka's own limit. Bytes.
pub const SEGMENT_BYTES_MAX: u64 = (1 << 31) - 1;

/// Reads of one place that may come up short one after the other before the file counts as cut off.
pub const SHORT_READS_MAX: u32 = 8;
