//! The commands that tell of the program itself: completions and manual pages.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::{Generator, Shell};
use clap_mangen::Man as Page;

use terminal::text::print;

/// Print a script that completes hot's commands and options in a shell
///
/// For example, for a login shell of bash, and for zsh with a folder that is in its fpath:
///
///     hot completions bash > ~/.local/share/bash-completion/completions/hot
///     hot completions zsh > ~/.zfunc/_hot
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Print the manual pages, or write them to a folder
///
/// One page for hot, hot(1), and one for each of its commands, such as hot-top(1). Without a folder, all are printed
/// one after the other:
///
///     hot man | man -l -
///     hot man --dir ~/.local/share/man/man1 && man hot-top
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Man {
    /// Write each page to a file of its own in this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &Completions, mut program: Command) -> Result<()> {
    program.set_bin_name("hot");
    program.build();
    let mut script = Vec::new();
    args.shell.try_generate(&program, &mut script)?;
    print(String::from_utf8(script)?.trim_end())
}

pub(crate) fn man(args: &Man, program: Command) -> Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let version = format!("hot {}", program.get_version().unwrap_or_default());
    let commands = program.get_subcommands().cloned().collect::<Vec<_>>();
    let pages = [program].into_iter().chain(commands).map(|command| Page::new(command).source(&version));
    match &args.dir {
        None => {
            let mut roff = Vec::new();
            for page in pages {
                page.render(&mut roff)?;
            }
            print(String::from_utf8(roff)?.trim_end())
        }
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
            for page in pages {
                let file = page.generate_to(folder);
                let file = file.with_context(|| format!("can't write a page to {}", folder.display()))?;
                print(&file.display().to_string())?;
            }
            Ok(())
        }
    }
}
