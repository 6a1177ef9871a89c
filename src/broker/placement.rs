//! Which shard owns a log: decided by its id alone, so that every thread agrees without asking.

use corelane_shards::types::{PartitionId, ShardIndex};

/// The owner among `shards` shards. The partitions of a topic are spread evenly; topics begin at different shards.
pub(super) fn owner(id: PartitionId, shards: usize) -> ShardIndex {
    let start = u64::from_le_bytes(id.topic.0[..8].try_into().expect("eight of sixteen bytes"));
    let place = start.wrapping_add(u64::from(id.index.get().unsigned_abs())) % shards as u64;
    ShardIndex(u16::try_from(place).expect("there are at most 1,024 shards"))
}

#[cfg(test)]
mod tests {
    use corelane_shards::types::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn the_partitions_of_a_topic_are_spread_evenly() {
        let topic = TopicId([0xab; 16]);
        let mut logs = [0; 4];
        for index in 0..16 {
            logs[usize::from(owner(PartitionId { topic, index: PartitionIndex(index) }, 4).get())] += 1;
        }
        assert_eq!(logs, [4; 4]);
    }
}
