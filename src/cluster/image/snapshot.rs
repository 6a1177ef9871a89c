//! The metadata as of one commit. Immutable: an advance makes another image, which shares the topics and
//! brokers that did not change.
//!
//! An advance costs time in proportion to the number of topics (the maps are copied, their contents are not),
//! which suits metadata: it changes rarely and is looked up with every request.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc};

use bytes::Bytes;
use corelane_shards::types::{LeaderEpoch, TopicId};

use super::{
    ids::{ClusterId, NodeId},
    layout::{Key, decode_broker, decode_cluster, decode_epoch, decode_name, decode_topic},
    topic_name::collision_form,
    values::{Broker, Topic, TopicState},
};
use crate::cluster::store::{Committed, Expected, Malformed, Range, Revision};

/// What the store holds is no metadata that this program understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata key {key} {reason}")]
pub struct ImageError {
    /// The key, printable.
    pub key: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A value and the commit that wrote it.
type Stored<T> = (T, Revision);

/// The metadata as of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataImage {
    revision: Revision,
    cluster_id: Option<Stored<ClusterId>>,
    epoch: Option<Stored<LeaderEpoch>>,
    brokers: BTreeMap<NodeId, Stored<Arc<Broker>>>,
    topics: HashMap<TopicId, Stored<Arc<Topic>>>,
    names: HashMap<String, Stored<TopicId>>,
}

impl MetadataImage {
    /// The image of a whole key space.
    pub fn from_range(range: Range) -> Result<MetadataImage, ImageError> {
        let mut image = MetadataImage { revision: range.revision, ..MetadataImage::default() };
        for entry in range.entries {
            image.set(&entry.key, Some(entry.value), entry.revision)?;
        }
        image.check()?;
        Ok(image)
    }

    /// The image after one more commit.
    pub fn advance(&self, committed: &Committed) -> Result<MetadataImage, ImageError> {
        assert!(committed.revision > self.revision, "commits are applied in order and once");
        let mut image = MetadataImage { revision: committed.revision, ..self.clone() };
        for change in &committed.changes {
            image.set(&change.key, change.value.clone(), committed.revision)?;
        }
        image.check()?;
        Ok(image)
    }

    /// The last commit that this image includes.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The cluster's identity; `None` before the metadata was first written.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id.map(|(id, _)| id)
    }

    /// The broker-wide epoch counter: a step for each start of a broker and each creation of a topic's logs.
    pub fn epoch(&self) -> Option<LeaderEpoch> {
        self.epoch.map(|(epoch, _)| epoch)
    }

    /// The brokers in the order of their ids.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values().map(|(broker, _)| broker)
    }

    /// One broker.
    pub fn broker(&self, id: NodeId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id).map(|(broker, _)| broker)
    }

    /// The live topic of exactly this name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.colliding_topic(name).filter(|topic| topic.name == name)
    }

    /// A topic by its id, live or not: see [`Topic::state`].
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id).map(|(topic, _)| topic)
    }

    /// The live topics, in no order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values().map(|(topic, _)| topic).filter(|topic| topic.state == TopicState::Live)
    }

    /// The topics whose files are still to be removed, in no order: what a start after a crash resumes.
    pub fn deleting_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values().map(|(topic, _)| topic).filter(|topic| topic.state == TopicState::Deleting)
    }

    /// The live topic whose name is this one, or differs from it only in '.' and '_'.
    pub(super) fn colliding_topic(&self, name: &str) -> Option<&Arc<Topic>> {
        let (id, _) = self.names.get(&collision_form(name))?;
        self.topic_by_id(*id)
    }

    /// What a transaction that was decided on this image must expect of a key.
    pub(super) fn expected(&self, key: &Key) -> Expected {
        let revision = match key {
            Key::Cluster => self.cluster_id.map(|(_, revision)| revision),
            Key::Epoch => self.epoch.map(|(_, revision)| revision),
            Key::Broker(id) => self.brokers.get(id).map(|(_, revision)| *revision),
            Key::Topic(id) => self.topics.get(id).map(|(_, revision)| *revision),
            Key::Name(form) => self.names.get(form).map(|(_, revision)| *revision),
        };
        revision.map_or(Expected::Absent, Expected::Revision)
    }

    fn set(&mut self, key: &Bytes, value: Option<Bytes>, revision: Revision) -> Result<(), ImageError> {
        let decoded = Key::decode(key).ok_or_else(|| wrong(key, "is not one that this version knows"))?;
        self.set_decoded(decoded, value, revision)
            .map_err(|Malformed| wrong(key, "has a value that this version cannot read"))
    }

    fn set_decoded(&mut self, key: Key, value: Option<Bytes>, revision: Revision) -> Result<(), Malformed> {
        let stored = |bytes: Bytes| -> (Bytes, Revision) { (bytes, revision) };
        let value = value.map(stored);
        match key {
            Key::Cluster => self.cluster_id = decode(value, decode_cluster)?,
            Key::Epoch => self.epoch = decode(value, decode_epoch)?,
            Key::Name(form) => replace(&mut self.names, form, decode(value, decode_name)?),
            Key::Topic(id) => {
                let topic = decode(value, |bytes| decode_topic(bytes).map(Arc::new))?;
                if topic.as_ref().is_some_and(|(topic, _)| topic.id != id) {
                    return Err(Malformed);
                }
                replace(&mut self.topics, id, topic);
            }
            Key::Broker(id) => match decode(value, |bytes| decode_broker(bytes).map(Arc::new))? {
                Some((broker, _)) if broker.node_id != id => return Err(Malformed),
                Some(stored) => _ = self.brokers.insert(id, stored),
                None => _ = self.brokers.remove(&id),
            },
        }
        Ok(())
    }

    /// Names and live topics are one to one, and no topic was created at an epoch that the counter has not
    /// reached.
    fn check(&self) -> Result<(), ImageError> {
        for (form, (id, _)) in &self.names {
            let topic = self.topics.get(id).filter(|(topic, _)| topic.state == TopicState::Live);
            if topic.is_none_or(|(topic, _)| collision_form(&topic.name) != *form) {
                return Err(wrong(&Key::Name(form.clone()).encode(), "names no live topic of that name"));
            }
        }
        if let Some(topic) = self.topics().find(|topic| self.topic_by_name(&topic.name) != Some(topic)) {
            return Err(wrong(
                &Key::Topic(topic.id).encode(),
                "is a live topic that its name does not lead to",
            ));
        }
        let counter = self.epoch();
        match self.topics.values().find(|(topic, _)| Some(topic.epoch_base) > counter) {
            Some((topic, _)) => Err(wrong(&Key::Topic(topic.id).encode(), "is of an epoch not yet reached")),
            None => Ok(()),
        }
    }
}

fn decode<T>(
    value: Option<Stored<Bytes>>,
    decode: impl FnOnce(Bytes) -> Result<T, Malformed>,
) -> Result<Option<Stored<T>>, Malformed> {
    value.map(|(bytes, revision)| Ok((decode(bytes)?, revision))).transpose()
}

fn replace<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => _ = map.insert(key, value),
        None => _ = map.remove(&key),
    }
}

fn wrong(key: &[u8], reason: &'static str) -> ImageError {
    ImageError { key: key.escape_ascii().to_string(), reason }
}
