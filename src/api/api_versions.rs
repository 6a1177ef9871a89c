//! ApiVersions 0-5: what this broker speaks, computed from the registry.
//!
//! - A version we do not know is answered in version 0 with UNSUPPORTED_VERSION and our own range alone; its body is
//!   not read ([`unsupported`]).
//! - From version 3 on, a software name or version that Kafka's pattern refuses is answered with INVALID_REQUEST.
//! - From version 5 on (KIP-1242), a client that names another cluster or node than this is told to bootstrap again
//!   (REBOOTSTRAP_REQUIRED); one that names only one of the two is answered with INVALID_REQUEST. So does Kafka 4.4.
//! - A refusal lists no API.
//! - No feature is listed: none of Kafka's has a meaning here yet.

use bytes::Bytes;

use super::registry::{self, Api};
use super::{CloseReason, ErrorCode, Request};
use crate::wire::api_versions::{self as codec, ApiVersion, Response};

/// ApiVersions.
pub const API: Api = Api {
    key: 18,
    name: "ApiVersions",
    advertised: codec::VERSIONS,
    served: codec::VERSIONS,
    flexible_from: codec::FLEXIBLE_FROM,
};

/// Who this broker is to the client that asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity<'a> {
    /// The cluster's id.
    pub cluster_id: &'a str,
    /// The node that this port stands for; none on a port that only serves to bootstrap.
    pub node_id: Option<i32>,
}

/// Answers a request.
pub fn handle(request: &Request<'_>, identity: Identity<'_>) -> Result<Bytes, CloseReason> {
    let version = request.version();
    let body = codec::Request::parse(request.frame, request.header.body_at, version)?;
    let correlation_id = request.correlation_id();
    Ok(match check(&body, identity) {
        ErrorCode::None => respond(ErrorCode::None, &registry::advertised(), version, correlation_id),
        refusal => respond(refusal, &[], version, correlation_id),
    })
}

/// The answer to a version we do not know.
pub fn unsupported(correlation_id: i32) -> Bytes {
    respond(ErrorCode::UnsupportedVersion, &[registry::advertise(&API)], 0, correlation_id)
}

fn check(body: &codec::Request<'_>, identity: Identity<'_>) -> ErrorCode {
    if body.software.is_some_and(|software| !software.is_valid()) {
        return ErrorCode::InvalidRequest;
    }
    match (body.cluster_id, body.node_id) {
        (None, -1) => ErrorCode::None,
        (None, _) | (Some(_), -1) => ErrorCode::InvalidRequest,
        (Some(cluster), node) => {
            let here = identity.node_id.is_none_or(|own| own == node);
            if here && cluster == identity.cluster_id {
                ErrorCode::None
            } else {
                ErrorCode::RebootstrapRequired
            }
        }
    }
}

fn respond(error: ErrorCode, apis: &[ApiVersion], version: i16, correlation_id: i32) -> Bytes {
    let response = Response {
        error_code: error.code(),
        apis,
        throttle_time_ms: 0,
        supported_features: &[],
        finalized_features_epoch: -1,
        finalized_features: &[],
    };
    response.encode(version, correlation_id)
}
