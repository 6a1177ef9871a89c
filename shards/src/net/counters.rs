//! What a shard counts and measures. The shard alone writes; any thread reads, without stopping it.
//!
//! Each number is read by itself: two of them may be from moments that lie a turn apart.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::Histogram;
use super::stages::RequestTimes;

/// Declares the counters and their snapshot side by side.
macro_rules! counters {
    ($(#[doc = $doc:literal] $(#[doc = $more:literal])* $name:ident,)*) => {
        /// A shard's counters and times. Gauges are counters that also go down.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $doc] $(#[doc = $more])* pub $name: Counter,)*
            /// Where requests' time went.
            pub requests: RequestTimes,
            /// How long operations on the shard's disk took.
            pub disk: DiskTimes,
            /// How long checkpoints took.
            pub checkpoints: Histogram,
            /// How long the last one took. Nanoseconds.
            pub checkpoint_last_nanoseconds: Counter,
        }

        /// A shard's counters at one moment, each read by itself.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $(#[doc = $doc] $(#[doc = $more])* pub $name: u64,)*
        }

        impl Counters {
            /// Reads all counters.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)* }
            }
        }

        impl Snapshot {
            /// Metrics' names, what is counted, and values, in order of declaration.
            pub fn values(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((
                    concat!("corelane_", stringify!($name)),
                    concat!($doc $(, $more)*).trim_ascii(),
                    self.$name,
                ),)*]
            }
        }
    };
}

counters! {
    /// Connections open now.
    connections_open,
    /// Connections adopted since the start.
    connections_total,
    /// Sockets accepted on this shard, whoever got them.
    connections_accepted_total,
    /// Sockets closed at once because no shard had room.
    connections_refused_total,
    /// Failed accepts.
    accept_errors_total,
    /// Requests handed to the service.
    requests_total,
    /// Bytes received.
    received_bytes_total,
    /// Bytes sent.
    sent_bytes_total,
    /// Connections closed for being idle.
    connections_evicted_idle_total,
    /// Connections closed because their peer stalled.
    connections_evicted_stalled_total,
    /// Connections closed because of a frame that cannot be.
    frame_errors_total,
    /// Connections that ended by an error of the socket.
    socket_errors_total,
    /// Receives that ended for want of a pool buffer.
    receive_pool_empty_total,
    /// Frames that had to wait for request memory.
    request_memory_waits_total,
    /// Request memory lent out now: frames that do not lie in one receive buffer, until they are answered.
    request_memory_bytes,
    /// The ceiling of request memory.
    request_memory_capacity_bytes,
    /// Logs that the shard owns.
    partitions,
    /// Of these, logs that take no more appends because a write failed; all of them if the shard is read-only.
    logs_read_only,
    /// Whether a failed write made the shard refuse appends: 1 or 0.
    shard_read_only,
    /// Journal groups written: each is one write and, unless writes are durable by themselves, shares one flush.
    journal_groups_total,
    /// Bytes of journal groups written, whole blocks.
    journal_written_bytes_total,
    /// Entries in these groups, most of them one batch each: by groups, this is how many share a flush.
    journal_entries_total,
    /// Bytes of the journal that wait for a checkpoint to set them free.
    journal_bytes,
    /// The journal's size.
    journal_capacity_bytes,
    /// Bytes staged or written for the journal and not flushed yet: what a loss of power could take of acks=1 records.
    journal_unflushed_bytes,
    /// Large batches that went straight to their segments and are not flushed yet.
    large_batches_unflushed,
    /// Batches of idempotent producers that were there already and were answered with their first offset.
    duplicates_total,
    /// Appends that wait for room in memory or in the journal.
    appends_waiting,
    /// Staging memory in use: whole chunks that hold a group not flushed yet, or bytes on their way to a segment.
    staging_bytes,
    /// All staging memory.
    staging_capacity_bytes,
    /// Memory for batches lent out now: cached, being written, or being read.
    cache_bytes,
    /// The ceiling of memory for batches.
    cache_capacity_bytes,
    /// Reserved memory lent out now, with which segments are written when memory for batches runs short.
    write_reserve_bytes,
    /// The ceiling of reserved memory.
    write_reserve_capacity_bytes,
    /// Reads for fetches that gave bytes which are not what was written; see E-SEGMENT-DAMAGED.
    reads_damaged_total,
    /// Reads for fetches that failed.
    reads_failed_total,
    /// Operations on the disk, other than reads, that failed.
    operations_failed_total,
    /// Operations started on the disk by the shard's ring.
    storage_operations_total,
    /// Calls sent to other shards.
    hops_sent_total,
    /// Of these, answered.
    hops_answered_total,
    /// Calls on other shards that first waited for a reply slot.
    hops_waited_total,
    /// Calls that met a log that had moved and were sent on.
    hops_sent_on_total,
    /// Calls that waited for a log on its way here, or for news of it.
    hops_held_total,
    /// Calls refused because their log would not arrive or would not stay.
    hops_refused_total,
    /// Turns of the driver.
    turns_total,
    /// Times that the driver parked.
    parks_total,
    /// Times that it was woken from parking.
    wakes_total,
    /// Operations with the kernel now.
    ring_operations,
}

/// An operation on a shard's disk whose times are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// A journal group is written, durably if writes are.
    JournalWrite,
    /// The journal is flushed.
    JournalFlush,
    /// Batches are written to a segment.
    SegmentWrite,
    /// A segment is flushed.
    SegmentFlush,
    /// A segment is read for a fetch.
    SegmentRead,
}

impl DiskOperation {
    /// All of them, in order.
    pub const ALL: [DiskOperation; 5] = [
        DiskOperation::JournalWrite,
        DiskOperation::JournalFlush,
        DiskOperation::SegmentWrite,
        DiskOperation::SegmentFlush,
        DiskOperation::SegmentRead,
    ];
}

/// The times of a shard's operations on its disk: from the turn that started one to the turn that learned of its end.
#[derive(Debug, Default)]
pub struct DiskTimes([Histogram; 5]);

impl DiskTimes {
    /// The times of one operation.
    pub fn of(&self, operation: DiskOperation) -> &Histogram {
        &self.0[operation as usize]
    }
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owning shard may call this: the two steps are not one.
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Sets.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
