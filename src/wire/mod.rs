//! Kafka's bytes: frames, headers, the codecs written by hand, and the guard in front of the generated ones.
//!
//! A leaf: nothing here knows a topic, a partition's state, an engine or a clock. Everything read comes from a
//! peer, so every length is checked against the bytes that are there before it is believed, and every fault is an
//! [`Error`] that names the field and its place; nothing here panics on input.

pub mod api_versions;
pub mod error;
pub mod fetch;
pub mod frame;
pub mod generated;
pub mod guard;
pub mod header;
pub mod leader;
pub mod produce;
pub mod reader;
pub mod uuid;
pub mod writer;

pub use error::{Error, Result};
pub use reader::{Encoding, Reader};
pub use uuid::Uuid;
pub use writer::Writer;
