//! What the end-to-end tests share. They run the real binaries over a real DynamoDB API; nothing here stands in for a
//! part of the product, and [`group_by`] knows nothing of it.

use std::{env, path::PathBuf};

pub mod group_by;
pub mod http;
pub mod parts;
pub mod process;

/// A binary of this workspace, built by `cargo build --workspace` into the profile that the test runs from.
///
/// # Panics
/// When it is not there.
pub fn binary(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let binary = profile.join(name);
    assert!(binary.is_file(), "{} is missing: run the tests by `make test`, which builds it", binary.display());
    binary
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// The code for apps in the documentation compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/reading.md")]
struct Reading;
