//! FindCoordinator 0-6: where the coordinator of a group or a transaction is. There is none: neither is served yet.
//!
//! - Every key is refused, with an error that is final and a message that says why: GROUP_AUTHORIZATION_FAILED for groups,
//!   TRANSACTIONAL_ID_AUTHORIZATION_FAILED for transactions. A retriable error would make clients ask for ever.
//! - The API is advertised all the same, because librdkafka takes LZ4 for unsupported where FindCoordinator 0 is missing.
//! - Version 1 adds the kind of key, version 4 asks for many keys at once, 5 and 6 add error codes and share groups.

use bytes::Bytes;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::registry::Api;
use super::{CloseReason, ErrorCode, Request};
use crate::wire::generated;

/// FindCoordinator.
pub const API: Api =
    Api { key: 10, name: "FindCoordinator", advertised: 0..=6, served: 0..=6, flexible_from: 3 };

/// The first version that asks for many keys.
const MANY_KEYS: i16 = 4;
/// The kind of key that names a group.
const GROUP: i8 = 0;
/// The kind of key that names a transaction.
const TRANSACTION: i8 = 1;

/// Refuses a request.
pub fn handle(request: &Request<'_>) -> Result<Bytes, CloseReason> {
    let version = request.version();
    let body: FindCoordinatorRequest = generated::decode(request.frame, request.header.body_at, version)?;
    let (error, why) = refusal(body.key_type);
    let why = StrBytes::from_static_str(why);
    let nowhere = BrokerId(-1);
    let response = if version < MANY_KEYS {
        let response = FindCoordinatorResponse::default().with_error_code(error.code()).with_node_id(nowhere);
        response.with_port(-1).with_error_message((version >= 1).then_some(why))
    } else {
        let coordinator = |key| {
            let coordinator = Coordinator::default().with_key(key).with_node_id(nowhere).with_port(-1);
            coordinator.with_error_code(error.code()).with_error_message(Some(why.clone()))
        };
        let coordinators = body.coordinator_keys.into_iter().map(coordinator);
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    };
    let encoding = request.api.encoding(version);
    generated::encode(&response, API.name, version, encoding, request.correlation_id())
        .map_err(|_| CloseReason::Unanswerable)
}

fn refusal(key_type: i8) -> (ErrorCode, &'static str) {
    match key_type {
        GROUP => (ErrorCode::GroupAuthorizationFailed, "consumer groups are not served yet"),
        TRANSACTION => (ErrorCode::TransactionalIdAuthorizationFailed, "transactions are not served yet"),
        _ => (ErrorCode::InvalidRequest, "this kind of coordinator is not served"),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ResponseHeader;
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;
    use crate::api::{Dispatch, dispatch};

    fn ask(version: i16, key_type: i8) -> FindCoordinatorResponse {
        let mut frame = bytes::BytesMut::new();
        frame.extend_from_slice(&[0, 10, 0, u8::try_from(version).expect("small"), 0, 0, 0, 7, 0xff, 0xff]);
        if version >= 3 {
            frame.extend_from_slice(&[0]);
        }
        let key = StrBytes::from_static_str("readers");
        let request = FindCoordinatorRequest::default();
        let request = if version < MANY_KEYS {
            request.with_key(key)
        } else {
            request.with_coordinator_keys(vec![key])
        };
        let request = if version >= 1 { request.with_key_type(key_type) } else { request };
        request.encode(&mut frame, version).expect("the version carries it");
        let Dispatch::Serve(request) = dispatch(&frame) else { panic!("version {version} is served") };
        let mut answer = handle(&request).expect("answered").split_off(4);
        ResponseHeader::decode(&mut answer, i16::from(version >= 3)).expect("a header");
        FindCoordinatorResponse::decode(&mut answer, version).expect("a body")
    }

    #[test]
    fn every_version_refuses_for_good_and_says_why() {
        for version in 0..=6 {
            let response = ask(version, GROUP);
            let (code, message) = match response.coordinators.first() {
                Some(one) => (one.error_code, one.error_message.clone()),
                None => (response.error_code, response.error_message.clone()),
            };
            assert_eq!(code, ErrorCode::GroupAuthorizationFailed.code(), "version {version}");
            assert_eq!(message.is_some_and(|text| !text.is_empty()), version >= 1, "version {version}");
            assert_eq!(response.coordinators.len(), usize::from(version >= MANY_KEYS));
        }
        assert_eq!(ask(2, TRANSACTION).error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
        assert_eq!(ask(3, 9).error_code, ErrorCode::InvalidRequest.code());
    }
}
