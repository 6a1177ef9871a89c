//! The wire codecs and the handlers against frames captured from real clients and a real broker, and against hostile bytes.

mod administering;
mod asking;
mod captured;
mod dispatching;
mod fake;
mod fetching;
mod frames;
mod guarding;
mod hostile;
mod metadata;
mod producing;
mod requests;
mod responses;
