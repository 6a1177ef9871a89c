//! The seeded simulator: the core of one or more shards over a disk that tears, drops, delays and fails, with clients that
//! remember what they were promised. Never part of a build that serves.
//!
//! | module | holds |
//! |---|---|
//! | [`world`] | [`World`]: one broker and what happens to it, step by step |
//! | [`disk`] | [`SimDisk`](disk::SimDisk): sectors with a volatile cache |
//! | `directory` | the disk as recovery sees it |
//! | [`oracle`] | what was promised, and the comparison |
//! | `profile`, [`random`] | what a seed makes of a world |
//! | [`report`] | how often each branch was met |
//!
//! It cannot find: wrong use of the kernel (the ring, flags, alignment), memory ordering between threads, bugs of the file
//! system, and stalls that time alone would show. The tests on real disks are there for these.

pub(crate) mod directory;
pub mod disk;
pub mod oracle;
mod profile;
pub mod random;
pub mod report;
pub mod world;

use crate::core::Rules;
pub use oracle::{Compared, Violation};
pub use report::Hits;
pub use world::{Answers, World, open_changed};

/// What a run of one seed gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was compared.
    pub compared: Compared,
    /// What was met.
    pub hits: Hits,
    /// What the disk did.
    pub faults: disk::Faults,
    /// Equal for two runs of the same seed.
    pub fingerprint: u64,
}

/// Runs a seed for so many steps and to its end; `trace` learns of each step what happened and where that left the world.
pub fn run(
    seed: u64,
    steps: usize,
    rules: &Rules,
    mut trace: impl FnMut(&str, &World),
) -> Result<Outcome, Violation> {
    let mut world = World::new(seed, rules.clone())?;
    for _ in 0..steps {
        let event = world.step()?;
        trace(event, &world);
    }
    let compared = world.finish()?;
    Ok(Outcome {
        compared,
        hits: world.hits.clone(),
        faults: world.faults(),
        fingerprint: world.fingerprint(),
    })
}
