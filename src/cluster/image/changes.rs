//! Every change to the metadata, decided on an image and written as a transaction that commits only if what
//! was decided upon still holds.
//!
//! Pure functions: identities are drawn by the caller. A transaction that meets another commit is refused by
//! the store with a conflict, and the caller decides again on a newer image.
//!
//! A topic's life: created (durable before its first log opens) -> deleting (its name is free at once, its id
//! is not forgotten) -> removed, after its files are gone. A crash between the last two leaves it deleting,
//! and the next start goes on.

use std::{collections::BTreeMap, sync::Arc};

use corelane_shards::types::{LeaderEpoch, TopicId};

use super::{
    ids::{ClusterId, is_reserved_topic_id},
    layout::{
        Key, broker_fits, encode_broker, encode_cluster, encode_epoch, encode_name, encode_topic,
        overrides_fit,
    },
    snapshot::MetadataImage,
    topic_name::{CLUSTER_METADATA_TOPIC, NameError, validate_topic_name},
    values::{Broker, Topic, TopicState},
};
use crate::cluster::{limits::PARTITIONS_PER_TOPIC_MAX, store::Transaction};

/// Why a change was refused before anything was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// The name is not one that a topic may have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Only a Kafka controller has this topic.
    #[error("Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited.")]
    ClusterMetadataTopic,
    /// A live topic has this name.
    #[error("Topic '{0}' already exists.")]
    TopicExists(String),
    /// A live topic has a name that differs only in '.' and '_'.
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    NameCollides {
        /// The name asked for.
        name: String,
        /// The topic that is there.
        existing: String,
    },
    /// The number of partitions is not between 1 and the bound.
    #[error("The number of partitions must be between 1 and {PARTITIONS_PER_TOPIC_MAX}, not {0}.")]
    Partitions(i32),
    /// There is one broker, so each partition has one replica.
    #[error("Replication factor must be 1, the number of brokers, not {0}.")]
    ReplicationFactor(i16),
    /// The overrides are too many or too long.
    #[error("The topic's configuration is larger than it may be.")]
    OverridesTooLarge,
    /// The broker's endpoints or strings are too many or too long.
    #[error("the broker's endpoints are more or longer than they may be")]
    BrokerTooLarge,
    /// The id is reserved or belongs to another topic, perhaps one being deleted.
    #[error("the topic id {0} cannot be given to a new topic")]
    TopicIdTaken(TopicId),
    /// No topic has this id.
    #[error("no topic has the id {0}")]
    UnknownTopicId(TopicId),
    /// Only a topic that is being deleted can be removed.
    #[error("the topic {0} is not being deleted")]
    NotDeleting(TopicId),
    /// The metadata was written before.
    #[error("the metadata already belongs to the cluster {0}")]
    AlreadyInitialised(ClusterId),
    /// The metadata was never written.
    #[error("the metadata has not been initialised")]
    NotInitialised,
    /// The counter is at its end.
    #[error("no leader epoch is left")]
    EpochsExhausted,
}

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name, not yet checked.
    pub name: String,
    /// Its identity: random, never used before.
    pub id: TopicId,
    /// Its number of partitions.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replication_factor: i16,
    /// Settings of its own, checked by the caller as to names and values.
    pub overrides: BTreeMap<String, String>,
}

impl MetadataImage {
    /// Gives an empty key space its cluster's identity and its epoch counter.
    pub fn initialise(&self, id: ClusterId) -> Result<Transaction, ChangeRefused> {
        if let Some(existing) = self.cluster_id() {
            return Err(ChangeRefused::AlreadyInitialised(existing));
        }
        let transaction = self.expecting([Key::Cluster, Key::Epoch]);
        let transaction = transaction.put(Key::Cluster.encode(), encode_cluster(id));
        Ok(transaction.put(Key::Epoch.encode(), encode_epoch(LeaderEpoch(0))))
    }

    /// Registers a broker that starts, and takes the epoch step of its start: the epoch that its logs append
    /// with from then on.
    pub fn start_broker(&self, broker: &Broker) -> Result<(Transaction, LeaderEpoch), ChangeRefused> {
        if !broker_fits(broker) {
            return Err(ChangeRefused::BrokerTooLarge);
        }
        let epoch = self.next_epoch()?;
        let key = Key::Broker(broker.node_id);
        let transaction = self.expecting([Key::Epoch, key.clone()]);
        let transaction = transaction.put(Key::Epoch.encode(), encode_epoch(epoch));
        Ok((transaction.put(key.encode(), encode_broker(broker)), epoch))
    }

    /// Creates a topic and takes the epoch step of its logs' creation.
    pub fn create_topic(&self, new: NewTopic) -> Result<(Transaction, Arc<Topic>), ChangeRefused> {
        self.check_new_topic(&new)?;
        let epoch_base = self.next_epoch()?;
        let NewTopic { name, id, partitions, replication_factor, overrides } = new;
        let state = TopicState::Live;
        let topic = Topic { id, name, state, partitions, replication_factor, epoch_base, overrides };
        let (topic_key, name_key) = (Key::Topic(id), Key::of_name(&topic.name));
        let transaction = self
            .expecting([Key::Epoch, topic_key.clone(), name_key.clone()])
            .put(Key::Epoch.encode(), encode_epoch(epoch_base))
            .put(topic_key.encode(), encode_topic(&topic))
            .put(name_key.encode(), encode_name(id));
        Ok((transaction, Arc::new(topic)))
    }

    /// The first phase of a deletion: the topic loses its name and is marked. Its files may go once this is
    /// durable. `Ok(None)` when it is marked already.
    pub fn begin_delete(&self, id: TopicId) -> Result<Option<Transaction>, ChangeRefused> {
        let topic = self.topic_by_id(id).ok_or(ChangeRefused::UnknownTopicId(id))?;
        if topic.state == TopicState::Deleting {
            return Ok(None);
        }
        let deleting = Topic { state: TopicState::Deleting, ..Topic::clone(topic) };
        let (topic_key, name_key) = (Key::Topic(id), Key::of_name(&topic.name));
        let transaction = self
            .expecting([topic_key.clone(), name_key.clone()])
            .put(topic_key.encode(), encode_topic(&deleting))
            .delete(name_key.encode());
        Ok(Some(transaction))
    }

    /// The second phase: the topic is forgotten. To be called when none of its files is left.
    pub fn finish_delete(&self, id: TopicId) -> Result<Transaction, ChangeRefused> {
        let topic = self.topic_by_id(id).ok_or(ChangeRefused::UnknownTopicId(id))?;
        if topic.state != TopicState::Deleting {
            return Err(ChangeRefused::NotDeleting(id));
        }
        Ok(self.expecting([Key::Topic(id)]).delete(Key::Topic(id).encode()))
    }

    /// Everything that [`create_topic`](Self::create_topic) would refuse; also for a request that only asks
    /// for validation.
    pub fn check_new_topic(&self, new: &NewTopic) -> Result<(), ChangeRefused> {
        validate_topic_name(&new.name)?;
        if new.name == CLUSTER_METADATA_TOPIC {
            return Err(ChangeRefused::ClusterMetadataTopic);
        }
        match self.colliding_topic(&new.name) {
            Some(topic) if topic.name == new.name => {
                return Err(ChangeRefused::TopicExists(new.name.clone()));
            }
            Some(topic) => {
                let (name, existing) = (new.name.clone(), topic.name.clone());
                return Err(ChangeRefused::NameCollides { name, existing });
            }
            None => {}
        }
        if !(1..=PARTITIONS_PER_TOPIC_MAX).contains(&new.partitions) {
            return Err(ChangeRefused::Partitions(new.partitions));
        }
        if new.replication_factor != 1 {
            return Err(ChangeRefused::ReplicationFactor(new.replication_factor));
        }
        if !overrides_fit(&new.overrides) {
            return Err(ChangeRefused::OverridesTooLarge);
        }
        if is_reserved_topic_id(new.id) || self.topic_by_id(new.id).is_some() {
            return Err(ChangeRefused::TopicIdTaken(new.id));
        }
        Ok(())
    }

    fn next_epoch(&self) -> Result<LeaderEpoch, ChangeRefused> {
        let epoch = self.epoch().ok_or(ChangeRefused::NotInitialised)?;
        epoch.0.checked_add(1).map(LeaderEpoch).ok_or(ChangeRefused::EpochsExhausted)
    }

    fn expecting<const N: usize>(&self, keys: [Key; N]) -> Transaction {
        keys.iter().fold(Transaction::new(), |all, key| all.expect(key.encode(), self.expected(key)))
    }
}
