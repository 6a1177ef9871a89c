//! The simulated shard, seed by seed: promises kept under every fault, and every mutant found.

mod hostile;
mod mutants;
mod seeds;
