//! Limits of the network that a user may set; those of [`crate::limits`] stand above them.

use std::time::Duration;

use crate::limits::{CONNECTIONS_MAX, REQUESTS_PER_CONNECTION_MAX, SEND_QUEUE_BYTES_MAX};

/// Limits of a shard's network.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest frame, in bytes without its length (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Memory of a shard for frames that lie in no receive buffer, in bytes (`queued.max.request.bytes`). The largest
    /// frame always fits once everything else is answered.
    pub queued_request_bytes_max: usize,
    /// Connections of a shard; beyond it a new socket is closed at once. At most [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Requests of one connection that may wait for their answers.
    pub requests_per_connection_max: usize,
    /// Bytes of answers queued on one connection before its requests are no longer looked at.
    pub send_queue_bytes_max: usize,
    /// A connection without request, answer and traffic for this long is closed (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// A connection is closed if for this long its peer takes nothing of an answer, or sends nothing of a frame begun.
    pub stall_max: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            request_bytes_max: 100 << 20,
            queued_request_bytes_max: 256 << 20,
            connections_max: CONNECTIONS_MAX,
            requests_per_connection_max: REQUESTS_PER_CONNECTION_MAX,
            send_queue_bytes_max: SEND_QUEUE_BYTES_MAX,
            idle_max: Duration::from_secs(600),
            stall_max: Duration::from_secs(30),
        }
    }
}
