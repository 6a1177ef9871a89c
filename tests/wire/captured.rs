//! Captured requests, answered by our handlers: Produce and Fetch from the state that Kafka's captured answers describe,
//! and compared with these; of the others only requests were captured, whose answers are held against what they ask for.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelane::api::engine::{Appended, TimestampOffset};
use corelane::cluster::image::NewTopic;
use corelane_shards::format::batch::BatchView;
use corelane_shards::types::{LeaderEpoch, Offset, Timestamp, TopicId};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::Decodable;

use crate::fake::{Fake, answer};
use crate::frames::{self, Exchange};

fn body<R: Decodable>(frame: &[u8], at: usize, version: i16) -> R {
    R::decode(&mut Bytes::copy_from_slice(&frame[at..]), version).expect("a whole body")
}

fn request<R: Decodable>(exchange: &Exchange) -> R {
    body(&exchange.request, exchange.body_at(), exchange.version)
}

fn answered(api: &str) -> Vec<Exchange> {
    frames::of(api).into_iter().filter(|exchange| exchange.response.is_some()).collect()
}

fn create(fake: &Fake, name: &str, id: [u8; 16], partitions: i32) {
    let (name, overrides) = (name.to_owned(), BTreeMap::new());
    let new = NewTopic { name, id: TopicId(id), partitions, replication_factor: 1, overrides };
    fake.add_topic(new).expect("a topic to create");
}

#[test]
fn produce() {
    let (mut versions, mut errors, mut excused) = (BTreeSet::new(), BTreeSet::new(), 0);
    for exchange in answered("produce") {
        let header = if exchange.version >= 9 { 5 } else { 4 };
        let captured = exchange.response.as_deref().expect("answered");
        let expected: m::ProduceResponse = body(captured, header, exchange.version);
        let partitions = || expected.responses.iter().flat_map(|topic| &topic.partition_responses);
        // Records without a key on a compacted topic: nothing is compacted here.
        if exchange.client != "by-hand" && partitions().any(|partition| partition.error_code == 87) {
            excused += 1;
            continue;
        }
        let fake = Fake::default();
        for topic in expected.responses.iter().filter(|topic| topic.partition_responses[0].error_code != 3) {
            create(&fake, &topic.name, [9; 16], 8);
        }
        let asked: m::ProduceRequest = request(&exchange);
        let places = asked.topic_data.iter().flat_map(|topic| topic.partition_data.iter().map(|p| p.index));
        for place in places {
            let partition =
                partitions().find(|partition| partition.index == place).expect("each is answered");
            if partition.error_code != 0 {
                continue;
            }
            fake.append_answers.borrow_mut().push_back(Ok(Appended {
                base_offset: Offset(partition.base_offset),
                append_time: partition.log_append_time_ms,
                log_start: Offset(partition.log_start_offset.max(0)),
            }));
        }
        let ours = answer(&exchange.request, &fake).expect("an answer").expect("an answer");
        let ours: m::ProduceResponse = body(&ours, header, exchange.version);
        assert_eq!(in_order(ours), in_order(expected.clone()), "{}", exchange.label());
        versions.insert(exchange.version);
        errors.extend(partitions().map(|partition| partition.error_code));
    }
    assert_eq!(versions, (3..=12).collect());
    assert_eq!(errors, [0, 3, 87].into());
    assert!(excused > 0, "the case named above was captured");
}

/// Kafka answers partitions in the order of a hash map.
fn in_order(mut response: m::ProduceResponse) -> m::ProduceResponse {
    for topic in &mut response.responses {
        topic.partition_responses.sort_by_key(|partition| partition.index);
    }
    response
}

#[test]
fn produce_with_acks_0_is_not_answered() {
    let mut compared = 0;
    for exchange in frames::of("produce").iter().filter(|exchange| exchange.response.is_none()) {
        let asked: m::ProduceRequest = request(exchange);
        if asked.acks != 0 {
            continue;
        }
        let fake = Fake::default();
        create(&fake, &asked.topic_data[0].name, [9; 16], 8);
        assert_eq!(answer(&exchange.request, &fake), Ok(None), "{}", exchange.label());
        assert_eq!(fake.handed_over.borrow().len(), 1);
        compared += 1;
    }
    assert!(compared > 0, "no captured request has acks=0");
}

fn batches(records: &Bytes) -> Vec<Bytes> {
    let (mut batches, mut at) = (Vec::new(), 0);
    while at < records.len() {
        let Ok((_, length)) = BatchView::parse(&records[at..]) else { break };
        batches.push(records.slice(at..at + length));
        at += length;
    }
    batches
}

#[test]
fn fetch() {
    let (mut versions, mut with_records, mut steps) = (BTreeSet::new(), 0, 0);
    for exchange in answered("fetch") {
        let asked: m::FetchRequest = request(&exchange);
        let header = if exchange.version >= 12 { 5 } else { 4 };
        let captured = exchange.response.as_deref().expect("answered");
        let expected: m::FetchResponse = body(captured, header, exchange.version);
        let fake = Fake::default();
        if !matches!(asked.session_epoch, -1 | 0) {
            let ours = answer(&exchange.request, &fake).expect("an answer").expect("an answer");
            let ours: m::FetchResponse = body(&ours, header, exchange.version);
            assert_eq!((ours.error_code, ours.session_id, ours.responses.len()), (70, 0, 0));
            steps += 1;
            continue;
        }
        let mut known = 0;
        for (place, topic) in expected.responses.iter().enumerate() {
            if topic.partitions.iter().any(|partition| matches!(partition.error_code, 3 | 100)) {
                continue;
            }
            let (by_place, by_id) = (format!("topic-{place}"), *topic.topic_id.as_bytes());
            let name = if exchange.version >= 13 { by_place } else { topic.topic.to_string() };
            let id = if exchange.version >= 13 { by_id } else { [9; 16] };
            create(&fake, &name, id, 8);
            known += 1;
            for partition in &topic.partitions {
                fake.log(&name, partition.partition_index, |log| {
                    log.batches = batches(partition.records.as_ref().expect("records"));
                    log.high_watermark = partition.high_watermark;
                    log.log_start = partition.log_start_offset.max(0);
                });
                with_records += partition.records.as_ref().map_or(0, Bytes::len).min(1);
            }
        }
        let ours =
            answer(&with_epoch(&exchange, &asked, known), &fake).expect("an answer").expect("an answer");
        // Kafka opens a session where it is asked to; ours is always none.
        let mut captured = captured.to_vec();
        if exchange.version >= 7 {
            captured[header + 6..header + 10].fill(0);
        }
        assert_eq!(ours, captured, "{}", exchange.label());
        versions.insert(exchange.version);
    }
    assert_eq!(versions, (4..=16).collect());
    assert!(with_records > 10 && steps > 0, "{with_records} with records, {steps} steps of sessions");
}

/// The request with the leader epoch that the fake's first topic has: 2, after the broker's start took 1. Kafka's was 0.
fn with_epoch(exchange: &Exchange, asked: &m::FetchRequest, known: usize) -> Vec<u8> {
    let mut asked = asked.clone();
    assert!(known < 2, "one topic is one epoch");
    let partitions = asked.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    partitions
        .filter(|partition| partition.current_leader_epoch == 0)
        .for_each(|p| p.current_leader_epoch = 2);
    again(exchange, &asked)
}

/// The captured header with another body.
fn again<R: kafka_protocol::protocol::Encodable>(exchange: &Exchange, body: &R) -> Vec<u8> {
    let mut frame = bytes::BytesMut::from(&exchange.request[..exchange.body_at()]);
    body.encode(&mut frame, exchange.version).expect("a captured body");
    frame.to_vec()
}

/// The answer of ours to a request of which only the request was captured.
fn ours<R: Decodable>(frame: &[u8], header: usize, exchange: &Exchange, fake: &Fake) -> R {
    let ours = answer(frame, fake).unwrap_or_else(|error| panic!("{}: {error}", exchange.label()));
    body(&ours.expect("an answer"), header, exchange.version)
}

#[test]
fn list_offsets() {
    let (mut versions, mut timestamps) = (BTreeSet::new(), BTreeSet::new());
    for exchange in frames::of("list_offsets") {
        let mut asked: m::ListOffsetsRequest = request(&exchange);
        let fake = Fake::default();
        for topic in &mut asked.topics {
            create(&fake, &topic.name, [9; 16], 8);
            for partition in &mut topic.partitions {
                partition.current_leader_epoch = if partition.current_leader_epoch == 0 { 2 } else { -1 };
                fake.log(&topic.name, partition.partition_index, |log| {
                    (log.log_start, log.high_watermark) = (2, 7);
                    let (timestamp, offset) = (Timestamp(55), Offset(5));
                    let found = TimestampOffset { timestamp, offset, epoch: LeaderEpoch(1) };
                    log.by_time
                        .insert(if partition.timestamp == -3 { -3 } else { partition.timestamp }, found);
                });
            }
        }
        let header = if exchange.version >= 6 { 5 } else { 4 };
        let ours: m::ListOffsetsResponse = ours(&again(&exchange, &asked), header, &exchange, &fake);
        for (asked, ours) in asked.topics.iter().zip(&ours.topics) {
            assert_eq!((&asked.name, asked.partitions.len()), (&ours.name, ours.partitions.len()));
            for (asked, ours) in asked.partitions.iter().zip(&ours.partitions) {
                let (timestamp, offset, epoch) = match asked.timestamp {
                    -1 => (-1, 7, 2),
                    -2 | -4 => (-1, 2, 2),
                    -5 => (-1, -1, -1),
                    _ => (55, 5, 1),
                };
                let epoch = if exchange.version >= 4 { epoch } else { -1 };
                let answered = (ours.error_code, ours.timestamp, ours.offset, ours.leader_epoch);
                assert_eq!(answered, (0, timestamp, offset, epoch), "{}", exchange.label());
                timestamps.insert(asked.timestamp.min(0));
            }
        }
        versions.insert(exchange.version);
    }
    assert_eq!(versions, (1..=10).collect());
    assert!(timestamps.is_superset(&[-2, -1].into()), "{timestamps:?}");
}

#[test]
fn init_producer_id() {
    let mut versions = BTreeSet::new();
    for exchange in frames::of("init_producer_id") {
        let header = if exchange.version >= 2 { 5 } else { 4 };
        let ours: m::InitProducerIdResponse = ours(&exchange.request, header, &exchange, &Fake::default());
        let answered = (ours.error_code, ours.producer_id.0, ours.producer_epoch);
        assert_eq!(answered, (0, 4_000, 0), "{}", exchange.label());
        versions.insert(exchange.version);
    }
    assert_eq!(versions, (0..=5).collect());
}

#[test]
fn offset_for_leader_epoch() {
    let mut versions = BTreeSet::new();
    for exchange in frames::of("offset_for_leader_epoch") {
        let mut asked: m::OffsetForLeaderEpochRequest = request(&exchange);
        let fake = Fake::default();
        for topic in &mut asked.topics {
            create(&fake, &topic.topic, [9; 16], 8);
            for partition in &mut topic.partitions {
                (partition.current_leader_epoch, partition.leader_epoch) = (2, 2);
                fake.log(&topic.topic, partition.partition, |log| log.high_watermark = 7);
            }
        }
        let header = if exchange.version >= 4 { 5 } else { 4 };
        let ours: m::OffsetForLeaderEpochResponse = ours(&again(&exchange, &asked), header, &exchange, &fake);
        let answered = ours.topics.iter().flat_map(|topic| &topic.partitions);
        for answered in answered {
            let answered = (answered.error_code, answered.leader_epoch, answered.end_offset);
            assert_eq!(answered, (0, 2, 7), "{}", exchange.label());
            versions.insert(exchange.version);
        }
    }
    assert_eq!(versions, (2..=4).collect());
}

#[test]
fn delete_topics() {
    let mut versions = BTreeSet::new();
    for exchange in frames::of("delete_topics") {
        let asked: m::DeleteTopicsRequest = request(&exchange);
        let named = asked.topics.iter().filter_map(|topic| topic.name.as_ref());
        let names: Vec<_> = asked.topic_names.iter().chain(named).collect();
        let fake = Fake::default();
        for (place, name) in (1..).zip(&names) {
            create(&fake, name, [place; 16], 1);
        }
        let header = if exchange.version >= 4 { 5 } else { 4 };
        let codes = |response: m::DeleteTopicsResponse| -> Vec<(String, i16)> {
            let name = |name: Option<m::TopicName>| name.expect("named by name").to_string();
            response
                .responses
                .into_iter()
                .map(|response| (name(response.name), response.error_code))
                .collect()
        };
        let expected = |code: i16| -> Vec<_> { names.iter().map(|name| (name.to_string(), code)).collect() };
        let deleted = codes(ours(&exchange.request, header, &exchange, &fake));
        assert_eq!(deleted, expected(0), "{}", exchange.label());
        assert_eq!(fake.latest().topics().count(), 0, "what was there is deleted");
        let again = codes(ours(&exchange.request, header, &exchange, &fake));
        assert_eq!(again, expected(3), "{}", exchange.label());
        versions.insert(exchange.version);
    }
    assert_eq!(versions, (1..=6).collect());
}

/// Settings of topics that are honoured here; Kafka has more.
const HONOURED: [&str; 4] = ["max.message.bytes", "segment.bytes", "segment.ms", "message.timestamp.type"];

#[test]
fn create_topics() {
    let (mut versions, mut created, mut refused) = (BTreeSet::new(), 0, 0);
    for exchange in frames::of("create_topics") {
        let asked: m::CreateTopicsRequest = request(&exchange);
        let header = if exchange.version >= 5 { 5 } else { 4 };
        for topic in &asked.topics {
            let mut alone = asked.clone();
            alone.topics = vec![topic.clone()];
            let fake = Fake::default();
            let ours: m::CreateTopicsResponse = ours(&again(&exchange, &alone), header, &exchange, &fake);
            let honoured = topic.configs.iter().all(|config| HONOURED.contains(&config.name.as_str()));
            assert_eq!(ours.topics[0].error_code, if honoured { 0 } else { 40 }, "{}", exchange.label());
            let exists = fake.latest().topic_by_name(&topic.name).is_some();
            assert_eq!(exists, honoured && !asked.validate_only);
            if honoured {
                created += 1
            } else {
                refused += 1
            }
            if honoured && exchange.version >= 5 {
                let configs = ours.topics[0].configs.as_ref().expect("settings").iter();
                let names: BTreeSet<&str> = configs.map(|config| config.name.as_str()).collect();
                assert_eq!(names, HONOURED.into());
            }
        }
        versions.insert(exchange.version);
    }
    assert_eq!(versions, (2..=7).collect());
    assert!(created > 5 && refused > 0, "{created} created, {refused} refused");
}

#[test]
fn describe_configs() {
    let (mut versions, mut compared) = (BTreeSet::new(), 0);
    for exchange in frames::of("describe_configs") {
        let asked: m::DescribeConfigsRequest = request(&exchange);
        let fake = Fake::default();
        for (place, topic) in (1..).zip(asked.resources.iter().filter(|resource| resource.resource_type == 2))
        {
            create(&fake, &topic.resource_name, [place; 16], 1);
        }
        let header = if exchange.version >= 4 { 5 } else { 4 };
        let ours: m::DescribeConfigsResponse = ours(&exchange.request, header, &exchange, &fake);
        assert_eq!(ours.results.len(), asked.resources.len());
        for (asked, ours) in asked.resources.iter().zip(&ours.results) {
            assert_eq!(
                (ours.error_code, &ours.resource_name),
                (0, &asked.resource_name),
                "{}",
                exchange.label()
            );
            let honours = |name: &str| asked.resource_type != 2 || HONOURED.contains(&name);
            assert!(ours.configs.iter().all(|config| honours(&config.name)));
            compared += ours.configs.len();
        }
        versions.insert(exchange.version);
    }
    assert_eq!(versions, (1..=4).collect());
    assert!(compared > 10, "{compared} settings described");
}
