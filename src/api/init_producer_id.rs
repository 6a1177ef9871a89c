//! InitProducerId 0-5: gives an idempotent producer its identity.
//!
//! - A request without a transactional id gets a new producer id under epoch 0, whatever id it names, as with Kafka.
//!   From version 3 on, a producer id without its epoch, or the reverse, is answered with INVALID_REQUEST.
//! - Transactions are not served. A transactional id is answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, as by a
//!   Kafka whose authorizer allows none: clients take it for final and tell their user. An empty one is answered with
//!   INVALID_REQUEST.

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::engine::Engine;
use super::registry::Api;
use super::{CloseReason, ErrorCode, Request};

/// InitProducerId.
pub const API: Api =
    Api { key: 22, name: "InitProducerId", advertised: 0..=5, served: 0..=5, flexible_from: 2 };

/// Answers a request.
pub async fn handle(request: &Request<'_>, engine: &impl Engine) -> Result<Bytes, CloseReason> {
    let body: InitProducerIdRequest = request.decode()?;
    let response = InitProducerIdResponse::default();
    let response = match new_producer(&body, engine).await {
        Ok(id) => response.with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => {
            response.with_error_code(error.code()).with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
        }
    };
    request.encode(&response)
}

async fn new_producer(body: &InitProducerIdRequest, engine: &impl Engine) -> Result<i64, ErrorCode> {
    if (body.producer_id.0 == -1) != (body.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    match &body.transactional_id {
        None => Ok(engine.new_producer_id().await?.get()),
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::TransactionalIdAuthorizationFailed),
    }
}
