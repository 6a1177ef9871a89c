//! What our handlers make of the requests that carry no records.

use kafka_protocol::messages as m;
use kafka_protocol::messages::{
    create_topics_request as create, delete_topics_request as delete, describe_configs_request as configs,
    list_offsets_request as offsets,
};
use kafka_protocol::protocol::StrBytes;

use crate::asking::{ask, name, text};
use crate::fake::Fake;

#[test]
fn offsets_of_a_partition_named_twice_or_unknown_are_refused() {
    let partition = |index, timestamp| {
        offsets::ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(timestamp)
            .with_current_leader_epoch(-1)
    };
    let asked = [(0, -1), (1, -1), (1, -2), (2, -6), (3, -2), (9, -1), (-1, -1)];
    let partitions = asked.iter().map(|(index, timestamp)| partition(*index, *timestamp)).collect();
    let topic = offsets::ListOffsetsTopic::default().with_name(name("a")).with_partitions(partitions);
    let fake = Fake::default().with_topic("a", 1, 4);
    let response: m::ListOffsetsResponse =
        ask(2, 10, &m::ListOffsetsRequest::default().with_topics(vec![topic]), &fake);
    let codes = response.topics[0].partitions.iter().map(|one| (one.partition_index, one.error_code));
    assert_eq!(codes.collect::<Vec<_>>(), [(0, 0), (1, 42), (2, 35), (3, 0), (9, 3), (-1, 3)]);
}

fn creatable(topic: &str) -> create::CreatableTopic {
    create::CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
}

fn assigned(topic: &str, partitions: &[(i32, &[i32])]) -> create::CreatableTopic {
    let assignment = |(index, brokers): &(i32, &[i32])| {
        create::CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(brokers.iter().map(|id| m::BrokerId(*id)).collect())
    };
    creatable(topic).with_assignments(partitions.iter().map(assignment).collect())
}

fn created(fake: &Fake, topics: Vec<create::CreatableTopic>, validate_only: bool) -> Vec<(String, i16, i32)> {
    let request = m::CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate_only);
    let response: m::CreateTopicsResponse = ask(19, 7, &request, fake);
    response
        .topics
        .into_iter()
        .map(|one| (one.name.to_string(), one.error_code, one.num_partitions))
        .collect()
}

#[test]
fn topics_are_created_or_refused_as_kafka_does() {
    let config = |key: &str, value: Option<&str>| {
        vec![create::CreatableTopicConfig::default().with_name(text(key)).with_value(value.map(text))]
    };
    for (topic, code, partitions) in [
        (creatable("t"), 0, 1),
        (creatable("t").with_num_partitions(5).with_replication_factor(1), 0, 5),
        (creatable("t").with_num_partitions(0), 37, -1),
        (creatable("t").with_num_partitions(-2), 37, -1),
        (creatable("t").with_num_partitions(i32::MAX), 37, -1),
        (creatable("t").with_replication_factor(2), 38, -1),
        (creatable("t").with_replication_factor(0), 38, -1),
        (creatable(""), 17, -1),
        (creatable("a/b"), 17, -1),
        (creatable("old"), 36, -1),
        (creatable("__cluster_metadata"), 42, -1),
        (creatable("t").with_configs(config("segment.bytes", Some("2097152"))), 0, 1),
        (creatable("t").with_configs(config("segment.bytes", Some("1"))), 40, -1),
        (creatable("t").with_configs(config("segment.bytes", None)), 40, -1),
        (creatable("t").with_configs(config("no.such.setting", Some("1"))), 40, -1),
        (assigned("t", &[(0, &[1]), (1, &[1])]), 0, 2),
        (assigned("t", &[(0, &[1]), (0, &[1])]), 39, -1),
        (assigned("t", &[(1, &[1])]), 39, -1),
        (assigned("t", &[(-1, &[1])]), 39, -1),
        (assigned("t", &[(0, &[2])]), 39, -1),
        (assigned("t", &[(0, &[])]), 39, -1),
        (assigned("t", &[(0, &[1, 1])]), 39, -1),
        (assigned("t", &[(0, &[1])]).with_num_partitions(1), 42, -1),
        (assigned("t", &[(0, &[1])]).with_replication_factor(1), 42, -1),
    ] {
        for validate_only in [true, false] {
            let fake = Fake::default().with_topic("old", 1, 1);
            let expected = (topic.name.to_string(), code, partitions);
            assert_eq!(created(&fake, vec![topic.clone()], validate_only), [expected], "{topic:?}");
            assert_eq!(fake.latest().topics().count(), if validate_only || code != 0 { 1 } else { 2 });
        }
    }
}

#[test]
fn a_topic_created_twice_in_one_request_is_refused_once() {
    let fake = Fake::default();
    let answered = created(&fake, vec![creatable("t"), creatable("u"), creatable("t")], false);
    assert_eq!(answered, [("t".to_owned(), 42, -1), ("u".to_owned(), 0, 1)]);
}

#[test]
fn topics_are_deleted_by_name_or_id_and_by_one_of_them_alone() {
    let fake = Fake::default().with_topic("a", 1, 1).with_topic("b", 2, 1).with_topic("c", 3, 1);
    let topic = |topic: Option<&str>, id: u8| {
        delete::DeleteTopicState::default()
            .with_name(topic.map(name))
            .with_topic_id(TryFrom::try_from(vec![id; 16]).expect("16 bytes"))
    };
    let topics = vec![
        topic(Some("a"), 0),
        topic(None, 2),
        topic(None, 9),
        topic(Some("x"), 0),
        topic(None, 0),
        topic(Some("c"), 3),
        topic(Some("c"), 0),
        topic(None, 3),
    ];
    let response: m::DeleteTopicsResponse =
        ask(20, 6, &m::DeleteTopicsRequest::default().with_topics(topics), &fake);
    let codes: Vec<i16> = response.responses.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [0, 0, 100, 3, 42, 42, 42, 42]);
    assert_eq!(response.responses[1].name, Some(name("b")), "found by its id, told by its name");
    let left: Vec<String> = fake.latest().topics().map(|topic| topic.name.clone()).collect();
    assert_eq!(left, ["c"]);
}

#[test]
fn producer_ids_are_for_those_without_transactions() {
    let transactional =
        |id: &str| m::InitProducerIdRequest::default().with_transactional_id(Some(text(id).into()));
    let plain = || {
        m::InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id(m::ProducerId(-1))
            .with_producer_epoch(-1)
    };
    for (request, code, id) in [
        (plain(), 0, 4_000),
        (plain().with_producer_id(m::ProducerId(7)).with_producer_epoch(3), 0, 4_000),
        (plain().with_producer_id(m::ProducerId(7)), 42, -1),
        (plain().with_producer_epoch(7), 42, -1),
        (transactional("t"), 53, -1),
        (transactional(""), 42, -1),
    ] {
        let response: m::InitProducerIdResponse = ask(22, 5, &request, &Fake::default());
        assert_eq!((response.error_code, response.producer_id.0), (code, id), "{request:?}");
    }
}

#[test]
fn settings_are_described_by_name_with_their_sources() {
    let resource = |kind, of: &str, keys: Option<Vec<StrBytes>>| {
        let resource = configs::DescribeConfigsResource::default().with_resource_type(kind);
        resource.with_resource_name(text(of)).with_configuration_keys(keys)
    };
    let fake = Fake::default().with_topic("a", 1, 1);
    let asked = vec![
        resource(2, "a", Some(vec![text("segment.ms"), text("no.such")])),
        resource(2, "a", Some(Vec::new())),
        resource(2, "x", None),
        resource(2, "a/b", None),
        resource(4, "1", Some(vec![text("node.id")])),
        resource(4, "", None),
        resource(4, "2", None),
        resource(4, "one", None),
        resource(8, "1", None),
        resource(-1, "1", None),
    ];
    let request = m::DescribeConfigsRequest::default().with_resources(asked).with_include_synonyms(true);
    let response: m::DescribeConfigsResponse = ask(32, 4, &request, &fake);
    let seen: Vec<_> = response.results.iter().map(|one| (one.error_code, one.configs.len())).collect();
    let refused = (42, 0);
    assert_eq!(seen, [(0, 1), (0, 4), (3, 0), (17, 0), (0, 1), (0, 0), refused, refused, refused, refused]);
    let segment_ms = &response.results[0].configs[0];
    assert_eq!(
        (segment_ms.value.as_deref(), segment_ms.config_source, segment_ms.config_type),
        (Some("604800000"), 5, 5)
    );
    assert_eq!(segment_ms.synonyms[0].name.as_str(), "log.roll.ms");
}

#[test]
fn metadata_brings_topics_into_being_before_it_answers() {
    let topic = m::metadata_request::MetadataRequestTopic::default().with_name(Some(name("new")));
    let request =
        m::MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
    let fake = Fake::default();
    let response: m::MetadataResponse = ask(3, 12, &request, &fake);
    assert_eq!((response.topics[0].error_code, response.topics[0].partitions.len()), (0, 1));
    assert_eq!(response.topics[0].partitions[0].leader_epoch, 2, "the step of the topic's creation");
    assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("here", 9092));
}
