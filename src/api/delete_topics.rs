//! DeleteTopics 1-6: deletes topics, by name or, from version 6 on, by id.
//!
//! - A topic is answered when its deletion is durable; its files go later. Its name is free at once.
//! - An unknown name is UNKNOWN_TOPIC_OR_PARTITION, an unknown id UNKNOWN_TOPIC_ID. A topic given both name and id, or
//!   neither, or twice in whatever way, is answered with INVALID_REQUEST and stays.
//! - Version 5 brings error messages. Topics are answered in the order of the request; Kafka shuffles them.

use std::collections::HashMap;

use bytes::Bytes;
use corelane_shards::types::TopicId;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::bounds;
use super::engine::Engine;
use super::located::live_topic;
use super::metadata::wire_id;
use super::registry::Api;
use super::{CloseReason, ErrorCode, Request};
use crate::cluster::image::MetadataImage;
use crate::wire::Uuid;

/// DeleteTopics.
pub const API: Api =
    Api { key: 20, name: "DeleteTopics", advertised: 1..=6, served: 1..=6, flexible_from: 4 };

/// A topic as the request names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Named<'b> {
    name: Option<&'b str>,
    id: Uuid,
}

/// Why a topic stays.
struct Refusal {
    error: ErrorCode,
    message: Option<String>,
}

impl Refusal {
    fn invalid(message: &str) -> Self {
        Self { error: ErrorCode::InvalidRequest, message: Some(message.to_owned()) }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self { error, message: None }
    }
}

/// Answers a request.
pub async fn handle(request: &Request<'_>, engine: &impl Engine) -> Result<Bytes, CloseReason> {
    let body: DeleteTopicsRequest = request.decode()?;
    let image = engine.image();
    let named: Vec<Named<'_>> = named(&body);
    let mut times: HashMap<TopicId, usize> = HashMap::new();
    for id in named.iter().filter_map(|named| resolve(*named, &image).ok()) {
        *times.entry(id).or_insert(0) += 1;
    }
    let mut responses = Vec::with_capacity(named.len());
    for named in named {
        let result = match resolve(named, &image) {
            Ok(id) if times[&id] > 1 => Err(Refusal::invalid("The topic is named more than once.")),
            Ok(id) => engine
                .delete_topic(id)
                .await
                .map(|()| id)
                .map_err(|error| Refusal { error: (&error).into(), message: Some(error.to_string()) }),
            Err(refusal) => Err(refusal),
        };
        responses.push(describe(named, result, &image));
    }
    request.encode(&DeleteTopicsResponse::default().with_responses(responses))
}

fn named(body: &DeleteTopicsRequest) -> Vec<Named<'_>> {
    let by_name = body.topic_names.iter().map(|name| Named { name: Some(name), id: Uuid::ZERO });
    let by_either = body.topics.iter().map(|topic| Named {
        name: topic.name.as_ref().map(|name| name.as_str()),
        id: Uuid(*topic.topic_id.as_bytes()),
    });
    by_name.chain(by_either).collect()
}

fn resolve(named: Named<'_>, image: &MetadataImage) -> Result<TopicId, Refusal> {
    match (named.name, named.id.is_zero()) {
        (None, true) => Err(Refusal::invalid("Neither topic name nor id were specified.")),
        (Some(_), false) => Err(Refusal::invalid("You may not specify both topic name and topic id.")),
        (Some(name), true) => {
            let topic = image.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(topic.id)
        }
        (None, false) => {
            let topic = live_topic(image, TopicId(named.id.0)).ok_or(ErrorCode::UnknownTopicId)?;
            Ok(topic.id)
        }
    }
}

/// A topic that was deleted is answered with name and id, one that was not as it was named.
fn describe(
    named: Named<'_>,
    result: Result<TopicId, Refusal>,
    image: &MetadataImage,
) -> DeletableTopicResult {
    let text = |name: &str| TopicName(StrBytes::from_string(name.to_owned()));
    let response = DeletableTopicResult::default().with_error_message(None);
    match result {
        Ok(id) => {
            let name = image.topic_by_id(id).map(|topic| text(&topic.name));
            response.with_name(name).with_topic_id(wire_id(Uuid(id.0)))
        }
        Err(refusal) => response
            .with_name(named.name.map(text))
            .with_topic_id(wire_id(named.id))
            .with_error_code(refusal.error.code())
            .with_error_message(refusal.message.map(bounds::message)),
    }
}
