//! Captured answers of Kafka 4.4, read by `kafka-protocol` and written again by our encoders: byte for byte the same.

use bytes::Bytes;
use corelane::wire::fetch::response as fetch_response;
use corelane::wire::leader::{LeaderAndEpoch, NodeEndpoint};
use corelane::wire::{Uuid, api_versions, fetch, produce};
use kafka_protocol::messages::{ApiVersionsResponse, FetchResponse, ProduceResponse};
use kafka_protocol::protocol::Decodable;

use crate::frames::{self, Exchange};

/// The correlation id, and the body behind a response header of `header` bytes.
fn reference<R: Decodable>(response: &[u8], header: usize, version: i16) -> (i32, R) {
    let correlation_id = i32::from_be_bytes(response[..4].try_into().expect("four bytes"));
    let mut body = Bytes::copy_from_slice(&response[header..]);
    let decoded = R::decode(&mut body, version).expect("a captured response");
    assert!(body.is_empty(), "{} bytes are left", body.len());
    (correlation_id, decoded)
}

fn answered(api: &str) -> Vec<(Exchange, Vec<u8>)> {
    let exchanges = frames::of(api).into_iter();
    exchanges.filter_map(|exchange| exchange.response.clone().map(|response| (exchange, response))).collect()
}

fn assert_frame(ours: &[u8], captured: &[u8], label: &str) {
    let length = u32::try_from(captured.len()).expect("a small frame");
    assert_eq!(ours[..4], length.to_be_bytes(), "{label}");
    assert_eq!(&ours[4..], captured, "{label}");
}

#[test]
fn produce_responses_are_written_as_kafka_writes_them() {
    let (mut versions, mut refused) = (std::collections::BTreeSet::new(), 0);
    for (exchange, captured) in answered("produce") {
        let header = if exchange.version >= 9 { 5 } else { 4 };
        let (correlation_id, expected) = reference::<ProduceResponse>(&captured, header, exchange.version);
        let mut encoder =
            produce::ResponseEncoder::new(exchange.version, correlation_id, expected.responses.len());
        for topic in &expected.responses {
            encoder.topic(topic.name.as_str(), topic.partition_responses.len());
            for partition in &topic.partition_responses {
                let record_errors: Vec<_> = partition.record_errors.iter().map(record_error).collect();
                refused += record_errors.len();
                encoder.partition(&produce::PartitionResponse {
                    index: partition.index,
                    error_code: partition.error_code,
                    base_offset: partition.base_offset,
                    log_append_time_ms: partition.log_append_time_ms,
                    log_start_offset: partition.log_start_offset,
                    record_errors: &record_errors,
                    error_message: partition.error_message.as_deref(),
                    current_leader: None,
                });
            }
        }
        let ours = encoder.finish(expected.throttle_time_ms, &[]);
        assert_frame(&ours, &captured, &exchange.label());
        versions.insert(exchange.version);
    }
    assert_eq!(versions, produce::VERSIONS.collect());
    assert!(refused > 0, "no captured response refuses a record");
}

fn record_error(
    error: &kafka_protocol::messages::produce_response::BatchIndexAndErrorMessage,
) -> produce::RecordError<'_> {
    produce::RecordError {
        batch_index: error.batch_index,
        message: error.batch_index_error_message.as_deref(),
    }
}

#[test]
fn fetch_responses_are_written_as_kafka_writes_them() {
    let (mut versions, mut with_records) = (std::collections::BTreeSet::new(), 0);
    for (exchange, captured) in answered("fetch") {
        let header = if exchange.version >= 12 { 5 } else { 4 };
        let (correlation_id, expected) = reference::<FetchResponse>(&captured, header, exchange.version);
        let segments = encode_fetch(exchange.version, correlation_id, &expected);
        let lent = segments.iter().filter(|segment| matches!(segment, fetch_response::Segment::Records(_)));
        with_records += lent.count();
        let ours: Vec<u8> = segments.iter().flat_map(|segment| segment.as_ref().to_vec()).collect();
        assert_frame(&ours, &captured, &exchange.label());
        versions.insert(exchange.version);
    }
    let missing: Vec<_> = fetch::VERSIONS.filter(|version| !versions.contains(version)).collect();
    assert!(missing.is_empty(), "versions without a captured response: {missing:?}");
    assert!(with_records > 10, "{with_records} responses with records");
}

fn encode_fetch(
    version: i16,
    correlation_id: i32,
    expected: &FetchResponse,
) -> Vec<fetch_response::Segment<Bytes>> {
    let head = fetch_response::Head {
        throttle_time_ms: expected.throttle_time_ms,
        error_code: expected.error_code,
        session_id: expected.session_id,
    };
    let mut encoder =
        fetch_response::ResponseEncoder::new(version, correlation_id, head, expected.responses.len());
    for topic in &expected.responses {
        let name = match version {
            ..13 => fetch::TopicRef::Name(topic.topic.as_str()),
            _ => fetch::TopicRef::Id(Uuid(*topic.topic_id.as_bytes())),
        };
        encoder.topic(name, topic.partitions.len());
        for partition in &topic.partitions {
            let aborted = partition.aborted_transactions.as_ref().map(|aborted| {
                assert!(aborted.is_empty(), "nothing was aborted");
                &[][..]
            });
            let ours = fetch_response::Partition {
                index: partition.partition_index,
                error_code: partition.error_code,
                high_watermark: partition.high_watermark,
                last_stable_offset: partition.last_stable_offset,
                log_start_offset: partition.log_start_offset,
                diverging_epoch: None,
                current_leader: None,
                aborted_transactions: aborted,
                preferred_read_replica: partition.preferred_read_replica.0,
            };
            // Cut in two, as when batches lie in different buffers.
            let records = partition.records.clone().unwrap_or_default();
            let cut = records.len() / 2;
            encoder.partition(&ours, [records.slice(..cut), records.slice(cut..)]);
        }
    }
    encoder.finish(&[])
}

#[test]
fn api_versions_responses_are_written_as_kafka_writes_them() {
    let mut versions = std::collections::BTreeSet::new();
    for (exchange, captured) in answered("api_versions") {
        // A version that Kafka does not know is answered in version 0; 5 is laid out as 4.
        let written = if api_versions::VERSIONS.contains(&exchange.version) { exchange.version } else { 0 };
        let (correlation_id, expected) = reference::<ApiVersionsResponse>(&captured, 4, written.min(4));
        let ours = encode_api_versions(&expected).encode(written, correlation_id);
        assert_frame(&ours, &captured, &exchange.label());
        versions.insert(exchange.version);
    }
    assert_eq!(versions, (-1..=6).collect());
}

/// KAFKA-17011: clients below version 4 fall over a feature whose minimum is 0, so Kafka hides those from them. What
/// Kafka tells a client of version 4, told to one of version 3, is what Kafka tells that one.
#[test]
fn features_with_minimum_0_are_hidden_below_version_4() {
    // The two written by hand were answered in one moment, so that the epoch of the features is one.
    let of = |version: i16| {
        let by_hand =
            answered("api_versions").into_iter().filter(|(exchange, _)| exchange.client == "by-hand");
        let mut accepted = by_hand.filter(|(_, answer)| answer[4..6] == [0, 0]);
        accepted.find(|(exchange, _)| exchange.version == version).expect("captured").1
    };
    let (_, newer) = reference::<ApiVersionsResponse>(&of(4), 4, 4);
    let older = of(3);
    assert!(newer.supported_features.iter().any(|feature| feature.min_version == 0));
    let correlation_id = i32::from_be_bytes(older[..4].try_into().expect("four bytes"));
    assert_frame(&encode_api_versions(&newer).encode(3, correlation_id), &older, "4 told as 3");
}

/// Leaked, since the response borrows its lists: a test's few hundred bytes.
fn encode_api_versions(expected: &ApiVersionsResponse) -> api_versions::Response<'_> {
    let apis = expected.api_keys.iter().map(|api| api_versions::ApiVersion {
        api_key: api.api_key,
        min_version: api.min_version,
        max_version: api.max_version,
    });
    let supported = expected.supported_features.iter().map(|feature| api_versions::Feature {
        name: feature.name.as_str(),
        min_version: feature.min_version,
        max_version: feature.max_version,
    });
    let finalized = expected.finalized_features.iter().map(|feature| api_versions::Feature {
        name: feature.name.as_str(),
        min_version: feature.min_version_level,
        max_version: feature.max_version_level,
    });
    api_versions::Response {
        error_code: expected.error_code,
        apis: apis.collect::<Vec<_>>().leak(),
        throttle_time_ms: expected.throttle_time_ms,
        supported_features: supported.collect::<Vec<_>>().leak(),
        finalized_features_epoch: expected.finalized_features_epoch,
        finalized_features: finalized.collect::<Vec<_>>().leak(),
    }
}

const LEADER: Option<LeaderAndEpoch> = Some(LeaderAndEpoch { leader_id: 2, leader_epoch: 5 });
const ENDPOINT: [NodeEndpoint<'_>; 1] = [NodeEndpoint { node_id: 2, host: "h", port: 9, rack: None }];
/// One tagged field: number 0, 13 bytes, one endpoint.
const ENDPOINT_TAG: [u8; 16] = [1, 0, 13, 2, 0, 0, 0, 2, 2, b'h', 0, 0, 0, 9, 0, 0];
const MINUS_ONE_THRICE: [u8; 24] = [0xff; 24];

/// A frame of these parts.
fn laid_out(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len()).expect("a small frame");
    [&length.to_be_bytes()[..], &body].concat()
}

/// One node alone hints at no other leader, so these bytes are laid out by hand after Kafka's message definitions.
#[test]
fn produce_hints_at_a_new_leader_in_tagged_fields() {
    let mut encoder = produce::ResponseEncoder::new(10, 7, 1);
    encoder.topic("t", 1);
    encoder.partition(&produce::PartitionResponse {
        index: 3,
        error_code: 6,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        record_errors: &[],
        error_message: None,
        current_leader: LEADER,
    });
    let header_and_topic = [0, 0, 0, 7, 0, 2, 2, b't', 2];
    let partition = [0, 0, 0, 3, 0, 6];
    let record_errors_and_message = [1, 0];
    let current_leader = [1, 0, 9, 0, 0, 0, 2, 0, 0, 0, 5, 0];
    let end_of_topic_and_throttle = [0, 0, 0, 0, 0];
    let expected = laid_out(&[
        &header_and_topic,
        &partition,
        &MINUS_ONE_THRICE,
        &record_errors_and_message,
        &current_leader,
        &end_of_topic_and_throttle,
        &ENDPOINT_TAG,
    ]);
    assert_eq!(&encoder.finish(0, &ENDPOINT)[..], expected);
}

/// As above, by hand.
#[test]
fn fetch_hints_at_divergence_and_a_new_leader_in_tagged_fields() {
    let header_and_head = [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let partition = [2, 0, 0, 0, 3, 0, 6];
    let aborted_replica_and_records = [1, 0xff, 0xff, 0xff, 0xff, 1];
    let diverging_epoch = [0, 13, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 0];
    let current_leader = [1, 9, 0, 0, 0, 2, 0, 0, 0, 5, 0];
    let end_of_topic = [0];
    let expected = laid_out(&[
        &header_and_head,
        &[9; 16],
        &partition,
        &MINUS_ONE_THRICE,
        &aborted_replica_and_records,
        &[2],
        &diverging_epoch,
        &current_leader,
        &end_of_topic,
        &ENDPOINT_TAG,
    ]);
    assert_eq!(hinted_fetch(16, &ENDPOINT), expected);
}

#[test]
fn endpoints_of_leaders_begin_with_version_16_of_fetch() {
    assert_eq!(hinted_fetch(15, &ENDPOINT), hinted_fetch(15, &[]));
    assert_ne!(hinted_fetch(16, &ENDPOINT), hinted_fetch(16, &[]));
}

fn hinted_fetch(version: i16, endpoints: &[NodeEndpoint<'_>]) -> Vec<u8> {
    let mut encoder = fetch_response::ResponseEncoder::new(version, 7, fetch_response::Head::default(), 1);
    encoder.topic(fetch::TopicRef::Id(Uuid([9; 16])), 1);
    let partition = fetch_response::Partition {
        index: 3,
        error_code: 6,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        diverging_epoch: Some(fetch_response::EpochEndOffset { epoch: 4, end_offset: 8 }),
        current_leader: LEADER,
        aborted_transactions: Some(&[]),
        preferred_read_replica: -1,
    };
    encoder.partition(&partition, [Bytes::new()]);
    encoder.finish(endpoints).iter().flat_map(|segment| segment.as_ref().to_vec()).collect()
}
