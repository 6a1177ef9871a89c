//! The APIs that this broker serves, from which ApiVersions' answer is computed.

use std::ops::RangeInclusive;

use super::{
    api_versions, create_topics, delete_topics, describe_cluster, describe_configs, fetch, find_coordinator,
    init_producer_id, list_offsets, metadata, offset_for_leader_epoch, produce,
};
use crate::wire::Encoding;
use crate::wire::api_versions::ApiVersion;

/// One API, as its own file declares it.
#[derive(Debug)]
pub struct Api {
    /// Its number on the wire.
    pub key: i16,
    /// Kafka's name for it.
    pub name: &'static str,
    /// The versions that ApiVersions lists. Below the least version served only where clients need to see that.
    pub advertised: RangeInclusive<i16>,
    /// The versions that are answered.
    pub served: RangeInclusive<i16>,
    /// The first flexible version.
    pub flexible_from: i16,
}

impl Api {
    /// How a version lays out its fields; the header's version follows from it.
    pub const fn encoding(&self, version: i16) -> Encoding {
        Encoding::of(version, self.flexible_from)
    }
}

/// Every API served, in the order of their keys.
pub const APIS: &[&Api] = &[
    &produce::API,
    &fetch::API,
    &list_offsets::API,
    &metadata::API,
    &find_coordinator::API,
    &api_versions::API,
    &create_topics::API,
    &delete_topics::API,
    &init_producer_id::API,
    &offset_for_leader_epoch::API,
    &describe_configs::API,
    &describe_cluster::API,
];

/// The API of this key, if it is served.
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().copied().find(|api| api.key == key)
}

/// What ApiVersions lists.
pub fn advertised() -> Vec<ApiVersion> {
    APIS.iter().map(|api| advertise(api)).collect()
}

/// How ApiVersions lists one API.
pub fn advertise(api: &Api) -> ApiVersion {
    ApiVersion { api_key: api.key, min_version: *api.advertised.start(), max_version: *api.advertised.end() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::guard::schemas;

    #[test]
    fn keys_are_in_order_and_unique() {
        assert!(APIS.is_sorted_by(|before, after| before.key < after.key));
    }

    #[test]
    fn what_is_served_is_advertised_up_to_the_same_version() {
        for api in APIS {
            assert!(api.advertised.start() <= api.served.start(), "{}", api.name);
            assert_eq!(api.advertised.end(), api.served.end(), "{}", api.name);
        }
    }

    #[test]
    fn the_guard_agrees_with_the_apis_it_guards() {
        let mut compared = 0;
        for api in APIS {
            let Some(schema) = schemas::ALL.iter().find(|schema| schema.api_key == api.key) else { continue };
            assert_eq!((schema.name, schema.flexible_from), (api.name, api.flexible_from));
            assert_eq!(schema.versions, api.served, "{}", api.name);
            compared += 1;
        }
        assert!(compared > 0, "nothing compared");
    }
}
