//! The typed picture of the metadata: immutable, replaced as a whole, shared by all shards.
//!
//! | module | what it holds |
//! |---|---|
//! | `ids` | cluster and node identities, and how topic ids are drawn |
//! | `topic_name` | Kafka's rules for topic names |
//! | `values` | what stands behind each kind of key |
//! | `layout` | the bytes of keys and values (see `docs/formats/metadata.md`) |
//! | `snapshot` | `MetadataImage` itself: built from a range, advanced by commits, looked up |
//! | `describe` | a key's value in words |
//! | `changes` | each change to the metadata as a transaction against an image |
//! | `publish` | how images reach other threads |
//! | `service` | a store, its image and the changes to it, for the control thread |

mod changes;
mod describe;
mod ids;
mod layout;
mod publish;
mod service;
mod snapshot;
mod topic_name;
mod values;

#[cfg(test)]
mod tests;

pub use changes::{ChangeRefused, NewTopic};
pub use describe::describe;
pub use ids::{ClusterId, NodeId, is_reserved_topic_id, random_topic_id, uuid_text};
pub use publish::{ImagePublisher, ImageSubscription, publication};
pub use service::{ChangeError, Follower, Metadata, MetadataError};
pub use snapshot::{ImageError, MetadataImage};
pub use topic_name::{
    CLUSTER_METADATA_TOPIC, NameError, TOPIC_NAME_BYTES_MAX, is_internal_topic, validate_topic_name,
};
pub use values::{Broker, Endpoint, Topic, TopicState};
