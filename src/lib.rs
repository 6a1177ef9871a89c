//! The broker.

pub mod admin;
pub mod cluster;
