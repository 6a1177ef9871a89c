//! Metadata 0-13: brokers, topics, partitions, who leads them and under which epoch.
//!
//! - All topics: version 0 asks with an empty list, later ones with null.
//! - Unknown topics are answered with UNKNOWN_TOPIC_OR_PARTITION, names that none may have with
//!   INVALID_TOPIC_EXCEPTION. Where the request and the broker allow it, the caller first creates what
//!   [`topics_to_create`] names and then asks [`handle`], so that a first producer need not come twice; what could
//!   not be created is answered as unknown, and clients try again.
//! - From version 12 on, topics may be asked for by id. As with Kafka, one id in the list makes the names in it
//!   count for nothing, and an unknown id is answered with UNKNOWN_TOPIC_ID. Versions 10 and 11 have the field but
//!   may not use it: the whole request is answered with INVALID_REQUEST, topic by topic.
//! - Topics are answered once each, in the order of the request.
//! - Authorized operations, where asked for, are all operations: there is no authorizer yet.

use std::collections::HashSet;

use bytes::Bytes;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::registry::Api;
use super::view::{Broker, CLUSTER_OPERATIONS, Partition, TOPIC_OPERATIONS, Topic, View};
use super::{CloseReason, ErrorCode, Request};
use crate::cluster::image::validate_topic_name;
use crate::wire::Uuid;

/// Metadata.
pub const API: Api = Api { key: 3, name: "Metadata", advertised: 0..=13, served: 0..=13, flexible_from: 9 };

/// Reads a request's body.
pub fn decode(request: &Request<'_>) -> Result<MetadataRequest, CloseReason> {
    request.decode()
}

/// The topics to create before [`handle`] answers, once each. How many may be created at once is the caller's to bound.
pub fn topics_to_create<'b>(body: &'b MetadataRequest, version: i16, view: &impl View) -> Vec<&'b str> {
    let wanted = Wanted::read(body, version);
    let (true, true, Wanted::Names(names)) = (view.creates_topics(), body.allow_auto_topic_creation, wanted)
    else {
        return Vec::new();
    };
    let missing = |name: &&str| validate_topic_name(name).is_ok() && view.topic(name).is_none();
    names.into_iter().filter(missing).collect()
}

/// Answers a request.
pub fn handle(request: &Request<'_>, body: &MetadataRequest, view: &impl View) -> Result<Bytes, CloseReason> {
    let version = request.version();
    let response = match Wanted::read(body, version) {
        Wanted::Refused => refuse(body, version),
        Wanted::All => answer(body, view, named(view.topic_names(), view)),
        Wanted::Names(names) => answer(body, view, named(names, view)),
        Wanted::Ids(ids) => answer(body, view, ids.into_iter().map(|id| by_id(id, view)).collect()),
    };
    request.encode(&response)
}

/// What a request asks for, each topic once.
enum Wanted<'b> {
    All,
    Names(Vec<&'b str>),
    Ids(Vec<Uuid>),
    Refused,
}

impl<'b> Wanted<'b> {
    fn read(body: &'b MetadataRequest, version: i16) -> Self {
        let Some(topics) = &body.topics else { return Self::All };
        if version == 0 && topics.is_empty() {
            return Self::All;
        }
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        let (mut ids_seen, mut names_seen) = (HashSet::new(), HashSet::new());
        for topic in topics {
            let id = Uuid(*topic.topic_id.as_bytes());
            match &topic.name {
                _ if !id.is_zero() && version < 12 => return Self::Refused,
                _ if !id.is_zero() => ids.extend(ids_seen.insert(id).then_some(id)),
                Some(name) => names.extend(names_seen.insert(name.as_str()).then_some(name.as_str())),
                None => return Self::Refused,
            }
        }
        if ids.is_empty() { Self::Names(names) } else { Self::Ids(ids) }
    }
}

fn named<'n>(names: impl IntoIterator<Item = &'n str>, view: &impl View) -> Vec<MetadataResponseTopic> {
    names.into_iter().map(|name| by_name(name, view)).collect()
}

fn by_name(name: &str, view: &impl View) -> MetadataResponseTopic {
    match (view.topic(name), validate_topic_name(name)) {
        (Some(topic), _) => describe(name, topic),
        (None, Ok(())) => failed(ErrorCode::UnknownTopicOrPartition).with_name(Some(text(name))),
        (None, Err(invalid)) => failed(invalid.into()).with_name(Some(text(name))),
    }
}

fn by_id(id: Uuid, view: &impl View) -> MetadataResponseTopic {
    let found = view.topic_name(id).and_then(|name| Some(describe(name, view.topic(name)?)));
    let unknown = || failed(ErrorCode::UnknownTopicId).with_name(None).with_topic_id(wire_id(id));
    found.unwrap_or_else(unknown)
}

fn describe(name: &str, topic: Topic) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_name(Some(text(name)))
        .with_topic_id(wire_id(topic.id))
        .with_is_internal(topic.is_internal)
        .with_partitions(topic.partitions.into_iter().map(partition).collect())
}

fn failed(error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(error.code())
}

fn partition(partition: Partition) -> MetadataResponsePartition {
    let nodes = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let error = partition.leader_id.map_or(ErrorCode::LeaderNotAvailable, |_| ErrorCode::None);
    MetadataResponsePartition::default()
        .with_error_code(error.code())
        .with_partition_index(partition.index)
        .with_leader_id(BrokerId(partition.leader_id.unwrap_or(-1)))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(nodes(partition.replicas))
        .with_isr_nodes(nodes(partition.in_sync))
        .with_offline_replicas(nodes(partition.offline))
}

fn answer(
    body: &MetadataRequest,
    view: &impl View,
    mut topics: Vec<MetadataResponseTopic>,
) -> MetadataResponse {
    if body.include_topic_authorized_operations {
        let found = topics.iter_mut().filter(|topic| topic.error_code == ErrorCode::None.code());
        found.for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    let mut response = MetadataResponse::default()
        .with_brokers(view.brokers().into_iter().map(broker).collect())
        .with_cluster_id(Some(StrBytes::from_string(view.cluster_id().to_owned())))
        .with_controller_id(BrokerId(view.controller_id().unwrap_or(-1)))
        .with_topics(topics);
    if body.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn broker(broker: Broker) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(broker.node_id))
        .with_host(StrBytes::from_string(broker.host))
        .with_port(broker.port.into())
        .with_rack(broker.rack.map(StrBytes::from_string))
}

/// Kafka's shape for a request refused as a whole: no brokers, and each topic with the error. Below version 12 a
/// name cannot be null, so it is empty.
fn refuse(body: &MetadataRequest, version: i16) -> MetadataResponse {
    let refused = body.topics.iter().flatten().map(|topic| {
        let name = topic.name.clone().or_else(|| (version < 12).then(TopicName::default));
        failed(ErrorCode::InvalidRequest).with_name(name).with_topic_id(topic.topic_id)
    });
    MetadataResponse::default()
        .with_cluster_id(None)
        .with_controller_id(BrokerId(-1))
        .with_topics(refused.collect())
}

fn text(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// The id in the generated codec's type, by way of its conversion from bytes, so that its crate need not be named.
pub(super) fn wire_id<T: TryFrom<Vec<u8>, Error: std::fmt::Debug>>(id: Uuid) -> T {
    id.0.to_vec().try_into().expect("an id is 16 bytes, and any 16 bytes are an id")
}
