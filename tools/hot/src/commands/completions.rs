//! `hot completions`

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::{Generator, Shell};
use terminal::text::print;

const EXAMPLES: &str = "\
Examples, for bash, and for zsh with a folder in its fpath:
  hot completions bash > ~/.local/share/bash-completion/completions/hot
  hot completions zsh > ~/.zfunc/_hot";

/// Print a script that completes the commands and options of hot in a shell
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, mut program: Command) -> Result<()> {
    program.set_bin_name("hot");
    program.build();
    let mut script = Vec::new();
    args.shell.try_generate(&program, &mut script)?;
    print(String::from_utf8(script)?.trim_end())
}
