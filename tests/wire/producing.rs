//! What our handler makes of Produce: order, acks and refusals, and of batches that mean harm.

use bytes::Bytes;
use corelane::api::engine::{Acks, AppendError, Appended};
use corelane::api::{CloseReason, ErrorCode};
use corelane_shards::format::batch::fixture::{Header, batch, with_body};
use corelane_shards::format::batch::{CONTROL, Codec, Error as BatchError, TRANSACTIONAL};
use corelane_shards::types::{Offset, ProducerEpoch, ProducerId, Sequence};
use kafka_protocol::messages as m;
use kafka_protocol::messages::produce_request as produce;
use kafka_protocol::protocol::Decodable;

use crate::asking::{ask, frame, name};
use crate::fake::{Fake, answer};

fn values() -> Vec<u8> {
    batch(&Header::default(), &["one", "two"])
}

fn to_produce(acks: i16, partitions: &[(&str, i32, &[u8])]) -> m::ProduceRequest {
    let topics = partitions.iter().map(|(topic, index, records)| {
        let partition = produce::PartitionProduceData::default()
            .with_index(*index)
            .with_records(Some(Bytes::copy_from_slice(records)));
        produce::TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition])
    });
    m::ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(acks)
        .with_timeout_ms(1_000)
        .with_topic_data(topics.collect())
}

fn produced(fake: &Fake, request: &m::ProduceRequest) -> Vec<(i16, i64)> {
    let response: m::ProduceResponse = ask(0, 12, request, fake);
    let partitions = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
    partitions.map(|partition| (partition.error_code, partition.base_offset)).collect()
}

#[test]
fn batches_are_handed_over_in_the_order_of_the_request_and_before_anything_is_polled() {
    let fake = Fake::default().with_topic("a", 1, 2).with_topic("b", 2, 1);
    let request = to_produce(-1, &[("b", 0, &values()), ("a", 1, &values()), ("a", 0, &values())]);
    let frame = frame(0, 12, true, &request);
    let corelane::api::Dispatch::Serve(dispatched) = corelane::api::dispatch(&frame) else {
        panic!("served")
    };
    let settings = crate::fake::settings(&[]);
    let identity = corelane::api::api_versions::Identity { cluster_id: "c", node_id: None };
    let context = corelane::api::Context { identity, listener: "PLAINTEXT", settings: &settings };
    let future = corelane::api::serve(dispatched, &context, &fake);
    let order: Vec<_> = fake.handed_over.borrow().iter().map(|(id, _, _)| *id).collect();
    assert_eq!(order, [fake.partition("b", 0), fake.partition("a", 1), fake.partition("a", 0)]);
    drop(future);
    assert_eq!(fake.handed_over.borrow()[0].1, values(), "as the producer sent it");
}

#[test]
fn acks_decide_what_is_waited_for_and_whether_there_is_an_answer() {
    for (acks, expected) in [(-1, Acks::All), (1, Acks::Leader), (0, Acks::Leader)] {
        let fake = Fake::default().with_topic("a", 1, 1);
        let given = answer(&frame(0, 9, true, &to_produce(acks, &[("a", 0, &values())])), &fake);
        assert_eq!(given.expect("not closed").is_some(), acks != 0);
        assert_eq!(fake.handed_over.borrow()[0].2, expected);
    }
    for acks in [2, -2, i16::MIN] {
        let fake = Fake::default().with_topic("a", 1, 1);
        assert_eq!(
            produced(&fake, &to_produce(acks, &[("a", 0, &values()), ("x", 0, &values())])),
            [(21, -1), (3, -1)]
        );
        assert!(fake.handed_over.borrow().is_empty());
    }
}

#[test]
fn an_error_under_acks_0_closes_the_connection() {
    let fake = Fake::default().with_topic("a", 1, 1);
    let closed = answer(&frame(0, 9, true, &to_produce(0, &[("x", 0, &values())])), &fake);
    assert_eq!(closed, Err(CloseReason::Unacknowledged(ErrorCode::UnknownTopicOrPartition)));
    fake.append_answers.borrow_mut().push_back(Err(AppendError::OutOfOrderSequence));
    let closed = answer(&frame(0, 9, true, &to_produce(0, &[("a", 0, &values())])), &fake);
    assert_eq!(closed, Err(CloseReason::Unacknowledged(ErrorCode::OutOfOrderSequenceNumber)));
}

#[test]
fn the_engines_refusals_are_kafkas_codes() {
    let too_large = BatchError::TooLarge { bytes: 2, bytes_max: 1 };
    let crc = BatchError::Crc { stored: 1, computed: 2 };
    for (error, code) in [
        (AppendError::Invalid(too_large), 10),
        (AppendError::Invalid(crc), 2),
        (AppendError::LargerThanSegment, 18),
        (AppendError::OutOfOrderSequence, 45),
        (AppendError::StaleProducerEpoch, 47),
        (AppendError::PartitionStopped, 56),
        (AppendError::Stopped, 56),
        (AppendError::Deleted, 3),
    ] {
        let fake = Fake::default().with_topic("a", 1, 1);
        fake.append_answers.borrow_mut().push_back(Err(error));
        assert_eq!(produced(&fake, &to_produce(1, &[("a", 0, &values())])), [(code, -1)], "{error}");
    }
    let fake = Fake::default().with_topic("a", 1, 1);
    let first = Appended { base_offset: Offset(3), append_time: -1, log_start: Offset(0) };
    fake.append_answers.borrow_mut().push_back(Ok(first));
    assert_eq!(
        produced(&fake, &to_produce(-1, &[("a", 0, &values())])),
        [(0, 3)],
        "a duplicate's first offset"
    );
}

#[test]
fn a_partition_that_moved_comes_with_its_leader() {
    let fake = Fake::default().with_topic("a", 1, 1);
    fake.append_answers.borrow_mut().push_back(Err(AppendError::UnknownPartition));
    let response: m::ProduceResponse = ask(0, 12, &to_produce(1, &[("a", 0, &values())]), &fake);
    let partition = &response.responses[0].partition_responses[0];
    let leader = (&partition.current_leader.leader_id.0, partition.current_leader.leader_epoch);
    assert_eq!((partition.error_code, leader), (6, (&1, 2)));
    assert_eq!((response.node_endpoints[0].host.as_str(), response.node_endpoints[0].port), ("here", 9092));
}

#[test]
fn what_no_producer_may_send_is_not_handed_over() {
    let control = batch(&Header { attributes: CONTROL, ..Header::default() }, &["x"]);
    let mut magic_1 = values();
    magic_1[16] = 1;
    let mut magic_3 = values();
    magic_3[16] = 3;
    let mut short = values();
    short[8..12].copy_from_slice(&1_i32.to_be_bytes());
    let cut = &values()[..30];
    for (records, code) in
        [(&control[..], 87), (&magic_1, 87), (&magic_3, 2), (cut, 87), (b"", 87), (&short, 2)]
    {
        let fake = Fake::default().with_topic("a", 1, 1);
        assert_eq!(produced(&fake, &to_produce(1, &[("a", 0, records)])), [(code, -1)], "{records:?}");
        assert!(fake.handed_over.borrow().is_empty());
    }
    // The engine finds what follows the one batch.
    assert_eq!(ErrorCode::from(BatchError::NotOneBatch { trailing_bytes: 1 }), ErrorCode::InvalidRecord);
}

#[test]
fn zstd_begins_with_version_7() {
    let zstd = with_body(&Header::default(), Codec::Zstd, 1, &[0; 16]);
    for (version, code) in [(3, 76), (6, 76), (7, 0), (8, 0)] {
        let fake = Fake::default().with_topic("a", 1, 1);
        let given = answer(&frame(0, version, false, &to_produce(1, &[("a", 0, &zstd)])), &fake);
        let given = Bytes::from(given.expect("not closed").expect("an answer"));
        let response = m::ProduceResponse::decode(&mut given.slice(4..), version).expect("whole");
        assert_eq!(response.responses[0].partition_responses[0].error_code, code, "{version}");
    }
}

#[test]
fn one_transactional_batch_refuses_the_request() {
    let producer = Header::idempotent(ProducerId(1), ProducerEpoch(0), Sequence(0));
    let transactional = batch(&Header { attributes: TRANSACTIONAL, ..producer }, &["x"]);
    let fake = Fake::default().with_topic("a", 1, 2);
    let request = to_produce(-1, &[("a", 0, &values()), ("a", 1, &transactional)]);
    assert_eq!(produced(&fake, &request), [(53, -1), (53, -1)]);
    assert!(fake.handed_over.borrow().is_empty());
}

#[test]
fn a_partition_named_twice_is_appended_to_by_neither() {
    let fake = Fake::default().with_topic("a", 1, 2);
    let request = to_produce(-1, &[("a", 0, &values()), ("a", 1, &values()), ("a", 0, &values())]);
    assert_eq!(produced(&fake, &request), [(42, -1), (0, 0), (42, -1)]);
    assert_eq!(fake.handed_over.borrow().len(), 1);
}

#[test]
fn partitions_and_topics_that_are_not_there_are_unknown() {
    let fake = Fake::default().with_topic("a", 1, 1);
    let request = to_produce(1, &[("a", 1, &values()), ("a", -1, &values()), ("a", i32::MAX, &values())]);
    assert_eq!(produced(&fake, &request), [(3, -1), (3, -1), (3, -1)]);
    let internal = Fake::default().with_topic("__consumer_offsets", 1, 1);
    assert_eq!(produced(&internal, &to_produce(1, &[("__consumer_offsets", 0, &values())])), [(17, -1)]);
}
