//! Hints at a partition's new leader, which Produce 10 and Fetch 12 carry (KIP-951, KIP-595).

use super::Writer;

/// A partition's leader, as Produce and Fetch hint at it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaderAndEpoch {
    /// The leader's node id, -1 if unknown.
    pub leader_id: i32,
    /// The leader's epoch, -1 if unknown.
    pub leader_epoch: i32,
}

impl LeaderAndEpoch {
    pub(super) fn write(self, writer: &mut Writer) {
        writer.i32(self.leader_id);
        writer.i32(self.leader_epoch);
        writer.no_tags();
    }
}

/// Where a hinted leader is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeEndpoint<'a> {
    /// Its node id.
    pub node_id: i32,
    /// Its host.
    pub host: &'a str,
    /// Its port.
    pub port: i32,
    /// Its rack, or none.
    pub rack: Option<&'a str>,
}

/// Ends a response body with the endpoints of the leaders it hints at, as tag 0, where there are any.
pub(super) fn write_node_endpoints(writer: &mut Writer, endpoints: &[NodeEndpoint<'_>]) {
    if endpoints.is_empty() {
        return writer.no_tags();
    }
    writer.tag_count(1);
    writer.tag(0, |field| {
        field.count(endpoints.len());
        for endpoint in endpoints {
            field.i32(endpoint.node_id);
            field.string(endpoint.host);
            field.i32(endpoint.port);
            field.nullable_string(endpoint.rack);
            field.no_tags();
        }
    });
}
