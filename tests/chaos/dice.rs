//! The random decisions of the harness.

use std::fmt::Display;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A stream of random numbers for one decision of the schedule `seed`.
///
/// Each decision has a name and its own stream (`cut 7 of partition 1`), so that it does not depend on the number of
/// decisions that concurrent parts of the schedule have made.
pub fn dice(seed: u64, decision: impl Display) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(decision.to_string().as_bytes(), seed))
}

/// True with a probability of `percent` in 100.
pub fn chance(dice: &mut ChaCha8Rng, percent: u32) -> bool {
    dice.random_range(0..100) < percent
}
