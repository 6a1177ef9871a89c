//! What tests share.

use proptest::test_runner::{Config, RngSeed};

/// Property tests run the same cases every time; a failure is a fact about the code, not about the day.
pub(crate) fn seeded() -> Config {
    Config { rng_seed: RngSeed::Fixed(0x636f_7265_6c61_6e65), failure_persistence: None, ..Config::default() }
}
