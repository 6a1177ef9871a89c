//! The metadata image as one listener's clients see it: what Metadata, DescribeCluster and hints are answered from.

use std::sync::Arc;

use corelane_shards::types::{LeaderEpoch, TopicId};

use super::located::live_topic;
use super::view::{Broker, Partition, Topic, View};
use crate::cluster::image::{self, MetadataImage, is_internal_topic};
use crate::wire::Uuid;

/// One state of the metadata, seen from one listener.
#[derive(Clone, Debug)]
pub struct ImageView<'a> {
    image: Arc<MetadataImage>,
    cluster_id: String,
    listener: &'a str,
    start_epoch: LeaderEpoch,
    creates_topics: bool,
}

impl<'a> ImageView<'a> {
    /// The image as the clients of `listener` see it; no partition is led under an epoch before `start_epoch`.
    pub fn new(
        image: Arc<MetadataImage>,
        listener: &'a str,
        start_epoch: LeaderEpoch,
        creates_topics: bool,
    ) -> Self {
        let cluster_id = image.cluster_id().map(|id| id.to_string()).unwrap_or_default();
        Self { image, cluster_id, listener, start_epoch, creates_topics }
    }

    /// Every partition is led by the one broker there is, and lies there alone.
    fn describe(&self, topic: &image::Topic) -> Topic {
        let leader_id = self.controller_id();
        let nodes: Vec<i32> = leader_id.into_iter().collect();
        let leader_epoch = topic.epoch_base.max(self.start_epoch).get();
        let partition = |index| Partition {
            index,
            leader_id,
            leader_epoch,
            replicas: nodes.clone(),
            in_sync: nodes.clone(),
            offline: Vec::new(),
        };
        Topic {
            id: Uuid(topic.id.0),
            is_internal: is_internal_topic(&topic.name),
            partitions: (0..topic.partitions).map(partition).collect(),
        }
    }
}

impl View for ImageView<'_> {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn controller_id(&self) -> Option<i32> {
        self.image.brokers().next().map(|broker| broker.node_id.0)
    }

    fn brokers(&self) -> Vec<Broker> {
        let reached = |broker: &Arc<image::Broker>| {
            let endpoint = broker.endpoints.iter().find(|endpoint| endpoint.listener == self.listener)?;
            let (host, rack) = (endpoint.host.clone(), broker.rack.clone());
            Some(Broker { node_id: broker.node_id.0, host, port: endpoint.port, rack })
        };
        self.image.brokers().filter_map(reached).collect()
    }

    fn topic_names(&self) -> Vec<&str> {
        self.image.topics().map(|topic| topic.name.as_str()).collect()
    }

    fn topic(&self, name: &str) -> Option<Topic> {
        self.image.topic_by_name(name).map(|topic| self.describe(topic))
    }

    fn topic_name(&self, id: Uuid) -> Option<&str> {
        live_topic(&self.image, TopicId(id.0)).map(|topic| topic.name.as_str())
    }

    fn creates_topics(&self) -> bool {
        self.creates_topics
    }
}
