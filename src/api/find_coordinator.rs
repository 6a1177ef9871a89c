//! FindCoordinator 0-6: where the coordinator of a group or a transaction is.
//!
//! - A group's coordinator is this broker. Groups themselves are not served yet: a client that wants to join one finds that
//!   JoinGroup is missing and says so; one that only assigns partitions goes on undisturbed.
//! - Transactions are refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which is final, and a message that says why.
//! - librdkafka takes LZ4 for unsupported where FindCoordinator 0 is missing.
//! - Version 1 adds the kind of key, version 4 asks for many keys at once, 5 and 6 add error codes and share groups.

use bytes::Bytes;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::registry::Api;
use super::view::View;
use super::{CloseReason, ErrorCode, Request};

/// FindCoordinator.
pub const API: Api =
    Api { key: 10, name: "FindCoordinator", advertised: 0..=6, served: 0..=6, flexible_from: 3 };

/// The first version that asks for many keys.
const MANY_KEYS: i16 = 4;
/// The kind of key that names a group.
const GROUP: i8 = 0;
/// The kind of key that names a transaction.
const TRANSACTION: i8 = 1;

/// Answers a request.
pub fn handle(request: &Request<'_>, view: &impl View) -> Result<Bytes, CloseReason> {
    let version = request.version();
    let body: FindCoordinatorRequest = request.decode()?;
    let found = find(body.key_type, view);
    let response = if version < MANY_KEYS {
        let message = (version >= 1).then_some(found.error_message).flatten();
        FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(message)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port)
    } else {
        let coordinators = body.coordinator_keys.into_iter().map(|key| found.clone().with_key(key));
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    };
    request.encode(&response)
}

/// The coordinator of keys of a kind, or why there is none.
fn find(key_type: i8, view: &impl View) -> Coordinator {
    let nowhere = Coordinator::default().with_node_id(BrokerId(-1)).with_port(-1);
    let refuse = |error: ErrorCode, why: &'static str| {
        nowhere.clone().with_error_code(error.code()).with_error_message(Some(StrBytes::from_static_str(why)))
    };
    let this = view.brokers().into_iter().find(|broker| Some(broker.node_id) == view.controller_id());
    match (key_type, this) {
        (GROUP, Some(broker)) => Coordinator::default()
            .with_node_id(BrokerId(broker.node_id))
            .with_host(StrBytes::from_string(broker.host))
            .with_port(broker.port.into())
            .with_error_message(None),
        (GROUP, None) => refuse(ErrorCode::CoordinatorNotAvailable, "the broker is not registered yet"),
        (TRANSACTION, _) => {
            refuse(ErrorCode::TransactionalIdAuthorizationFailed, "transactions are not served yet")
        }
        _ => refuse(ErrorCode::InvalidRequest, "this kind of coordinator is not served"),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ResponseHeader;
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;
    use crate::api::view::{Broker, Topic};
    use crate::api::{Dispatch, dispatch};
    use crate::wire::Uuid;

    struct OneBroker;

    impl View for OneBroker {
        fn cluster_id(&self) -> &str {
            "cluster"
        }

        fn controller_id(&self) -> Option<i32> {
            Some(7)
        }

        fn brokers(&self) -> Vec<Broker> {
            vec![Broker { node_id: 7, host: "localhost".to_owned(), port: 9092, rack: None }]
        }

        fn topic_names(&self) -> Vec<&str> {
            Vec::new()
        }

        fn topic(&self, _name: &str) -> Option<Topic> {
            None
        }

        fn topic_name(&self, _id: Uuid) -> Option<&str> {
            None
        }

        fn creates_topics(&self) -> bool {
            false
        }
    }

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
        let mut answer = handle(&request, &OneBroker).expect("answered").split_off(4);
        ResponseHeader::decode(&mut answer, i16::from(version >= 3)).expect("a header");
        FindCoordinatorResponse::decode(&mut answer, version).expect("a body")
    }

    #[test]
    fn a_groups_coordinator_is_this_broker() {
        for version in 0..=6 {
            let response = ask(version, GROUP);
            let (node, port) = match response.coordinators.first() {
                Some(one) => (one.node_id, one.port),
                None => (response.node_id, response.port),
            };
            assert_eq!((node, port), (BrokerId(7), 9092), "version {version}");
            assert_eq!(response.coordinators.len(), usize::from(version >= MANY_KEYS));
        }
    }

    #[test]
    fn transactions_are_refused_for_good_with_a_reason() {
        for version in 1..=6 {
            let response = ask(version, TRANSACTION);
            let (code, message) = match response.coordinators.first() {
                Some(one) => (one.error_code, one.error_message.clone()),
                None => (response.error_code, response.error_message.clone()),
            };
            assert_eq!(code, ErrorCode::TransactionalIdAuthorizationFailed.code(), "version {version}");
            assert!(message.is_some_and(|text| !text.is_empty()), "version {version}");
        }
        assert_eq!(ask(3, 9).error_code, ErrorCode::InvalidRequest.code());
    }
}
