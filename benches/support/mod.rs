//! What more than one bench needs.
//!
//! | module | holds |
//! |---|---|
//! | `batches` | record batches of given sizes |
//! | `heart` | a shard's core, and whoever carries out what it asks for |

pub(crate) mod batches;
pub(crate) mod heart;
