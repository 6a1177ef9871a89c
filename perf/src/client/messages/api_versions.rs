//! ApiVersions (key 18), versions 0 to 4: which APIs the broker speaks, and how.
//!
//! Version 1 adds the throttle time; 3 is flexible and names the client's software; 4 allows features whose minimum is 0.
//! A broker that does not speak the version asked answers error 35 in version 0's format: read such an answer with
//! [`Request::decode`] at version 0.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, Writer};

/// The request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersionsRequest {
    /// The client's name (version 3 on).
    pub client_software_name: String,
    /// The client's version (version 3 on).
    pub client_software_version: String,
}

impl Default for ApiVersionsRequest {
    fn default() -> Self {
        Self {
            client_software_name: "corelane-perf".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// 0, or the error.
    pub error_code: i16,
    /// The APIs served.
    pub api_keys: Vec<ApiVersion>,
    /// Milliseconds for which the request was throttled (version 1 on).
    pub throttle_time_ms: i32,
    /// Features and the versions supported (version 3 on).
    pub supported_features: Vec<FeatureVersions>,
    /// Epoch of the finalized features, -1 when unknown (version 3 on).
    pub finalized_features_epoch: i64,
    /// Features and the version levels in force (version 3 on).
    pub finalized_features: Vec<FeatureVersions>,
}

/// One API's versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiVersion {
    /// The API's key.
    pub api_key: i16,
    /// The lowest version served.
    pub min_version: i16,
    /// The highest version served.
    pub max_version: i16,
}

/// A feature's name with a range of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureVersions {
    /// The feature's name.
    pub name: String,
    /// The lowest version.
    pub min_version: i16,
    /// The highest version.
    pub max_version: i16,
}

impl ApiVersionsResponse {
    /// The versions served of one API.
    pub fn versions_of(&self, api_key: i16) -> Option<RangeInclusive<i16>> {
        self.api_keys.iter().find(|api| api.api_key == api_key).map(|api| api.min_version..=api.max_version)
    }
}

impl Request for ApiVersionsRequest {
    const KEY: i16 = 18;
    const VERSIONS: RangeInclusive<i16> = 0..=4;
    const FIRST_FLEXIBLE: i16 = 3;
    const FLEXIBLE_RESPONSE_HEADER: bool = false;
    type Response = ApiVersionsResponse;

    fn encode(&self, version: i16, writer: &mut Writer) {
        if version >= 3 {
            writer.string(&self.client_software_name);
            writer.string(&self.client_software_version);
        }
        writer.no_tagged_fields();
    }

    fn decode(version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let mut response = ApiVersionsResponse {
            error_code: reader.int16()?,
            api_keys: reader.array(api_version)?,
            finalized_features_epoch: -1,
            ..Default::default()
        };
        if version >= 1 {
            response.throttle_time_ms = reader.int32()?;
        }
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => response.supported_features = field.array(feature)?,
                1 => response.finalized_features_epoch = field.int64()?,
                // On the wire a finalized feature's highest level precedes its lowest.
                2 => {
                    response.finalized_features = field.array(feature)?;
                    for one in &mut response.finalized_features {
                        std::mem::swap(&mut one.min_version, &mut one.max_version);
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(response)
    }
}

fn api_version(reader: &mut Reader<'_>) -> Result<ApiVersion, DecodeError> {
    let api =
        ApiVersion { api_key: reader.int16()?, min_version: reader.int16()?, max_version: reader.int16()? };
    reader.skip_tagged_fields()?;
    Ok(api)
}

fn feature(reader: &mut Reader<'_>) -> Result<FeatureVersions, DecodeError> {
    let feature = FeatureVersions {
        name: reader.string()?,
        min_version: reader.int16()?,
        max_version: reader.int16()?,
    };
    reader.skip_tagged_fields()?;
    Ok(feature)
}
