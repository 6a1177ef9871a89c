//! Request and response headers.
//!
//! Which header a request carries follows from its API and version, so the first eight bytes are read before the
//! rest ([`Preamble`]). ApiVersions is the one exception among responses: its header never grew, because a client
//! reads it before it knows what the broker speaks.

use super::{Encoding, Reader, Result};

/// The header of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestHeaderVersion {
    /// With the client's name.
    V1,
    /// With tagged fields; requests of flexible versions carry it.
    V2,
}

/// The header of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseHeaderVersion {
    /// The correlation id alone.
    V0,
    /// With tagged fields; responses of flexible versions carry it, except ApiVersions.
    V1,
}

impl RequestHeaderVersion {
    /// The header of requests in `encoding`.
    pub const fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Classic => Self::V1,
            Encoding::Flexible => Self::V2,
        }
    }
}

impl ResponseHeaderVersion {
    /// The header of responses in `encoding`, but for ApiVersions, whose header is always [`Self::V0`].
    pub const fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Classic => Self::V0,
            Encoding::Flexible => Self::V1,
        }
    }
}

/// What every request begins with, whatever follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Preamble {
    /// Which API.
    pub api_key: i16,
    /// Which version of it.
    pub api_version: i16,
    /// What the response repeats.
    pub correlation_id: i32,
}

impl Preamble {
    /// Reads the first eight bytes of a frame.
    pub fn read(frame: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(frame, 0, Encoding::Classic);
        Ok(Self {
            api_key: reader.i16("api key")?,
            api_version: reader.i16("api version")?,
            correlation_id: reader.i32("correlation id")?,
        })
    }
}

/// A request's header, and where its body begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestHeader<'a> {
    /// API, version and correlation id.
    pub preamble: Preamble,
    /// The client's name for itself.
    pub client_id: Option<&'a str>,
    /// The byte of the frame at which the body begins.
    pub body_at: usize,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of a frame. The client's name has a classic length in both versions.
    pub fn read(frame: &'a [u8], version: RequestHeaderVersion) -> Result<Self> {
        let preamble = Preamble::read(frame)?;
        let mut reader = Reader::new(frame, 8, Encoding::Classic);
        let client_id = reader.nullable_string("client id")?;
        let mut body_at = reader.position();
        if version == RequestHeaderVersion::V2 {
            let mut tags = Reader::new(frame, body_at, Encoding::Flexible);
            tags.skip_tags()?;
            body_at = tags.position();
        }
        Ok(Self { preamble, client_id, body_at })
    }
}
