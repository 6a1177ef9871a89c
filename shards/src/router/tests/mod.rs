//! The router between real shards with real logs, and between shards of one thread with logs in memory that move.

mod calls;
mod ends;
mod harness;
mod library;
mod moves;
mod queue;
mod sockets;
