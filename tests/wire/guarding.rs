//! The guard's tables beside the decoder they guard: what `kafka-protocol` writes in any version, every field set and
//! every array filled, the guard walks to its last byte. (That real clients' requests pass is shown in `requests`.)

use bytes::BytesMut;
use corelane::wire::generated::Guarded;
use kafka_protocol::messages as m;
use kafka_protocol::messages::{
    create_topics_request as create, delete_topics_request as delete, describe_configs_request as configs,
    list_offsets_request as offsets, metadata_request as metadata, offset_for_leader_epoch_request as epochs,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

fn text(value: &'static str) -> StrBytes {
    StrBytes::from_static_str(value)
}

fn name(value: &'static str) -> m::TopicName {
    text(value).into()
}

/// Walks the request in each of its versions, and every prefix of it.
fn walk<R: Guarded + Encodable>(request: impl Fn(i16) -> R) {
    for version in R::SCHEMA.versions.clone() {
        let mut body = BytesMut::new();
        let encoded = request(version).encode(&mut body, version);
        encoded.unwrap_or_else(|error| panic!("{} {version}: {error}", R::SCHEMA.name));
        let end = R::SCHEMA.check(&body, 0, version);
        assert_eq!(end, Ok(body.len()), "{} {version}", R::SCHEMA.name);
        for length in 0..body.len() {
            let cut = R::SCHEMA.check(&body[..length], 0, version);
            assert!(cut.is_err(), "{} {version} cut to {length}", R::SCHEMA.name);
        }
    }
}

#[test]
fn list_offsets() {
    let partition = |version| {
        let partition = offsets::ListOffsetsPartition::default().with_partition_index(1).with_timestamp(-1);
        partition.with_current_leader_epoch(if version >= 4 { 3 } else { -1 })
    };
    let topic = |version| {
        let partitions = vec![partition(version), partition(version)];
        offsets::ListOffsetsTopic::default().with_name(name("topic")).with_partitions(partitions)
    };
    walk(|version| {
        let request = m::ListOffsetsRequest::default().with_topics(vec![topic(version), topic(version)]);
        let request = request.with_isolation_level(i8::from(version >= 2));
        request.with_timeout_ms(if version >= 10 { 5 } else { 0 })
    });
}

#[test]
fn metadata() {
    let topic = |text| metadata::MetadataRequestTopic::default().with_name(Some(name(text)));
    walk(|version| {
        m::MetadataRequest::default()
            .with_topics(Some(vec![topic("one"), topic("another")]))
            .with_allow_auto_topic_creation(true)
            .with_include_cluster_authorized_operations((8..=10).contains(&version))
            .with_include_topic_authorized_operations(version >= 8)
    });
}

#[test]
fn create_topics() {
    let assignment = create::CreatableReplicaAssignment::default().with_broker_ids(vec![1.into(), 2.into()]);
    let config = |value| create::CreatableTopicConfig::default().with_name(text("key")).with_value(value);
    let topic = create::CreatableTopic::default()
        .with_name(name("topic"))
        .with_assignments(vec![assignment.clone(), assignment])
        .with_configs(vec![config(Some(text("value"))), config(None)]);
    walk(|_| m::CreateTopicsRequest::default().with_topics(vec![topic.clone(), topic.clone()]));
}

#[test]
fn delete_topics() {
    let by_name = delete::DeleteTopicState::default().with_name(Some(name("topic")));
    let by_id = delete::DeleteTopicState::default().with_name(None);
    walk(|version| {
        let request = m::DeleteTopicsRequest::default();
        if version >= 6 {
            request.with_topics(vec![by_name.clone(), by_id.clone()])
        } else {
            request.with_topic_names(vec![name("one"), name("another")])
        }
    });
}

#[test]
fn init_producer_id() {
    walk(|version| {
        let request = m::InitProducerIdRequest::default().with_transactional_id(Some(text("id").into()));
        let resumed = request.clone().with_producer_id(7.into()).with_producer_epoch(3);
        if version >= 3 { resumed } else { request }
    });
}

#[test]
fn offset_for_leader_epoch() {
    let partition = epochs::OffsetForLeaderPartition::default().with_current_leader_epoch(4);
    let topic = epochs::OffsetForLeaderTopic::default()
        .with_topic(name("topic"))
        .with_partitions(vec![partition.clone(), partition]);
    walk(|_| m::OffsetForLeaderEpochRequest::default().with_topics(vec![topic.clone(), topic.clone()]));
}

#[test]
fn describe_configs() {
    let resource = |keys| {
        let resource = configs::DescribeConfigsResource::default().with_resource_type(2);
        resource.with_resource_name(text("topic")).with_configuration_keys(keys)
    };
    let resources = vec![resource(Some(vec![text("one"), text("another")])), resource(None)];
    walk(|version| {
        let request = m::DescribeConfigsRequest::default().with_resources(resources.clone());
        request.with_include_synonyms(true).with_include_documentation(version >= 3)
    });
}

#[test]
fn describe_cluster() {
    walk(|version| {
        let request = m::DescribeClusterRequest::default().with_endpoint_type(1);
        request.with_include_cluster_authorized_operations(true).with_include_fenced_brokers(version >= 2)
    });
}
