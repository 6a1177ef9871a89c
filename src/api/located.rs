//! From the names of a request to partitions, and the check of the leader epoch that a client believes in (KIP-320).

use corelane_shards::types::{LeaderEpoch, PartitionId, PartitionIndex, TopicId};

use super::ErrorCode;
use super::engine::Engine;
use crate::cluster::image::{MetadataImage, Topic, TopicState};
use crate::wire::Uuid;
use crate::wire::leader::{LeaderAndEpoch, NodeEndpoint};

/// The epoch that a client sends when it knows none.
const NO_EPOCH: i32 = -1;

/// A partition that exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Located {
    /// Which one.
    pub(super) id: PartitionId,
    /// The epoch under which it is led: that of its topic's creation, or of this broker's start if that came later.
    pub(super) epoch: LeaderEpoch,
}

impl Located {
    /// The partition of this topic and number.
    pub(super) fn by_name(
        engine: &impl Engine,
        image: &MetadataImage,
        name: &str,
        index: i32,
    ) -> Result<Self, ErrorCode> {
        let topic = image.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Self::of(engine, topic, index)
    }

    /// The partition of the topic of this id. An id that no live topic has is unknown.
    pub(super) fn by_id(
        engine: &impl Engine,
        image: &MetadataImage,
        id: Uuid,
        index: i32,
    ) -> Result<Self, ErrorCode> {
        let topic = live_topic(image, TopicId(id.0)).ok_or(ErrorCode::UnknownTopicId)?;
        Self::of(engine, topic, index)
    }

    fn of(engine: &impl Engine, topic: &Topic, index: i32) -> Result<Self, ErrorCode> {
        if !(0..topic.partitions).contains(&index) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let id = PartitionId { topic: topic.id, index: PartitionIndex(index) };
        Ok(Self { id, epoch: topic.epoch_base.max(engine.start_epoch()) })
    }

    /// Who leads it, for a client that came to the wrong place or with another epoch (KIP-951).
    pub(super) fn leader(&self, leader_id: Option<i32>) -> LeaderAndEpoch {
        LeaderAndEpoch { leader_id: leader_id.unwrap_or(-1), leader_epoch: self.epoch.get() }
    }

    /// Whether the client's idea of the leader epoch is this one; one that has no idea passes.
    pub(super) fn check_epoch(&self, current: i32) -> Result<(), ErrorCode> {
        match current {
            NO_EPOCH => Ok(()),
            older if older < self.epoch.get() => Err(ErrorCode::FencedLeaderEpoch),
            newer if newer > self.epoch.get() => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}

/// The live topic of this id.
pub(super) fn live_topic(image: &MetadataImage, id: TopicId) -> Option<&Topic> {
    image.topic_by_id(id).map(AsRef::as_ref).filter(|topic| topic.state == TopicState::Live)
}

/// The endpoints of the leaders hinted at, each once.
pub(super) fn endpoints_of<'b>(
    brokers: &'b [super::view::Broker],
    hinted: &[LeaderAndEpoch],
) -> Vec<NodeEndpoint<'b>> {
    let is_hinted = |id: i32| hinted.iter().any(|leader| leader.leader_id == id);
    let named = brokers.iter().filter(|broker| is_hinted(broker.node_id));
    named
        .map(|broker| NodeEndpoint {
            node_id: broker.node_id,
            host: &broker.host,
            port: broker.port.into(),
            rack: broker.rack.as_deref(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_another_epoch_is_told_who_is_behind() {
        let id = PartitionId { topic: TopicId([1; 16]), index: PartitionIndex(0) };
        let located = Located { id, epoch: LeaderEpoch(5) };
        assert_eq!(located.check_epoch(-1), Ok(()));
        assert_eq!(located.check_epoch(5), Ok(()));
        assert_eq!(located.check_epoch(4), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(located.check_epoch(6), Err(ErrorCode::UnknownLeaderEpoch));
        assert_eq!(located.check_epoch(-2), Err(ErrorCode::FencedLeaderEpoch));
    }
}
