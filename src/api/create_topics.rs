//! CreateTopics 2-7: creates topics, or says whether it would.
//!
//! - A topic is answered when it is durable and its logs are open, so a client may use it at once.
//! - -1 partitions means `num.partitions`; the replication factor is 1, or -1 for the same. A manual assignment names
//!   this broker, once, for each of the partitions 0, 1, 2 and so on, beside -1 partitions and factor -1.
//! - Settings are checked against the registry: an unknown one, one that is not honoured here, or a bad value is
//!   answered with INVALID_CONFIG. A topic named twice is answered once, with INVALID_REQUEST.
//! - Version 5 answers the topic's partitions, replication factor and settings, version 7 its id.
//!   `validate_only` answers the same, without an id, and creates nothing.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use corelane_shards::types::TopicId;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;

use super::bounds::message;
use super::engine::Engine;
use super::metadata::wire_id;
use super::registry::Api;
use super::serve::Context;
use super::{CloseReason, ErrorCode, Request};
use crate::cluster::image::{ChangeRefused, MetadataImage, NewTopic};
use crate::config::{Described, TopicSettings};
use crate::wire::Uuid;

/// CreateTopics.
pub const API: Api =
    Api { key: 19, name: "CreateTopics", advertised: 2..=7, served: 2..=7, flexible_from: 5 };

/// The number that means "the broker's default".
const DEFAULT: i32 = -1;

/// Stands for the id of a topic that is only looked at.
const UNCREATED: TopicId = TopicId([0xff; 16]);

/// Why a topic is not created, in Kafka's words where it has any.
#[derive(Debug, Eq, PartialEq)]
struct Refusal {
    error: ErrorCode,
    message: String,
}

impl Refusal {
    fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

impl From<ChangeRefused> for Refusal {
    fn from(refused: ChangeRefused) -> Self {
        Self::new((&refused).into(), refused.to_string())
    }
}

/// Answers a request.
pub async fn handle(
    request: &Request<'_>,
    context: &Context<'_>,
    engine: &impl Engine,
) -> Result<Bytes, CloseReason> {
    let body: CreateTopicsRequest = request.decode()?;
    let mut times_named: HashMap<&str, usize> = HashMap::new();
    for topic in &body.topics {
        *times_named.entry(topic.name.as_str()).or_insert(0) += 1;
    }
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let result = match times_named.remove(topic.name.as_str()) {
            None => continue,
            Some(1) => create(topic, body.validate_only, context, engine).await,
            Some(_) => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
        };
        topics.push(result.unwrap_or_else(refused).with_name(topic.name.clone()));
    }
    request.encode(&CreateTopicsResponse::default().with_topics(topics))
}

async fn create(
    topic: &CreatableTopic,
    validate_only: bool,
    context: &Context<'_>,
    engine: &impl Engine,
) -> Result<CreatableTopicResult, Refusal> {
    let (mut new, settings) = check(topic, context, &engine.image())?;
    let created = described(&new, &settings, context);
    if validate_only {
        return Ok(created);
    }
    new.id = engine
        .new_topic_id()
        .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
    let topic = engine.create_topic(new).await;
    let topic = topic.map_err(|error| Refusal::new((&error).into(), error.to_string()))?;
    Ok(created.with_topic_id(wire_id(Uuid(topic.id.0))))
}

/// All that can be said before anything is written, in Kafka's order: the name, the settings, the partitions.
fn check(
    topic: &CreatableTopic,
    context: &Context<'_>,
    image: &MetadataImage,
) -> Result<(NewTopic, TopicSettings), Refusal> {
    let name = topic.name.to_string();
    let mut new =
        NewTopic { name, id: UNCREATED, partitions: 1, replication_factor: 1, overrides: BTreeMap::new() };
    image.check_new_topic(&new)?;
    new.overrides = overrides(topic)?;
    let given = new.overrides.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings = TopicSettings::new(&context.settings.values, given)
        .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))?;
    new.partitions = partitions(topic, context)?;
    image.check_new_topic(&new)?;
    Ok((new, settings))
}

fn overrides(topic: &CreatableTopic) -> Result<BTreeMap<String, String>, Refusal> {
    let is_null = |config: &&kafka_protocol::messages::create_topics_request::CreatableTopicConfig| {
        config.value.is_none()
    };
    let nulls: Vec<&str> = topic.configs.iter().filter(is_null).map(|config| config.name.as_str()).collect();
    if !nulls.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    }
    let given = topic.configs.iter();
    Ok(given
        .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())))
        .collect())
}

fn partitions(topic: &CreatableTopic, context: &Context<'_>) -> Result<i32, Refusal> {
    if !topic.assignments.is_empty() {
        return assigned(topic, context.settings.node_id);
    }
    match topic.replication_factor {
        1 | -1 => {}
        ..=0 => {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        factor => {
            let message = format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} \
                 cannot be reached because only 1 broker(s) are registered."
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
    }
    match topic.num_partitions {
        DEFAULT => Ok(i32::try_from(context.settings.num_partitions).unwrap_or(i32::MAX)),
        1.. => Ok(topic.num_partitions),
        _ => {
            let message = "Number of partitions was set to an invalid non-positive value.";
            Err(Refusal::new(ErrorCode::InvalidPartitions, message))
        }
    }
}

/// The number of partitions of a manual assignment.
fn assigned(topic: &CreatableTopic, node_id: i32) -> Result<i32, Refusal> {
    let manual = "A manual partition assignment was specified, but";
    if topic.replication_factor != -1 {
        let message = format!("{manual} replication factor was not set to -1.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if topic.num_partitions != DEFAULT {
        let message = format!("{manual} numPartitions was not set to -1.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let mut indexes = std::collections::BTreeSet::new();
    for assignment in &topic.assignments {
        check_assignment(assignment, node_id)?;
        if !indexes.insert(assignment.partition_index) {
            let index = assignment.partition_index;
            let message = format!("Found multiple manual partition assignments for partition {index}");
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    if !indexes.iter().copied().eq((0..).take(indexes.len())) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(i32::try_from(indexes.len()).unwrap_or(i32::MAX))
}

fn check_assignment(assignment: &CreatableReplicaAssignment, node_id: i32) -> Result<(), Refusal> {
    let brokers = &assignment.broker_ids;
    let problem = match brokers.iter().find(|broker| broker.0 != node_id) {
        Some(other) => {
            format!("includes broker {}, but no such broker is registered.", other.0)
        }
        None if brokers.is_empty() => "includes an empty replica list.".to_owned(),
        None if brokers.len() > 1 => format!("includes the broker {node_id} more than once."),
        None => return Ok(()),
    };
    let message = format!("The manual partition assignment {problem}");
    Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message))
}

fn described(new: &NewTopic, settings: &TopicSettings, context: &Context<'_>) -> CreatableTopicResult {
    let mut configs: Vec<_> = settings.describe(&context.settings.values).map(config).collect();
    configs.sort_by(|one, other| one.name.cmp(&other.name));
    CreatableTopicResult::default()
        .with_error_message(None)
        .with_num_partitions(new.partitions)
        .with_replication_factor(new.replication_factor)
        .with_configs(Some(configs))
}

fn config(described: Described) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(StrBytes::from_static_str(described.name))
        .with_value(described.value.map(StrBytes::from_string))
        .with_read_only(described.read_only)
        .with_config_source(described.source.code())
}

fn refused(refusal: Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_error_code(refusal.error.code())
        .with_error_message(Some(message(refusal.message)))
}
