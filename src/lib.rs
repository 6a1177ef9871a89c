//! The broker.
pub mod wire;
