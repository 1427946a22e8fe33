//! Shared code of the end-to-end tests. They run the real binaries with a real DynamoDB API, without mocks. [`group_by`] is
//! independent of the product's code.

use std::{env, path::PathBuf};

pub mod group_by;
pub mod http;
pub mod parts;
pub mod process;

/// A binary of this workspace, built by `cargo build --workspace` into the profile that the test runs from.
///
/// # Panics
/// If it does not exist.
pub fn binary(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests are in target/<profile>/deps");
    let binary = profile.join(name);
    assert!(binary.is_file(), "{} is missing: run the tests with `make test`, which builds it", binary.display());
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
