//! The messages against frames that a real broker accepted and answered, and against broken ones.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::api_versions::ApiVersionsRequest;
use super::create_topics::CreateTopicsRequest;
use super::delete_topics::DeleteTopicsRequest;
use super::fetch::{FetchRequest, FetchResponse};
use super::init_producer_id::InitProducerIdRequest;
use super::list_offsets::{self, ListOffsetsRequest};
use super::metadata::MetadataRequest;
use super::offset_for_leader_epoch::OffsetForLeaderEpochRequest;
use super::produce::ProduceRequest;
use super::{Request, decode_response, encode_request};
use crate::client::records::record::{Header, Record, encode_batch};
use crate::client::records::{BatchView, batches};
use crate::client::wire::{DecodeError, TopicId};

const TOPIC: &str = "golden-7";

/// One recorded exchange.
struct Exchange {
    api: &'static str,
    version: i16,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Exchange {
    fn decode<R: Request>(&self) -> R::Response {
        decode_response::<R>(self.version, &self.answer[4..])
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.api, self.version))
    }

    /// Checks that the recorded request, which Kafka accepted, is what is encoded now.
    fn assert_request<R: Request>(&self, request: &R) {
        let correlation = i32::from_be_bytes(self.answer[..4].try_into().unwrap());
        let encoded = encode_request(request, self.version, correlation, Some("golden"));
        assert_eq!(encoded, self.request, "{} {}", self.api, self.version);
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn all() -> Vec<Exchange> {
    let recorded = include_str!("golden/kafka-4.4.0.txt");
    let lines = recorded.lines().filter(|line| !line.starts_with('#'));
    let exchanges: Vec<_> = lines
        .map(|line| {
            let [api, version, request, answer] =
                <[&str; 4]>::try_from(line.split(' ').collect::<Vec<_>>()).unwrap();
            let version = version.parse().unwrap();
            Exchange { api, version, request: bytes_of(request), answer: bytes_of(answer) }
        })
        .collect();
    assert_eq!(exchanges.len(), 76);
    exchanges
}

fn of(api: &str) -> Vec<Exchange> {
    let exchanges: Vec<_> = all().into_iter().filter(|exchange| exchange.api == api).collect();
    assert!(!exchanges.is_empty());
    exchanges
}

fn topic_id() -> TopicId {
    let created = of("CreateTopics").into_iter().find(|exchange| exchange.version == 7).unwrap();
    created.decode::<CreateTopicsRequest>().topics[0].topic_id
}

fn two_records() -> Vec<u8> {
    let header = Header { key: "header".to_owned(), value: None };
    let first = Record {
        timestamp_ms: 1_700_000_000_000,
        key: Some(b"key".to_vec()),
        value: Some(b"value".to_vec()),
        headers: vec![header],
    };
    let second = Record { timestamp_ms: 1_700_000_000_007, ..Record::default() };
    encode_batch(&[first, second])
}

#[test]
fn every_version_was_recorded() {
    let mut recorded = BTreeMap::<_, Vec<_>>::new();
    for exchange in all() {
        recorded.entry(exchange.api).or_default().push(exchange.version);
    }
    let assert_covered = |api: &str, versions: RangeInclusive<i16>| {
        for version in versions {
            assert!(recorded[api].contains(&version), "{api} {version}");
        }
    };
    assert_covered("ApiVersions", ApiVersionsRequest::VERSIONS);
    assert_covered("CreateTopics", CreateTopicsRequest::VERSIONS);
    assert_covered("DeleteTopics", DeleteTopicsRequest::VERSIONS);
    assert_covered("Fetch", FetchRequest::VERSIONS);
    assert_covered("InitProducerId", InitProducerIdRequest::VERSIONS);
    assert_covered("ListOffsets", ListOffsetsRequest::VERSIONS);
    assert_covered("Metadata", MetadataRequest::VERSIONS);
    assert_covered("OffsetForLeaderEpoch", OffsetForLeaderEpochRequest::VERSIONS);
    assert_covered("Produce", ProduceRequest::VERSIONS);
}

#[test]
fn api_versions() {
    for exchange in of("ApiVersions") {
        exchange.assert_request(&ApiVersionsRequest {
            client_software_name: "corelane-perf".to_owned(),
            client_software_version: "0.1.0".to_owned(),
        });
        let answer = exchange.decode::<ApiVersionsRequest>();
        assert_eq!(answer.error_code, 0);
        assert_eq!(answer.versions_of(0), Some(0..=13));
        assert_eq!(answer.versions_of(1), Some(4..=18));
        assert_eq!(answer.versions_of(4), None);
        if exchange.version >= 3 {
            let finalized =
                answer.finalized_features.iter().find(|one| one.name == "metadata.version").unwrap();
            assert_eq!((finalized.min_version, finalized.max_version), (33, 33));
            let supported =
                answer.supported_features.iter().find(|one| one.name == "metadata.version").unwrap();
            assert_eq!((supported.min_version, supported.max_version), (7, 33));
        }
    }
}

#[test]
fn topics_created_and_deleted() {
    for exchange in of("CreateTopics") {
        let name = format!("golden-{}", exchange.version);
        exchange.assert_request(&CreateTopicsRequest::one(&name, 2));
        let topic = &exchange.decode::<CreateTopicsRequest>().topics[0];
        assert_eq!(topic.name, name);
        if topic.error_code == 36 {
            assert_eq!(topic.error_message.as_deref(), Some("Topic 'golden-7' already exists."));
        } else if exchange.version >= 5 {
            assert_eq!((topic.num_partitions, topic.replication_factor), (2, 1));
            let retention = |config: &&super::create_topics::CreatedConfig| config.name == "retention.ms";
            let config = topic.configs.iter().flatten().find(retention).unwrap();
            assert_eq!((config.value.as_deref(), config.config_source), (Some("604800000"), 5));
        }
    }
    for exchange in of("DeleteTopics") {
        let name = format!("golden-{}", exchange.version + 1);
        let mut request = DeleteTopicsRequest::one(&name);
        if exchange.version == 6 {
            request.topics = vec![(None, topic_id())];
        }
        exchange.assert_request(&request);
        let topic = &exchange.decode::<DeleteTopicsRequest>().topics[0];
        assert_eq!((topic.name.as_deref(), topic.error_code), (Some(name.as_str()), 0));
    }
}

#[test]
fn metadata() {
    let by_name = MetadataRequest::of(&[TOPIC]);
    for (place, exchange) in of("Metadata").iter().enumerate() {
        let mut request = by_name.clone();
        if place == 12 {
            request.topics =
                Some(vec![super::metadata::MetadataRequestTopic { topic_id: topic_id(), name: None }]);
        }
        exchange.assert_request(&request);
        let answer = exchange.decode::<MetadataRequest>();
        assert_eq!((answer.brokers[0].node_id, answer.brokers[0].port), (1, 19392));
        assert_eq!(answer.topics[0].name.as_deref(), Some(TOPIC));
        assert_eq!(
            answer.topics[0].topic_id,
            if exchange.version >= 10 { topic_id() } else { TopicId::NONE }
        );
        let partitions = &answer.topics[0].partitions;
        assert_eq!(partitions.iter().map(|one| one.partition).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((partitions[1].leader_id, partitions[1].replicas.as_slice()), (1, [1].as_slice()));
        assert_eq!(partitions[1].leader_epoch, if exchange.version >= 7 { 0 } else { -1 });
    }
}

#[test]
fn produce() {
    let mut next_offset = 0;
    for exchange in of("Produce") {
        let answer = exchange.decode::<ProduceRequest>();
        let partition = answer.only().unwrap();
        if partition.error_code == 0 {
            exchange.assert_request(&ProduceRequest::one(-1, TOPIC, 0, two_records()));
            assert_eq!(partition.base_offset, next_offset);
            next_offset += 2;
        } else {
            // The last request's batch had its last bit flipped: CORRUPT_MESSAGE.
            assert_eq!((partition.error_code, partition.base_offset), (2, -1));
        }
    }
    assert_eq!(next_offset, 20);
}

#[test]
fn fetch() {
    for exchange in of("Fetch") {
        exchange.assert_request(&FetchRequest::one(TOPIC, topic_id(), 0, 0, 500));
        let answer = exchange.decode::<FetchRequest>();
        let partition = answer.only().unwrap();
        assert_eq!((partition.error_code, partition.high_watermark, partition.last_stable_offset), (0, 2, 2));
        let mut stored = partition.records.clone().unwrap();
        // The broker wrote the leader epoch, which the checksum leaves out.
        assert_eq!(stored[12..16], [0; 4]);
        stored[12..16].fill(0xff);
        assert_eq!(stored, two_records());
    }
}

#[test]
fn what_kafkas_own_producer_wrote_is_read() {
    let answer: FetchResponse = of("FetchJava")[0].decode::<FetchRequest>();
    let blob = answer.only().unwrap().records.clone().unwrap();
    let read: Vec<BatchView<'_>> = batches(&blob).map(Result::unwrap).collect();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].header.producer_id, read[0].header.base_sequence), (0, 0));
    let records: Vec<_> = read[0].records().unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].key, records[0].value), (Some(b"key-1".as_slice()), Some(b"value-1".as_slice())));
    assert_eq!(records[0].headers, [("h1", Some(b"v1".as_slice())), ("h2", Some(b"v2".as_slice()))]);
    assert_eq!((records[1].offset, records[1].headers[0]), (1, ("h1", Some(b"".as_slice()))));
}

#[test]
fn offsets_epochs_and_producer_ids() {
    for exchange in of("ListOffsets") {
        let answer = exchange.decode::<ListOffsetsRequest>();
        let partition = answer.only().unwrap();
        let timestamp = if partition.timestamp == -1 {
            assert_eq!(partition.offset, 20);
            list_offsets::LATEST
        } else {
            assert_eq!((partition.timestamp, partition.offset), (1_700_000_000_007, 1));
            list_offsets::MAX_TIMESTAMP
        };
        exchange.assert_request(&ListOffsetsRequest::one(TOPIC, 0, timestamp));
        assert_eq!(partition.leader_epoch, if exchange.version >= 4 { 0 } else { -1 });
    }
    for exchange in of("OffsetForLeaderEpoch") {
        exchange.assert_request(&OffsetForLeaderEpochRequest::one(TOPIC, 0, 0));
        let end = exchange.decode::<OffsetForLeaderEpochRequest>().topics[0].partitions[0];
        assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (0, 0, 20));
    }
    for exchange in of("InitProducerId") {
        exchange.assert_request(&InitProducerIdRequest::default());
        let answer = exchange.decode::<InitProducerIdRequest>();
        let expected = i64::from(exchange.version) + 1;
        assert_eq!((answer.error_code, answer.producer_id, answer.producer_epoch), (0, expected, 0));
    }
}

/// Decodes an answer as the API that it belongs to, and says only whether it could be read.
fn decode_any(exchange: &Exchange, body: &[u8]) -> Result<(), DecodeError> {
    fn read<R: Request>(version: i16, body: &[u8]) -> Result<(), DecodeError> {
        decode_response::<R>(version, body).map(|_| ())
    }
    match exchange.api {
        "ApiVersions" => read::<ApiVersionsRequest>(exchange.version, body),
        "CreateTopics" => read::<CreateTopicsRequest>(exchange.version, body),
        "DeleteTopics" => read::<DeleteTopicsRequest>(exchange.version, body),
        "Fetch" | "FetchJava" => read::<FetchRequest>(exchange.version, body),
        "InitProducerId" => read::<InitProducerIdRequest>(exchange.version, body),
        "ListOffsets" => read::<ListOffsetsRequest>(exchange.version, body),
        "Metadata" => read::<MetadataRequest>(exchange.version, body),
        "OffsetForLeaderEpoch" => read::<OffsetForLeaderEpochRequest>(exchange.version, body),
        "Produce" => read::<ProduceRequest>(exchange.version, body),
        other => panic!("{other}"),
    }
}

#[test]
fn answers_cut_short_or_with_more_behind_are_errors() {
    for exchange in all() {
        let body = &exchange.answer[4..];
        for cut in 0..body.len() {
            assert!(
                decode_any(&exchange, &body[..cut]).is_err(),
                "{} {} at {cut}",
                exchange.api,
                exchange.version
            );
        }
        let longer = [body, &[0]].concat();
        assert_eq!(decode_any(&exchange, &longer), Err(DecodeError::Trailing(1)));
    }
}

proptest! {
    #![proptest_config(crate::testing::seeded())]

    #[test]
    fn answers_with_overwritten_bytes_never_panic(
        which in 0..76usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let exchange = all().swap_remove(which);
        let mut body = exchange.answer[4..].to_vec();
        for (place, byte) in changes {
            let place = place.index(body.len());
            body[place] = byte;
        }
        // Read or refused: both are answers. A panic or an absurd allocation ends the test.
        let _ = decode_any(&exchange, &body);
    }
}
