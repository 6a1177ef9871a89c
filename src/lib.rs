//! The broker.

pub mod cluster;
