//! The durable key space under the metadata image, and its embedded implementation.
//!
//! | module | what it holds |
//! |---|---|
//! | `contract` | the `MetadataStore` trait: what every implementation promises |
//! | `transaction` | keys, revisions, conditions and operations |
//! | `watch` | the ordered stream of committed changes |
//! | `error` | why a commit or a start was refused |
//! | `embedded` | the implementation over files of one directory |
//! | `recovery` | from files to the state they hold, or to an error naming file and offset |
//! | `inspect` | reading the files without opening the store |
//! | `layout` | every byte of those files (see `docs/formats/metadata.md`) |
//! | `bytes` | bounded little-endian reading and writing |
//! | `memory` | the state in memory: entries, recent history, watchers |
//! | `files` | the few file operations used, replaceable in tests |

mod bytes;
mod contract;
mod embedded;
mod error;
mod files;
mod inspect;
mod layout;
mod memory;
mod recovery;
mod transaction;
mod watch;

#[cfg(test)]
mod testing;

pub(in crate::cluster) use bytes::{Malformed, Reader, Writer};
pub use contract::MetadataStore;
pub use embedded::{EmbeddedStore, Options};
pub use error::{Damage, Error};
pub use files::{DirectoryFiles, Files, random_bytes};
pub use inspect::{FileKind, INSPECTED_BYTES_MAX, Piece, Pieces, inspect, read};
pub use transaction::{
    Change, Committed, Condition, Entry, Expected, Operation, Range, Revision, Transaction,
};
pub use watch::{Watch, WatchEnd};
