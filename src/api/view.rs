//! What the APIs that describe the cluster are answered from. Whoever keeps the cluster's state implements [`View`].

use crate::wire::Uuid;

/// Read, write, create, delete, alter, describe, describe configs, alter configs: bits by Kafka's AclOperation.
pub(super) const TOPIC_OPERATIONS: i32 = 0x0df8;
/// Create, alter, describe, cluster action, describe configs, alter configs, idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 = 0x1fa0;

/// What Metadata and DescribeCluster are answered from: one immutable state of the cluster, seen from one listener.
pub trait View {
    /// The cluster's id.
    fn cluster_id(&self) -> &str;
    /// The controller's node id.
    fn controller_id(&self) -> Option<i32>;
    /// The brokers, as this listener's clients reach them.
    fn brokers(&self) -> Vec<Broker>;
    /// The names of all topics.
    fn topic_names(&self) -> Vec<&str>;
    /// The topic of this name.
    fn topic(&self, name: &str) -> Option<Topic>;
    /// The name of the topic of this id.
    fn topic_name(&self, id: Uuid) -> Option<&str>;
    /// Whether asking for an unknown topic creates it (`auto.create.topics.enable`).
    fn creates_topics(&self) -> bool;
}

/// A broker, as clients reach it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broker {
    /// Its node id.
    pub node_id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its rack, or none.
    pub rack: Option<String>,
}

/// A topic and its partitions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Topic {
    /// Its id, never zero.
    pub id: Uuid,
    /// Whether it is the broker's own.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
}

/// A partition and where it lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Partition {
    /// Its number within the topic.
    pub index: i32,
    /// Its leader, or none for now.
    pub leader_id: Option<i32>,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// The nodes that have it.
    pub replicas: Vec<i32>,
    /// Those of them in sync.
    pub in_sync: Vec<i32>,
    /// Those of them that are down.
    pub offline: Vec<i32>,
}
