//! DescribeConfigs 1-4: the settings of a topic or of this broker, with their true values and where these come from.
//!
//! - Only what is honoured is listed; a setting of Kafka's that has no effect here is not there. An empty or absent list
//!   of names means all.
//! - A broker without a name is the cluster-wide default of dynamic settings: there are none, so nothing is listed.
//! - Other resource types, and another broker's id, are answered with INVALID_REQUEST.
//! - Synonyms are listed where asked for: the value, then what it would fall back to. Version 3 brings types and, where
//!   asked for, documentation (KIP-569); version 4 is flexible. No setting is sensitive.

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::bounds;
use super::engine::Engine;
use super::registry::Api;
use super::serve::Context;
use super::{CloseReason, ErrorCode, Request};
use crate::cluster::image::{MetadataImage, validate_topic_name};
use crate::config::{Described, Synonym, TopicSettings};

/// DescribeConfigs.
pub const API: Api =
    Api { key: 32, name: "DescribeConfigs", advertised: 1..=4, served: 1..=4, flexible_from: 4 };

/// The resource type of a topic.
const TOPIC: i8 = 2;
/// The resource type of a broker.
const BROKER: i8 = 4;

/// Why a resource is not described, with a message where the error alone does not say it.
type Refusal = (ErrorCode, Option<String>);

/// Answers a request.
pub fn handle(
    request: &Request<'_>,
    context: &Context<'_>,
    engine: &impl Engine,
) -> Result<Bytes, CloseReason> {
    let body: DescribeConfigsRequest = request.decode()?;
    let image = engine.image();
    let result = |resource: &DescribeConfigsResource| {
        let response = DescribeConfigsResult::default()
            .with_error_message(None)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(resource, context, &image) {
            Ok(all) => response.with_configs(
                all.into_iter().filter(|one| is_wanted(resource, one)).map(|one| entry(one, &body)).collect(),
            ),
            Err((error, message)) => {
                response.with_error_code(error.code()).with_error_message(message.map(bounds::message))
            }
        }
    };
    let results = body.resources.iter().map(result).collect();
    request.encode(&DescribeConfigsResponse::default().with_results(results))
}

fn describe(
    resource: &DescribeConfigsResource,
    context: &Context<'_>,
    image: &MetadataImage,
) -> Result<Vec<Described>, Refusal> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => describe_topic(name, context, image),
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => {
            check_broker(name, context.settings.node_id)?;
            Ok(context.settings.values.describe().collect())
        }
        other => {
            let message = format!("Unexpected resource type {other} for resource {name}");
            Err((ErrorCode::InvalidRequest, Some(message)))
        }
    }
}

fn describe_topic(
    name: &str,
    context: &Context<'_>,
    image: &MetadataImage,
) -> Result<Vec<Described>, Refusal> {
    validate_topic_name(name).map_err(|invalid| {
        let message = invalid.to_string();
        (invalid.into(), Some(message))
    })?;
    let topic = image.topic_by_name(name).ok_or((ErrorCode::UnknownTopicOrPartition, None))?;
    let overrides = topic.overrides.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    // They were checked when the topic was created; the broker's own values may have changed with a restart.
    let settings = TopicSettings::new(&context.settings.values, overrides)
        .map_err(|error| (ErrorCode::InvalidConfig, Some(error.to_string())))?;
    Ok(settings.describe(&context.settings.values).collect())
}

fn check_broker(name: &str, node_id: i32) -> Result<(), Refusal> {
    let message = match name.parse::<i32>() {
        Ok(id) if id == node_id => return Ok(()),
        Ok(_) => {
            format!("Unexpected broker id, expected {node_id} or empty string, but received {name}")
        }
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err((ErrorCode::InvalidRequest, Some(message)))
}

fn is_wanted(resource: &DescribeConfigsResource, described: &Described) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == described.name),
        _ => true,
    }
}

fn entry(described: Described, body: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = described.synonyms.into_iter().filter(|_| body.include_synonyms);
    let doc = body.include_documentation.then(|| StrBytes::from_static_str(described.doc));
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(described.name))
        .with_value(described.value.map(StrBytes::from_string))
        .with_read_only(described.read_only)
        .with_config_source(described.source.code())
        .with_config_type(described.value_type.code())
        .with_synonyms(synonyms.map(synonym).collect())
        .with_documentation(doc)
}

fn synonym(synonym: Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(StrBytes::from_static_str(synonym.name))
        .with_value(synonym.value.map(StrBytes::from_string))
        .with_source(synonym.source.code())
}
