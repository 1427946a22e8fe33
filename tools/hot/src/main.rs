//! The program `hot`, the command line of hot products.
//!
//! Start reading in `cli`, which lists the commands; each has a file of its own in `commands`. What they print for people
//! is in `show`.

mod arguments;
#[cfg(feature = "kafka")]
mod audit;
mod aws;
mod cli;
mod commands;
mod doctor;
mod load;
mod parse;
mod progress;
mod rejected;
mod show;
mod status;

use std::{io, process::ExitCode};

use clap::Parser;
use terminal::text::{complain, set_program};

use crate::{cli::Cli, commands::doctor::NotAllChecked};

/// The exit code of `hot doctor` if nothing is wrong, but not everything could be checked. Clap uses 2.
const NOT_ALL_CHECKED: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    set_program("hot");
    match Cli::parse().command.run().await {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has closed the pipe, as in `hot generate … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{error:#}"));
            if error.is::<NotAllChecked>() { ExitCode::from(NOT_ALL_CHECKED) } else { ExitCode::FAILURE }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
