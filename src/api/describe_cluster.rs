//! DescribeCluster 0-2: the cluster's id, controller and brokers.
//!
//! - Version 1 says whether brokers or controllers are meant. Here are only brokers: who asks for controllers is
//!   answered with MISMATCHED_ENDPOINT_TYPE, who asks for anything else with UNSUPPORTED_ENDPOINT_TYPE.
//! - Version 2 may ask for fenced brokers too; none is ever fenced here.
//! - Authorized operations, where asked for, are all operations: there is no authorizer yet.

use bytes::Bytes;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::registry::Api;
use super::view::{Broker, CLUSTER_OPERATIONS, View};
use super::{CloseReason, ErrorCode, Request};

/// DescribeCluster.
pub const API: Api =
    Api { key: 60, name: "DescribeCluster", advertised: 0..=2, served: 0..=2, flexible_from: 0 };

/// The endpoint type that means brokers.
const BROKERS: i8 = 1;
/// The endpoint type that means controllers.
const CONTROLLERS: i8 = 2;

/// Answers a request.
pub fn handle(request: &Request<'_>, view: &impl View) -> Result<Bytes, CloseReason> {
    let body: DescribeClusterRequest = request.decode()?;
    let response = match body.endpoint_type {
        BROKERS => describe(&body, view),
        CONTROLLERS => refuse(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".into(),
        ),
        other => {
            refuse(ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))
        }
    };
    request.encode(&response)
}

fn describe(body: &DescribeClusterRequest, view: &impl View) -> DescribeClusterResponse {
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(view.cluster_id().to_owned()))
        .with_controller_id(BrokerId(view.controller_id().unwrap_or(-1)))
        .with_brokers(view.brokers().into_iter().map(broker).collect());
    if body.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn broker(broker: Broker) -> DescribeClusterBroker {
    DescribeClusterBroker::default()
        .with_broker_id(BrokerId(broker.node_id))
        .with_host(StrBytes::from_string(broker.host))
        .with_port(broker.port.into())
        .with_rack(broker.rack.map(StrBytes::from_string))
}

fn refuse(error: ErrorCode, message: String) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(StrBytes::from_string(message)))
        .with_controller_id(BrokerId(-1))
}
