//! The network over real loopback sockets.

mod bounds;
mod frames;
mod harness;
mod lifecycle;
mod times;
