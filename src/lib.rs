//! The broker.
pub mod api;
pub mod wire;
