//! The only door to the generated codecs of `kafka-protocol`: nothing is decoded that the guard has not walked.
//!
//! A request type and its table are tied by [`Guarded`], so a handler cannot bring the wrong one.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::guard::{Schema, schemas};
use super::header::ResponseHeaderVersion;
use super::{Encoding, Error, Result, frame};

/// A request that `kafka-protocol` decodes behind the guard.
pub trait Guarded: Decodable {
    /// The table by which the guard walks it.
    const SCHEMA: &'static Schema;
}

macro_rules! guarded {
    ($($request:ty: $schema:ident,)*) => {
        $(impl Guarded for $request { const SCHEMA: &'static Schema = &schemas::$schema; })*
    };
}

guarded! {
    ListOffsetsRequest: LIST_OFFSETS,
    MetadataRequest: METADATA,
    CreateTopicsRequest: CREATE_TOPICS,
    DeleteTopicsRequest: DELETE_TOPICS,
    InitProducerIdRequest: INIT_PRODUCER_ID,
    OffsetForLeaderEpochRequest: OFFSET_FOR_LEADER_EPOCH,
    DescribeConfigsRequest: DESCRIBE_CONFIGS,
    DescribeClusterRequest: DESCRIBE_CLUSTER,
    FindCoordinatorRequest: FIND_COORDINATOR,
}

/// Decodes the request whose body begins at byte `body_at` of `frame`. The text in it is copied once.
pub fn decode<R: Guarded>(frame: &[u8], body_at: usize, version: i16) -> Result<R> {
    R::SCHEMA.check(frame, body_at, version)?;
    let mut body = Bytes::copy_from_slice(&frame[body_at..]);
    R::decode(&mut body, version).map_err(|_| Error::Refused { what: R::SCHEMA.name })
}

/// Writes a response frame. It fails where the response says what the version cannot carry.
pub fn encode<R: Encodable>(
    response: &R,
    what: &'static str,
    version: i16,
    encoding: Encoding,
    correlation_id: i32,
) -> Result<Bytes> {
    let begun = frame::begin(correlation_id, ResponseHeaderVersion::of(encoding), encoding);
    let mut body = BytesMut::new();
    response.encode(&mut body, version).map_err(|_| Error::Refused { what })?;
    let mut whole = begun.into_buffer();
    whole.put_slice(&body);
    Ok(frame::end(super::Writer::new(whole, encoding)))
}
