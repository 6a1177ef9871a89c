//! The bound of every queue, buffer, loop and in-flight count in the engine, each with its reason.

/// The unit of direct I/O and of trust: a disk keeps or loses 4 KiB blocks, and only whole ones are vouched for. Bytes.
pub const BLOCK_BYTES: usize = 4096;

/// Aligned memory of this size and more is mapped rather than allocated. Bytes.
pub const MAPPED_BYTES: usize = 128 << 10;

/// Size classes of a slab: one block up to 128 MiB, which holds the largest request frame Kafka allows by default.
pub const SLAB_CLASSES: usize = 16;

/// Free buffers kept for reuse in each class of a slab.
pub const SLAB_FREE_PER_CLASS: usize = 64;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());

/// Batches remembered for each idempotent producer: a client has at most five requests in flight (KIP-98).
pub const PRODUCER_BATCHES: usize = 5;

/// A run of small batches is gathered into writes of about this size. Bytes.
pub const LAZY_WRITE_BYTES: u64 = 256 << 10;

/// Memory for runs of small batches that nothing else may take, so that staging memory can always be freed: two runs of
/// the longest journal group and the block before it, rounded up as a slab does. Bytes.
pub const LAZY_RESERVE_BYTES: usize = 8 << 20;

/// Journal groups written or being flushed at a time: one under way while the next one fills the disk's queue.
pub const JOURNAL_GROUPS_IN_FLIGHT: usize = 2;

/// From this size on a batch goes straight to its segment and the journal has its digest. Bytes.
pub const LARGE_BATCH_BYTES: usize = 128 << 10;

/// When one commit would flush more segments than this for large batches, the rest go into the journal by value.
pub const LARGE_SEGMENTS_PER_COMMIT: usize = 4;

/// Bytes of large batches after which a checkpoint is due, so that recovery reads a bounded amount.
pub const DIGESTED_BYTES_PER_CHECKPOINT: u64 = 1 << 30;

/// A disk read's least size. Bytes.
pub const READ_BYTES: usize = 64 << 10;

/// Segment flushes that a checkpoint has under way at a time.
pub const CHECKPOINT_FLUSHES_IN_FLIGHT: usize = 16;

/// Runs of small batches that a shard has under way at a time.
pub const LAZY_RUNS_IN_FLIGHT: usize = 64;

/// A journal never grows beyond this. Bytes.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// A quiet journal's last group is vouched for by an empty one after so long. Milliseconds.
pub const VOUCH_AFTER_MS: i64 = 10;

/// A fetch's first read is no larger, whatever its client would take; it goes on for a batch that is. Bytes.
pub const FETCH_READ_BYTES_MAX: usize = 1 << 20;

/// Memory of a shard for what is read ahead of consumers; pieces that nobody asked for longest go beyond it. Bytes.
pub const READ_AHEAD_BYTES_MAX: usize = 64 << 20;

/// Ends of fetches that a shard remembers, to see which fetches continue them.
pub const READ_CURSORS_MAX: usize = 1024;

/// The largest single disk read: a batch of the largest size that a topic may allow, and its surroundings. Bytes.
pub const READ_BYTES_MAX: usize = 64 << 20;

/// Operations that one shard's ring may have with the kernel at once.
/// A connection has a receive, a send, and cancellations of these and of the receive before; the others one of each.
pub const RING_OPERATIONS_MAX: usize = 6 * CONNECTIONS_MAX + 2 * STORAGE_OPERATIONS_MAX + 2 * LISTENERS_MAX;

/// How often a cancellation looks for an operation that the kernel does not find and that has not completed either.
pub const CANCEL_ATTEMPTS_MAX: u32 = 16;

/// Entries of a ring's submission queue. What does not fit waits in memory, bounded by [`RING_OPERATIONS_MAX`].
pub const RING_SUBMISSIONS: u32 = 1024;

/// Entries of a ring's completion queue. The kernel keeps what overflows and we fetch it; this makes that rare.
pub const RING_COMPLETIONS: u32 = 8192;

/// Disk operations that a shard's engine may have in flight.
pub const STORAGE_OPERATIONS_MAX: usize = 4096;

/// Connections of one shard. Beyond it a new socket is closed at once.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Listening sockets of a process.
pub const LISTENERS_MAX: usize = 64;

/// Connections that wait in the kernel to be accepted, per listener.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Messages that wait in a shard's mailbox.
pub const MAILBOX_MESSAGES_MAX: usize = 1024;

/// Calls of one shard on one other that wait for their answers; each has a reply slot. Further calls wait in line.
pub const HOPS_IN_FLIGHT_MAX: usize = 256;

/// Room for notices of ended and cancelled waits in the queue from one shard to another. Further ones wait in line.
pub const HOP_NOTICES_MAX: usize = 64;

/// Messages in the queue from one shard to another: its calls, its answers to the other's calls, and notices.
pub const ROUTER_QUEUE_MESSAGES: usize = 2 * HOPS_IN_FLIGHT_MAX + HOP_NOTICES_MAX;

/// Calls of one other shard that a shard holds because their log is on its way here, or because it does not know yet
/// whether it is. Fewer than there are slots, so that calls on other logs go on. Further ones are refused.
pub const HOPS_HELD_MAX: usize = 64;

/// How long a call waits for a log on its way, or for news of where it is, before it is refused.
pub const HOP_HELD_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// How often a call is sent on because its log has moved, before it is refused.
pub const SENT_ON_MAX: u32 = 8;

const _: () = assert!(HOPS_HELD_MAX < HOPS_IN_FLIGHT_MAX);

/// Shards of a process.
pub const SHARDS_MAX: usize = 1024;

/// One buffer of the pool from which small receives are served, in bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;

/// Buffers that the kernel holds ready for receives; a power of two, as the kernel wants it.
pub const RECEIVE_BUFFERS: u16 = 128;

/// All receive buffers of a shard, those with the kernel and those that requests still lie in, in bytes.
pub const RECEIVE_POOL_BYTES_MAX: usize = 32 << 20;

/// A frame of this size and more makes its connection receive into the frame's own memory. Bytes.
pub const LARGE_FRAME_BYTES: usize = 32 * 1024;

/// What a receive into a frame's own memory may take beyond the frame's end, in bytes: the start of the next frames,
/// which is looked at in place and copied at most once.
pub const RECEIVE_AHEAD_BYTES: usize = 64 * 1024;

/// Received bytes that a connection holds unlooked-at before its receiving is stopped.
pub const UNPARSED_BYTES_MAX: usize = 64 * 1024;

/// Requests of one connection that may wait for their answers.
pub const REQUESTS_PER_CONNECTION_MAX: usize = 1024;

/// Bytes of answers that one connection may have queued before its requests are no longer looked at.
pub const SEND_QUEUE_BYTES_MAX: usize = 4 << 20;

/// Slices gathered into one send; the kernel takes at most 1024.
pub const SEND_SLICES_MAX: usize = 256;

/// Slices of one disk write; the kernel takes at most 1024.
pub const WRITE_SLICES_MAX: usize = 1024;

/// Completions handled in one turn before the engine and other tasks get theirs.
pub const COMPLETIONS_PER_TURN_MAX: usize = 4096;

const _: () = assert!(RING_OPERATIONS_MAX < u32::MAX as usize);
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && RECEIVE_BUFFER_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(RECEIVE_POOL_BYTES_MAX >= 2 * RECEIVE_BUFFERS as usize * RECEIVE_BUFFER_BYTES);
const _: () = assert!(SEND_SLICES_MAX <= 1024 && WRITE_SLICES_MAX <= 1024);
const _: () = assert!(CONNECTIONS_MAX < u32::MAX as usize && SHARDS_MAX <= u16::MAX as usize);

/// How long a shard waits before it tries again for memory that nobody reports as free, or for a refused accept.
pub const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(10);

/// Segment files that a shard keeps open; the half used longest ago is closed beyond it.
pub const SEGMENT_FILES_OPEN_MAX: usize = 1024;

/// Memory of a shard for the indexes of segments that are not appended to; 1 GiB of batches needs some 6 MiB. Beyond it those
/// used longest ago are let go of, and read again when they are needed. Bytes.
pub const INDEX_BYTES_MAX: usize = 64 << 20;

/// A segment shorter than this has no index files: it is read through in as little time as they are. Bytes.
pub const INDEX_FILES_FROM_BYTES: u64 = 256 << 10;

/// Index files that a shard writes at a time; the jobs behind them on the pool thread wait no longer than for these.
pub const INDEX_WRITES_IN_FLIGHT: usize = 2;

/// The longest index file that is read: more than a segment of the largest size has entries for. Bytes.
pub const INDEX_FILE_BYTES_MAX: u64 = 16 << 20;

/// A segment file never grows beyond this, whatever a topic asks for: Kafka's own limit. Bytes.
pub const SEGMENT_BYTES_MAX: u64 = (1 << 31) - 1;

/// Notices of what went wrong that wait to be told in one turn; those beyond are only counted.
pub const NOTICES_MAX: usize = 64;

/// Segment files remembered as told of being damaged or unreadable; each of them is told at once the first time.
pub const UNREADABLE_FILES_TOLD_MAX: usize = 1024;

/// Reads of one place that may come up short one after the other before the file counts as cut off.
pub const SHORT_READS_MAX: u32 = 8;
