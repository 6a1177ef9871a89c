//! Metadata, end to end: a captured request, answered from the state that the captured answer describes, gives the
//! captured answer again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelane::api::view::{Broker, Partition, Topic, View};
use corelane::api::{Dispatch, dispatch};
use corelane::api::{describe_cluster, metadata};
use corelane::wire::Uuid;
use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::protocol::Decodable;

use crate::frames::{self, Exchange};

/// The state of the captured broker, as far as one answer shows it.
#[derive(Debug, Default)]
struct Captured {
    controller: i32,
    brokers: Vec<Broker>,
    /// In the order of the answer, which for all topics is Kafka's own.
    topics: Vec<(String, Topic)>,
    creates: bool,
}

impl View for Captured {
    fn cluster_id(&self) -> &str {
        "4L6g3nShT-eMCtK--X86sw"
    }

    fn controller_id(&self) -> Option<i32> {
        Some(self.controller)
    }

    fn brokers(&self) -> Vec<Broker> {
        self.brokers.clone()
    }

    fn topic_names(&self) -> Vec<&str> {
        self.topics.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn topic(&self, name: &str) -> Option<Topic> {
        self.topics.iter().find(|(known, _)| known == name).map(|(_, topic)| topic.clone())
    }

    fn topic_name(&self, id: Uuid) -> Option<&str> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.as_str())
    }

    fn creates_topics(&self) -> bool {
        self.creates
    }
}

fn captured_state(response: &MetadataResponse) -> Captured {
    let brokers = response.brokers.iter().map(|broker| Broker {
        node_id: broker.node_id.0,
        host: broker.host.to_string(),
        port: u16::try_from(broker.port).expect("a port"),
        rack: broker.rack.as_ref().map(ToString::to_string),
    });
    let known = response.topics.iter().filter(|topic| topic.error_code == 0);
    Captured {
        // Version 0 does not name the controller.
        controller: response.controller_id.0,
        brokers: brokers.collect(),
        topics: known.map(topic).collect(),
        creates: true,
    }
}

fn topic(topic: &MetadataResponseTopic) -> (String, Topic) {
    let name = topic.name.as_ref().expect("a known topic has a name").to_string();
    let id = Uuid(*topic.topic_id.as_bytes());
    let partitions = topic.partitions.iter().map(partition).collect();
    (name, Topic { id, is_internal: topic.is_internal, partitions })
}

fn partition(partition: &MetadataResponsePartition) -> Partition {
    let nodes = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect();
    Partition {
        index: partition.partition_index,
        leader_id: Some(partition.leader_id.0),
        leader_epoch: partition.leader_epoch,
        replicas: nodes(&partition.replica_nodes),
        in_sync: nodes(&partition.isr_nodes),
        offline: nodes(&partition.offline_replicas),
    }
}

fn reference(exchange: &Exchange) -> MetadataResponse {
    let captured = exchange.response.as_ref().expect("Metadata is answered");
    let mut body = Bytes::copy_from_slice(&captured[if exchange.version >= 9 { 5 } else { 4 }..]);
    MetadataResponse::decode(&mut body, exchange.version).expect("a captured response")
}

fn answer(exchange: &Exchange, view: &Captured) -> Bytes {
    let Dispatch::Serve(request) = dispatch(&exchange.request) else {
        panic!("{} is not served", exchange.label());
    };
    let body = metadata::decode(&request).unwrap_or_else(|error| panic!("{}: {error}", exchange.label()));
    metadata::handle(&request, &body, view).unwrap_or_else(|error| panic!("{}: {error}", exchange.label()))
}

/// Kafka answers what exists before what does not, in no set order; we answer in the order of the request. It meets
/// text that is not UTF-8 with a replacement, and a name and id that are both missing with an internal error.
fn differs_on_purpose(expected: &MetadataResponse, exchange: &Exchange) -> bool {
    let errors: BTreeSet<_> = expected.topics.iter().map(|topic| topic.error_code).collect();
    let text = exchange.request.windows(2).any(|pair| pair == [0xff, 0xfe]);
    errors.len() > 1 || errors.contains(&-1) || text
}

#[test]
fn captured_requests_are_answered_as_kafka_answered_them() {
    let (mut versions, mut errors, mut excused) = (BTreeSet::new(), BTreeMap::new(), 0);
    for exchange in frames::of("metadata") {
        let expected = reference(&exchange);
        if differs_on_purpose(&expected, &exchange) {
            excused += 1;
            continue;
        }
        let ours = answer(&exchange, &captured_state(&expected));
        assert_eq!(Some(&ours[4..]), exchange.response.as_deref(), "{}", exchange.label());
        versions.insert(exchange.version);
        for topic in &expected.topics {
            *errors.entry(topic.error_code).or_insert(0) += 1;
        }
    }
    assert_eq!(versions, (0..=13).collect());
    // None, UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION, INVALID_REQUEST, UNKNOWN_TOPIC_ID.
    assert_eq!(errors.keys().copied().collect::<Vec<_>>(), [0, 3, 17, 42, 100]);
    assert_eq!(excused, 3, "the cases named above, and no others");
}

#[test]
fn captured_clusters_are_described_as_kafka_described_them() {
    let (mut versions, mut errors) = (BTreeSet::new(), BTreeSet::new());
    for exchange in frames::of("describe_cluster") {
        let captured = exchange.response.as_deref().expect("DescribeCluster is answered");
        let Dispatch::Serve(request) = dispatch(&exchange.request) else { panic!("not served") };
        let host = "127.0.0.1".to_owned();
        let broker = Broker { node_id: 1, host, port: 39192, rack: Some("r1".into()) };
        let view = Captured { controller: 1, brokers: vec![broker], ..Captured::default() };
        let ours = describe_cluster::handle(&request, &view).expect("a whole request");
        assert_eq!(&ours[4..], captured, "{}", exchange.label());
        versions.insert(exchange.version);
        errors.insert(i16::from_be_bytes([captured[9], captured[10]]));
    }
    assert_eq!(versions, (0..=2).collect());
    assert_eq!(errors, [0, 114, 115].into());
}

fn by_hand(version: i16, body: &[u8]) -> Exchange {
    let header: &[u8] = if version >= 9 { &[0xff, 0xff, 0] } else { &[0xff, 0xff] };
    let request =
        [&3_i16.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), header, body].concat();
    Exchange { api: "metadata", version, client: "test".into(), request, response: None }
}

fn to_create(exchange: &Exchange, view: &Captured) -> Vec<String> {
    let Dispatch::Serve(request) = dispatch(&exchange.request) else { panic!("not served") };
    let body = metadata::decode(&request).expect("a whole request");
    let names = metadata::topics_to_create(&body, exchange.version, view);
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn only_what_is_missing_allowed_and_well_named_is_created() {
    let known = Topic { id: Uuid([1; 16]), is_internal: false, partitions: Vec::new() };
    let mut view = Captured { topics: vec![("old".into(), known)], creates: true, ..Captured::default() };
    // Four topics: old, new, new again, and a name with a slash; auto-creation allowed.
    let body = b"\0\0\0\x04\0\x03old\0\x03new\0\x03new\0\x03a/b\x01";
    assert_eq!(to_create(&by_hand(4, body), &view), ["new"]);
    let forbidden = [&body[..body.len() - 1], b"\0"].concat();
    assert!(to_create(&by_hand(4, &forbidden), &view).is_empty(), "the client does not allow it");
    // Below version 4 the client cannot forbid it.
    assert_eq!(to_create(&by_hand(3, &body[..body.len() - 1]), &view), ["new"]);
    assert!(to_create(&by_hand(1, b"\xff\xff\xff\xff"), &view).is_empty(), "all topics");
    view.creates = false;
    assert!(to_create(&by_hand(4, body), &view).is_empty(), "the broker does not allow it");
}

#[test]
fn a_partition_without_a_leader_says_so() {
    let partition = Partition {
        index: 0,
        leader_id: None,
        leader_epoch: 4,
        replicas: vec![1],
        in_sync: vec![],
        offline: vec![1],
    };
    let topic = Topic { id: Uuid([1; 16]), is_internal: false, partitions: vec![partition] };
    let view = Captured { topics: vec![("t".into(), topic)], ..Captured::default() };
    let ours = answer(&by_hand(7, b"\0\0\0\x01\0\x01t\0"), &view);
    let mut body = ours.slice(8..);
    let decoded = MetadataResponse::decode(&mut body, 7).expect("our own answer");
    let partition = &decoded.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (5, -1, 4));
}
