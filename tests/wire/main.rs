//! The wire codecs against frames captured from real clients and a real broker, and against hostile bytes.

mod dispatching;
mod frames;
mod guarding;
mod hostile;
mod metadata;
mod requests;
mod responses;
