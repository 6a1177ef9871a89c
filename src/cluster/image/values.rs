//! What the metadata says, as the broker speaks of it.

use std::collections::BTreeMap;

use corelane_shards::types::{LeaderEpoch, TopicId};

use super::ids::NodeId;

/// A listener as clients are told to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
}

/// A broker as it last registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its identity within the cluster.
    pub node_id: NodeId,
    /// Drawn anew at each of its starts.
    pub incarnation: [u8; 16],
    /// Where it stands.
    pub rack: Option<String>,
    /// How it is reached.
    pub endpoints: Vec<Endpoint>,
}

/// Where a topic is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// It can be used.
    Live,
    /// It has no name any more; its files are being removed, and then it will be forgotten.
    Deleting,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its identity; never that of an earlier topic of the same name.
    pub id: TopicId,
    /// Its name, or while it is deleted, the name that it had.
    pub name: String,
    /// Where it is in its life.
    pub state: TopicState,
    /// Partitions 0 to this, exclusive; at least one.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replication_factor: i16,
    /// The broker-wide epoch counter when the topic was created. A batch of this topic carries this epoch, or
    /// that of the broker's start if it is greater.
    pub epoch_base: LeaderEpoch,
    /// Settings that differ from the broker's, by Kafka's names.
    pub overrides: BTreeMap<String, String>,
}
