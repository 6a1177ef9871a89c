//! From a frame to the API that answers it, or to the end of its connection.
//!
//! As Kafka does it: a frame whose header cannot be read, whose API is unknown or not served, or whose version is not
//! served gets no answer, the connection is closed. ApiVersions alone is answered in any version, so that a newer
//! client learns what it may speak. Nothing of a body is read here.

use bytes::Bytes;
use kafka_protocol::protocol::Encodable;

use super::registry::{self, Api};
use super::{ErrorCode, api_versions};
use crate::wire;
use crate::wire::generated;
use crate::wire::header::{Preamble, RequestHeader, RequestHeaderVersion};

/// What becomes of a frame.
#[derive(Debug)]
pub enum Dispatch<'a> {
    /// Its API serves it.
    Serve(Request<'a>),
    /// This is the answer already, a whole frame.
    Answer(Bytes),
    /// No answer: the connection is closed.
    Close(CloseReason),
}

/// A request whose API and version are served; its body is unread.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The API.
    pub api: &'static Api,
    /// The header.
    pub header: RequestHeader<'a>,
    /// The whole frame, without its length.
    pub frame: &'a [u8],
}

impl Request<'_> {
    /// The version asked for, which is served.
    pub fn version(&self) -> i16 {
        self.header.preamble.api_version
    }

    /// What the response repeats.
    pub fn correlation_id(&self) -> i32 {
        self.header.preamble.correlation_id
    }

    /// Reads the body by the generated codec, behind its guard.
    pub(super) fn decode<R: generated::Guarded>(&self) -> Result<R, CloseReason> {
        Ok(generated::decode(self.frame, self.header.body_at, self.version())?)
    }

    /// The frame of a response by the generated codec.
    pub(super) fn encode<R: Encodable>(&self, response: &R) -> Result<Bytes, CloseReason> {
        let (version, encoding) = (self.version(), self.api.encoding(self.version()));
        generated::encode(response, self.api.name, version, encoding, self.correlation_id())
            .map_err(|_| CloseReason::Unanswerable)
    }
}

/// Why a connection is closed without an answer, for one line of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CloseReason {
    /// The request cannot be read.
    #[error("the request cannot be read: {0}")]
    Malformed(#[from] wire::Error),
    /// No API of this number is served.
    #[error("API {api_key} (version {api_version}) is not served")]
    UnknownApi {
        /// The number.
        api_key: i16,
        /// The version asked for.
        api_version: i16,
    },
    /// The API is served, but not in this version.
    #[error("{name} is served in versions {least} to {greatest}, not {api_version}", least = served.0, greatest = served.1)]
    UnsupportedVersion {
        /// The API's name.
        name: &'static str,
        /// The least and the greatest version served.
        served: (i16, i16),
        /// The version asked for.
        api_version: i16,
    },
    /// What the broker knows does not fit the version asked for.
    #[error("the response cannot be written in the version asked for")]
    Unanswerable,
    /// A Produce request that wants no answer failed; only a closed connection can tell its client.
    #[error("a Produce request with acks=0 failed with {name}", name = .0.name())]
    Unacknowledged(ErrorCode),
}

/// Finds what serves a frame, given without its length.
pub fn dispatch(frame: &[u8]) -> Dispatch<'_> {
    match route(frame) {
        Ok(dispatch) => dispatch,
        Err(reason) => Dispatch::Close(reason),
    }
}

fn route(frame: &[u8]) -> Result<Dispatch<'_>, CloseReason> {
    let Preamble { api_key, api_version, .. } = Preamble::read(frame)?;
    let api = registry::find(api_key).ok_or(CloseReason::UnknownApi { api_key, api_version })?;
    let header = RequestHeader::read(frame, RequestHeaderVersion::of(api.encoding(api_version)))?;
    if api.served.contains(&api_version) {
        return Ok(Dispatch::Serve(Request { api, header, frame }));
    }
    if api_key == api_versions::API.key {
        return Ok(Dispatch::Answer(api_versions::unsupported(header.preamble.correlation_id)));
    }
    let served = (*api.served.start(), *api.served.end());
    Err(CloseReason::UnsupportedVersion { name: api.name, served, api_version })
}
