//! Fuzz targets over everything that reads a peer's or a disk's bytes: each is an ordinary function of the bytes, which
//! panics where an invariant does not hold.
//!
//! | module | target | reads |
//! |---|---|---|
//! | `frame` | [`frame()`] | what a connection receives, through to the answers of every API |
//! | `batch` | [`batch()`] | record batches and the records in them |
//! | `decompress` | [`decompress()`] | the bodies of compressed batches |
//! | `journal` | [`journal()`] | journal groups and their entries |
//! | `recovery` | [`recovery()`] | a whole directory: manifest, journal, staging memory, segments |
//! | `files` | [`files()`] | root, manifest and format file |
//! | `index` | [`index()`] | the index files of a segment |
//! | `metadata` | [`metadata()`] | the metadata store's files, and the image made of them |
//! | `targets` | [`ALL`] | all of them by name |
//! | `seeds` | [`seeds()`] | what their corpus begins with |
//! | `disk`, `input` | | a disk in memory; taking an input apart |
//!
//! Where a checksum would keep an input from being read any further, the target also computes the right one over the
//! bytes that it is given: damage that a checksum finds is not what is looked for. The targets know no fuzzer; the
//! programs in `fuzz_targets` hand them to libFuzzer, and `tests/fuzz` of the workspace, which compiles this module as
//! its own, replays the corpus on a stable toolchain.

mod batch;
mod decompress;
mod disk;
mod files;
mod frame;
mod index;
mod input;
mod journal;
mod metadata;
mod recovery;
mod seeds;
mod targets;

pub use batch::batch;
pub use decompress::decompress;
pub use files::files;
pub use frame::frame;
pub use index::index;
pub use journal::journal;
pub use metadata::metadata;
pub use recovery::recovery;
pub use seeds::{Seed, seeds};
pub use targets::{ALL, Target};
