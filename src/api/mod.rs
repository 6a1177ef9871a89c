//! One file per Kafka API, and the registry that lists them.
//!
//! [`dispatch()`] finds the API of a frame, [`serve()`] answers it over an [`Engine`], the seam to the shards.
//!
//! An API's file is headed by its behaviour and version notes and declares its own [`Api`]; an API is listed in
//! [`registry::APIS`] only when it is served, and ApiVersions' answer is computed from that list. What Kafka does and
//! we do not is in `SKIPPED.md`.

pub mod api_versions;
mod bounds;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod dispatch;
pub mod engine;
pub mod errors;
pub mod fetch;
pub mod find_coordinator;
pub mod image_view;
pub mod init_producer_id;
pub mod list_offsets;
mod located;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod registry;
pub mod serve;
pub mod view;

pub use dispatch::{CloseReason, Dispatch, Request, dispatch};
pub use engine::Engine;
pub use errors::ErrorCode;
pub use registry::Api;
pub use serve::{Answer, Context, serve};

pub use crate::wire::fetch::response::Segment;
