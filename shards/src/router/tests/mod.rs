//! The router between real shards with real logs.

mod calls;
mod ends;
mod harness;
mod queue;
