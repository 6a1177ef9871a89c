//! Captured requests, read by our views and by `kafka-protocol`, field by field.

use bytes::Bytes;
use corelane::wire::{api_versions, fetch, generated, guard, produce};
use kafka_protocol::messages as generated_messages;
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, ProduceRequest};
use kafka_protocol::protocol::Decodable;

use crate::frames::{self, Exchange};

fn reference<R: Decodable>(exchange: &Exchange) -> R {
    let mut body = Bytes::copy_from_slice(&exchange.request[exchange.body_at()..]);
    let decoded = R::decode(&mut body, exchange.version).expect("a captured request");
    assert!(body.is_empty(), "{}: {} bytes are left", exchange.label(), body.len());
    decoded
}

#[test]
fn produce_requests_read_as_their_clients_wrote_them() {
    let (mut versions, mut records_seen) = (std::collections::BTreeSet::new(), 0);
    for exchange in frames::of("produce").iter().filter(|exchange| exchange.client != "by-hand") {
        let expected: ProduceRequest = reference(exchange);
        let ours = produce::Request::parse(&exchange.request, exchange.body_at(), exchange.version);
        let ours = ours.unwrap_or_else(|error| panic!("{}: {error}", exchange.label()));
        assert_eq!(ours.transactional_id, expected.transactional_id.as_ref().map(|id| id.as_str()));
        assert_eq!((ours.acks, ours.timeout_ms), (expected.acks, expected.timeout_ms));
        assert_eq!(ours.topics().len(), expected.topic_data.len());
        for (topic, expected) in ours.topics().zip(&expected.topic_data) {
            assert_eq!(topic.name, expected.name.as_str());
            assert_eq!(topic.partitions().len(), expected.partition_data.len());
            for (partition, expected) in topic.partitions().zip(&expected.partition_data) {
                assert_eq!(partition.index, expected.index);
                let records = partition.records.expect("clients send records");
                assert_eq!(Some(records.bytes), expected.records.as_deref());
                assert_eq!(records.bytes, &exchange.request[records.range.clone()]);
                assert_eq!(records.bytes[16], 2, "{}: magic 2", exchange.label());
                records_seen += 1;
            }
        }
        versions.insert(exchange.version);
    }
    assert_eq!(versions, produce::VERSIONS.collect());
    assert!(records_seen >= versions.len());
}

#[test]
fn fetch_requests_read_as_their_clients_wrote_them() {
    let (mut versions, mut forgotten) = (std::collections::BTreeSet::new(), 0);
    for exchange in &frames::of("fetch") {
        let expected: FetchRequest = reference(exchange);
        let ours = fetch::Request::parse(&exchange.request, exchange.body_at(), exchange.version);
        let ours = ours.unwrap_or_else(|error| panic!("{}: {error}", exchange.label()));
        compare_fetch(&ours, &expected, exchange);
        forgotten += ours.forgotten_topics().len();
        versions.insert(exchange.version);
    }
    assert!(forgotten > 0, "no captured request forgets a topic");
    let missing: Vec<_> = fetch::VERSIONS.filter(|version| !versions.contains(version)).collect();
    assert!(missing.is_empty(), "versions without a captured request: {missing:?}");
}

fn compare_fetch(ours: &fetch::Request<'_>, expected: &FetchRequest, exchange: &Exchange) {
    let label = exchange.label();
    assert_eq!(ours.cluster_id, expected.cluster_id.as_ref().map(|id| id.as_str()), "{label}");
    let replica =
        if exchange.version < 15 { expected.replica_id.0 } else { expected.replica_state.replica_id.0 };
    assert_eq!(
        (ours.replica.id, ours.replica.epoch),
        (replica, expected.replica_state.replica_epoch),
        "{label}"
    );
    let waits = (expected.max_wait_ms, expected.min_bytes, expected.max_bytes, expected.isolation_level);
    assert_eq!((ours.max_wait_ms, ours.min_bytes, ours.max_bytes, ours.isolation_level), waits, "{label}");
    assert_eq!(
        (ours.session_id, ours.session_epoch),
        (expected.session_id, expected.session_epoch),
        "{label}"
    );
    assert_eq!(ours.rack_id, expected.rack_id.as_str(), "{label}");
    assert_eq!(ours.topics().len(), expected.topics.len(), "{label}");
    for (topic, expected) in ours.topics().zip(&expected.topics) {
        assert_name(topic.topic, &expected.topic, expected.topic_id.as_bytes());
        assert_eq!(topic.partitions().len(), expected.partitions.len(), "{label}");
        for (partition, expected) in topic.partitions().zip(&expected.partitions) {
            let expected = fetch::Partition {
                index: expected.partition,
                current_leader_epoch: expected.current_leader_epoch,
                fetch_offset: expected.fetch_offset,
                last_fetched_epoch: expected.last_fetched_epoch,
                log_start_offset: expected.log_start_offset,
                partition_max_bytes: expected.partition_max_bytes,
            };
            assert_eq!(partition, expected, "{label}");
        }
    }
    assert_eq!(ours.forgotten_topics().len(), expected.forgotten_topics_data.len(), "{label}");
    for (topic, expected) in ours.forgotten_topics().zip(&expected.forgotten_topics_data) {
        assert_name(topic.topic, &expected.topic, expected.topic_id.as_bytes());
        assert!(topic.partitions().eq(expected.partitions.iter().copied()), "{label}");
    }
}

fn assert_name(ours: fetch::TopicRef<'_>, name: &generated_messages::TopicName, id: &[u8; 16]) {
    match ours {
        fetch::TopicRef::Name(ours) => assert_eq!(ours, name.as_str()),
        fetch::TopicRef::Id(ours) => assert_eq!(&ours.0, id),
    }
}

#[test]
fn api_versions_requests_read_as_their_clients_wrote_them() {
    let mut compared = 0;
    for exchange in frames::of("api_versions").iter().filter(|exchange| (0..=4).contains(&exchange.version)) {
        let Ok(ours) = api_versions::Request::parse(&exchange.request, exchange.body_at(), exchange.version)
        else {
            assert_eq!(exchange.client, "by-hand", "{}", exchange.label());
            continue;
        };
        if let Some(software) = ours.software {
            let expected: ApiVersionsRequest = reference(exchange);
            assert_eq!(software.name, expected.client_software_name.as_str());
            assert_eq!(software.version, expected.client_software_version.as_str());
        }
        assert_eq!((ours.cluster_id, ours.node_id), (None, -1));
        compared += 1;
    }
    assert!(compared > 4, "{compared} compared");
}

/// Kafka 4.4's Java clients say which cluster and node they mean once they know them.
#[test]
fn version_5_of_api_versions_names_cluster_and_node() {
    let mut named = 0;
    let captured = frames::of("api_versions");
    for exchange in captured.iter().filter(|exchange| exchange.version == 5 && exchange.client != "by-hand") {
        let ours = api_versions::Request::parse(&exchange.request, exchange.body_at(), 5);
        let ours = ours.unwrap_or_else(|error| panic!("{}: {error}", exchange.label()));
        let software = ours.software.expect("version 5 names the software");
        assert_eq!((software.name, software.version), ("apache-kafka-java", "4.4.0"));
        assert!(software.is_valid());
        match ours.cluster_id {
            None => assert_eq!(ours.node_id, -1),
            Some(cluster) => {
                assert_eq!((cluster, ours.node_id), ("4L6g3nShT-eMCtK--X86sw", 1));
                named += 1;
            }
        }
    }
    assert!(named > 0, "no captured request names a node");
}

#[test]
fn the_guard_walks_captured_requests_to_their_last_byte_and_lets_them_be_decoded() {
    for schema in guard::schemas::ALL {
        let mut versions = Vec::new();
        let captured = frames::of(file_of(schema));
        for exchange in captured.iter().filter(|exchange| exchange.client != "by-hand") {
            let end = schema.check(&exchange.request, exchange.body_at(), exchange.version);
            assert_eq!(end, Ok(exchange.request.len()), "{}", exchange.label());
            let decoded =
                decode_guarded(schema.api_key, &exchange.request, exchange.body_at(), exchange.version);
            assert_eq!(decoded, Ok(()), "{}", exchange.label());
            versions.push(exchange.version);
        }
        versions.dedup();
        assert!(versions.len() >= 2, "{} was captured in versions {versions:?}", schema.name);
    }
}

fn file_of(schema: &guard::Schema) -> &'static str {
    match schema.api_key {
        2 => "list_offsets",
        3 => "metadata",
        10 => "find_coordinator",
        19 => "create_topics",
        20 => "delete_topics",
        22 => "init_producer_id",
        23 => "offset_for_leader_epoch",
        32 => "describe_configs",
        60 => "describe_cluster",
        key => panic!("no frames of API {key}"),
    }
}

/// Decodes a request by its API, behind the guard.
pub(crate) fn decode_guarded(
    api_key: i16,
    frame: &[u8],
    at: usize,
    version: i16,
) -> corelane::wire::Result<()> {
    use generated_messages as m;
    match api_key {
        2 => generated::decode::<m::ListOffsetsRequest>(frame, at, version).map(drop),
        3 => generated::decode::<m::MetadataRequest>(frame, at, version).map(drop),
        10 => generated::decode::<m::FindCoordinatorRequest>(frame, at, version).map(drop),
        19 => generated::decode::<m::CreateTopicsRequest>(frame, at, version).map(drop),
        20 => generated::decode::<m::DeleteTopicsRequest>(frame, at, version).map(drop),
        22 => generated::decode::<m::InitProducerIdRequest>(frame, at, version).map(drop),
        23 => generated::decode::<m::OffsetForLeaderEpochRequest>(frame, at, version).map(drop),
        32 => generated::decode::<m::DescribeConfigsRequest>(frame, at, version).map(drop),
        60 => generated::decode::<m::DescribeClusterRequest>(frame, at, version).map(drop),
        key => panic!("API {key} has no guard"),
    }
}
