//! One seed from beginning to end.

use super::disk::Faults;
use super::oracle::{Compared, Violation};
use super::report::Hits;
use super::world::World;
use crate::core::Rules;

/// What a run of one seed gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was compared.
    pub compared: Compared,
    /// What was met.
    pub hits: Hits,
    /// What the disk did.
    pub faults: Faults,
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
