//! Named bounds of the metadata store and image. Nothing read from a disk sizes an allocation beyond them.

/// Bytes of one key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of one value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Operations, and separately conditions, of one transaction.
pub const OPERATIONS_PER_TRANSACTION_MAX: usize = 1024;
/// Bytes of one transaction as a record's payload.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// Bytes of all keys and values that the store holds, which also bounds a snapshot.
pub const STATE_BYTES_MAX: usize = 256 << 20;
/// Bytes of a log after which a snapshot is taken and a new log begun.
pub const LOG_BYTES_BEFORE_SNAPSHOT: u64 = 4 << 20;
/// Bytes of any file of the store: none is read that is larger.
pub const FILE_BYTES_MAX: u64 = 2 * STATE_BYTES_MAX as u64;
/// The largest revision that a file's name may say: far beyond any that is reached, and counting on from it overflows
/// nothing.
pub const REVISION_MAX: u64 = u64::MAX / 2;
/// Files looked at in the store's directory.
pub const FILES_MAX: usize = 4096;

/// Commits kept in memory, so that a watch can begin a little in the past.
pub const HISTORY_COMMITS_MAX: usize = 1024;
/// Bytes of the commits kept for that purpose.
pub const HISTORY_BYTES_MAX: usize = 8 << 20;
/// Commits that wait for one watcher; the next one makes it lag.
pub const WATCH_QUEUE_COMMITS: usize = 256;
/// Watches open at once.
pub const WATCHES_MAX: usize = 64;

/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 100_000;
/// Configuration overrides of one topic.
pub const OVERRIDES_PER_TOPIC_MAX: usize = 256;
/// Listeners that one broker advertises.
pub const ENDPOINTS_PER_BROKER_MAX: usize = 64;
/// Bytes of a string inside an image's value (host, override, rack).
pub const STRING_BYTES_MAX: usize = 32 << 10;
/// Times that a typed change is tried again after another commit came between its reading and its commit.
pub const CHANGE_ATTEMPTS_MAX: usize = 16;

const _: () = assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX < RECORD_PAYLOAD_BYTES_MAX);
const _: () = assert!(RECORD_PAYLOAD_BYTES_MAX <= u32::MAX as usize);
// The largest commit is remembered at least until the next one.
const _: () = assert!(HISTORY_BYTES_MAX >= RECORD_PAYLOAD_BYTES_MAX);
