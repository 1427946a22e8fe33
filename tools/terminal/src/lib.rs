//! What command-line tools share: printing that is safe on a terminal, tables, and the shutdown signal.
//!
//! Start with [`text`] for output and [`shutdown`] for Ctrl-C and SIGTERM.

pub mod shutdown;
pub mod text;
