//! What command-line tools share: text that is safe to print, tables, and the shutdown signal.
//!
//! Start with [`text`] for output and [`shutdown`] for Ctrl-C and SIGTERM.

pub mod shutdown;
pub mod text;
