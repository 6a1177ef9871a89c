//! Requests and responses, one file per API, each as one structure over all versions that it speaks: a field that a
//! version lacks is not written, and holds its protocol default when read.

pub mod api_versions;
pub mod create_topics;
pub mod delete_topics;
pub mod fetch;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;
mod request;
#[cfg(test)]
mod tests;

pub use request::{Request, decode_response, encode_request};
