//! InitProducerId (key 22), versions 0 to 5: an id under which a producer numbers its batches.
//!
//! Version 2 is flexible; 3 lets a producer name the id and epoch that it has (KIP-360); 4 and 5 only allow more error codes.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, Writer};

/// The request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerIdRequest {
    /// The transactional id, if there is one.
    pub transactional_id: Option<String>,
    /// Milliseconds after which an open transaction is aborted.
    pub transaction_timeout_ms: i32,
    /// The id that the producer has, or -1 (version 3 on).
    pub producer_id: i64,
    /// The epoch that the producer has, or -1 (version 3 on).
    pub producer_epoch: i16,
}

impl Default for InitProducerIdRequest {
    /// An idempotent producer that has no id yet.
    fn default() -> Self {
        Self { transactional_id: None, transaction_timeout_ms: 60_000, producer_id: -1, producer_epoch: -1 }
    }
}

/// The response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    /// Milliseconds for which the request was throttled.
    pub throttle_time_ms: i32,
    /// 0, or the error.
    pub error_code: i16,
    /// The id.
    pub producer_id: i64,
    /// The epoch.
    pub producer_epoch: i16,
}

impl Request for InitProducerIdRequest {
    const KEY: i16 = 22;
    const VERSIONS: RangeInclusive<i16> = 0..=5;
    const FIRST_FLEXIBLE: i16 = 2;
    type Response = InitProducerIdResponse;

    fn encode(&self, version: i16, writer: &mut Writer) {
        writer.nullable_string(self.transactional_id.as_deref());
        writer.int32(self.transaction_timeout_ms);
        if version >= 3 {
            writer.int64(self.producer_id);
            writer.int16(self.producer_epoch);
        }
        writer.no_tagged_fields();
    }

    fn decode(_version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let response = InitProducerIdResponse {
            throttle_time_ms: reader.int32()?,
            error_code: reader.int16()?,
            producer_id: reader.int64()?,
            producer_epoch: reader.int16()?,
        };
        reader.skip_tagged_fields()?;
        Ok(response)
    }
}
