//! What a shard counts. The shard alone writes; any thread reads, without stopping it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters and their snapshot side by side.
macro_rules! counters {
    ($(#[doc = $doc:literal] $(#[doc = $more:literal])* $name:ident,)*) => {
        /// A shard's counters. Gauges are counters that also go down.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $doc] $(#[doc = $more])* pub $name: Counter,)*
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
            /// Names, what is counted, and values, in order of declaration.
            pub fn values(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($doc $(, $more)*).trim_ascii(), self.$name),)*]
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
    accepted_total,
    /// Sockets closed at once because no shard had room.
    refused_total,
    /// Failed accepts.
    accept_errors_total,
    /// Requests handed to the service.
    requests_total,
    /// Bytes received.
    received_bytes_total,
    /// Bytes sent.
    sent_bytes_total,
    /// Connections closed for being idle.
    evicted_idle_total,
    /// Connections closed because their peer stalled.
    evicted_stalled_total,
    /// Connections closed because of a frame that cannot be.
    frame_errors_total,
    /// Connections that ended by an error of the socket.
    socket_errors_total,
    /// Receives that ended for want of a pool buffer.
    receive_pool_empty_total,
    /// Frames that had to wait for request memory.
    memory_waits_total,
    /// Request memory lent out now, in bytes.
    request_memory_bytes,
    /// Disk operations started.
    storage_operations_total,
    /// Whether a failed write made the shard refuse appends.
    appends_stopped,
    /// Calls sent to other shards.
    hops_sent_total,
    /// Of these, answered.
    hops_answered_total,
    /// Calls on other shards that first waited for a reply slot.
    hops_waited_total,
    /// Turns of the driver.
    turns_total,
    /// Times that the driver parked.
    parks_total,
    /// Times that it was woken from parking.
    wakes_total,
    /// Operations with the kernel now.
    ring_operations,
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
