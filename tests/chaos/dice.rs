//! Where every decision of the harness comes from.

use std::fmt::Display;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A stream of random numbers for one decision of the schedule `seed`.
///
/// Each decision has a name and dice of its own (`cut of source 1, delivery 7`), instead of the next number of one
/// stream for all: what one part decides does not depend on how often another one, running beside it, has asked.
pub fn dice(seed: u64, decision: impl Display) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(decision.to_string().as_bytes(), seed))
}

/// True in `percent` of 100 throws.
pub fn chance(dice: &mut ChaCha8Rng, percent: u32) -> bool {
    dice.random_range(0..100) < percent
}
