//! One file per Kafka API, and the registry that lists them.
//!
//! An API's file is headed by its behaviour and version notes and declares its own [`Api`]; an API is listed in
//! [`registry::APIS`] only when it is served, and ApiVersions' answer is computed from that list. What Kafka does and
//! we do not is in `SKIPPED.md`.

pub mod api_versions;
pub mod describe_cluster;
pub mod dispatch;
pub mod errors;
pub mod metadata;
pub mod registry;
pub mod topic_name;
pub mod view;

pub use dispatch::{CloseReason, Dispatch, Request, dispatch};
pub use errors::ErrorCode;
pub use registry::Api;
