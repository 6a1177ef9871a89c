//! ApiVersions 0-5 by hand, because a generated codec that stops at 4 costs clients of Kafka 4.4 a second round trip.
//!
//! Versions: 3 is flexible and names the client's software (KIP-511), 4 may list features whose minimum is 0, 5 names
//! the cluster and node that the client means to reach (KIP-1242). The response's header is always version 0.

use bytes::Bytes;

use super::header::ResponseHeaderVersion;
use super::{Encoding, Error, Reader, Result, Writer, frame};

/// The first flexible version.
pub const FLEXIBLE_FROM: i16 = 3;
/// The versions that this codec reads and writes.
pub const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;

/// An ApiVersions request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request<'a> {
    /// The client's software, from version 3.
    pub software: Option<Software<'a>>,
    /// The cluster that the client means to reach, from version 5 and only if it knows.
    pub cluster_id: Option<&'a str>,
    /// The node that the client means to reach, -1 if it does not know. From version 5.
    pub node_id: i32,
}

/// What a client says it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Software<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
}

impl<'a> Request<'a> {
    /// Reads the request whose body begins at byte `body_at` of `frame`.
    pub fn parse(frame: &'a [u8], body_at: usize, version: i16) -> Result<Self> {
        if !VERSIONS.contains(&version) {
            return Err(Error::Version { what: "ApiVersions", version });
        }
        let mut request = Self { software: None, cluster_id: None, node_id: -1 };
        let mut reader = Reader::new(frame, body_at, Encoding::of(version, FLEXIBLE_FROM));
        if version >= 3 {
            let name = reader.string("client software name")?;
            let version = reader.string("client software version")?;
            request.software = Some(Software { name, version });
        }
        if version >= 5 {
            request.cluster_id = reader.nullable_string("cluster id")?;
            request.node_id = reader.i32("node id")?;
        }
        reader.skip_tags()?;
        Ok(request)
    }
}

impl Software<'_> {
    /// Whether name and version are what Kafka accepts: letters, digits, `-` and `.`, the ends letters or digits.
    pub fn is_valid(&self) -> bool {
        let valid = |text: &str| {
            let bytes = text.as_bytes();
            let ends = [bytes.first(), bytes.last()];
            ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
                && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        };
        valid(self.name) && valid(self.version)
    }
}

/// The versions of one API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApiVersion {
    /// The API.
    pub api_key: i16,
    /// The least version.
    pub min_version: i16,
    /// The greatest version.
    pub max_version: i16,
}

/// The levels of one feature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Feature<'a> {
    /// Its name.
    pub name: &'a str,
    /// The least level.
    pub min_version: i16,
    /// The greatest level.
    pub max_version: i16,
}

/// What an ApiVersions response says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Response<'a> {
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The APIs served.
    pub apis: &'a [ApiVersion],
    /// How long the client is throttled, in milliseconds. From version 1.
    pub throttle_time_ms: i32,
    /// The features that the broker can have. From version 3; those with minimum 0 from version 4.
    pub supported_features: &'a [Feature<'a>],
    /// The step at which the features were settled, -1 if they are not. From version 3.
    pub finalized_features_epoch: i64,
    /// The features that the cluster has. From version 3.
    pub finalized_features: &'a [Feature<'a>],
}

impl Response<'_> {
    /// The frame, with its length.
    pub fn encode(&self, version: i16, correlation_id: i32) -> Bytes {
        assert!(VERSIONS.contains(&version), "the request was parsed in this version, or downgraded to 0");
        let encoding = Encoding::of(version, FLEXIBLE_FROM);
        let mut writer = frame::begin(correlation_id, ResponseHeaderVersion::V0, encoding);
        writer.i16(self.error_code);
        writer.count(self.apis.len());
        for api in self.apis {
            writer.i16(api.api_key);
            writer.i16(api.min_version);
            writer.i16(api.max_version);
            writer.no_tags();
        }
        if version >= 1 {
            writer.i32(self.throttle_time_ms);
        }
        if encoding == Encoding::Flexible {
            self.write_tags(&mut writer, version);
        }
        frame::end(writer)
    }

    /// A tagged field is written only where it differs from its default.
    fn write_tags(&self, writer: &mut Writer, version: i16) {
        let listed = |feature: &&Feature<'_>| version >= 4 || feature.min_version != 0;
        let supported: Vec<_> = self.supported_features.iter().filter(listed).collect();
        let epoch = self.finalized_features_epoch;
        let finalized = self.finalized_features;
        let present = [!supported.is_empty(), epoch != -1, !finalized.is_empty()];
        writer.tag_count(present.into_iter().map(u32::from).sum());
        if !supported.is_empty() {
            writer.tag(0, |field| {
                field.count(supported.len());
                for feature in &supported {
                    write_feature(field, feature.name, feature.min_version, feature.max_version);
                }
            });
        }
        if epoch != -1 {
            writer.tag(1, |field| field.i64(epoch));
        }
        if !finalized.is_empty() {
            writer.tag(2, |field| {
                field.count(finalized.len());
                for feature in finalized {
                    write_feature(field, feature.name, feature.max_version, feature.min_version);
                }
            });
        }
    }
}

/// A supported feature has its least level first, a finalized one its greatest.
fn write_feature(writer: &mut Writer, name: &str, first: i16, second: i16) {
    writer.string(name);
    writer.i16(first);
    writer.i16(second);
    writer.no_tags();
}
