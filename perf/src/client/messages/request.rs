//! What all requests have in common: key, versions, headers, and the frame around them.

use std::ops::RangeInclusive;

use crate::client::wire::{DecodeError, Reader, Writer};

/// A request of one API, and how to read its response.
pub trait Request {
    /// The API's key.
    const KEY: i16;
    /// Versions that this client speaks.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields.
    const FIRST_FLEXIBLE: i16;
    /// Whether a flexible version's response header carries tagged fields. Only ApiVersions' never does, so that a
    /// client can read the answer to a version that the broker does not know.
    const FLEXIBLE_RESPONSE_HEADER: bool = true;
    /// What the broker answers.
    type Response;

    /// Writes the body.
    fn encode(&self, version: i16, writer: &mut Writer);

    /// Reads the response's body.
    fn decode(version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError>;
}

/// The whole frame of a request: length, header (version 1, or 2 when the request is flexible) and body.
///
/// # Panics
///
/// When `version` is none that this client speaks: the caller chose it.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation: i32,
    client_id: Option<&str>,
) -> Vec<u8> {
    assert!(R::VERSIONS.contains(&version), "API {} has no version {version} here", R::KEY);
    let flexible = version >= R::FIRST_FLEXIBLE;
    let mut header = Writer::new(false);
    header.int32(0);
    header.int16(R::KEY);
    header.int16(version);
    header.int32(correlation);
    // The client id keeps its classic encoding even in the flexible header (KIP-482).
    header.nullable_string(client_id);
    let mut writer = Writer::appending(header.into_bytes(), flexible);
    writer.no_tagged_fields();
    request.encode(version, &mut writer);
    let mut frame = writer.into_bytes();
    let length = i32::try_from(frame.len() - 4).expect("a caller's request is below 2 GiB");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Reads what follows a response's correlation id: the rest of its header, and its body to the last byte.
pub fn decode_response<R: Request>(version: i16, bytes: &[u8]) -> Result<R::Response, DecodeError> {
    let flexible = version >= R::FIRST_FLEXIBLE;
    let mut reader = Reader::new(bytes, flexible);
    if R::FLEXIBLE_RESPONSE_HEADER {
        reader.skip_tagged_fields()?;
    }
    let response = R::decode(version, &mut reader)?;
    reader.finish()?;
    Ok(response)
}
