//! `hot man`

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_mangen::Man;
use terminal::text::print;

const EXAMPLES: &str = "\
Examples:
  hot man | man -l -
  hot man --dir ~/.local/share/man/man1 && man hot-top";

/// Print the manual pages, or write them to a folder
///
/// There is a page for hot, hot(1), and one for each command, such as hot-top(1). Without a folder, all pages are printed
/// one after the other.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Write each page to its own file in this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs, program: Command) -> Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let version = format!("hot {}", program.get_version().unwrap_or_default());
    let commands: Vec<Command> = program.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    let pages = [program].into_iter().chain(commands).map(|command| Man::new(command).source(&version));
    match &args.dir {
        None => {
            let mut roff = Vec::new();
            for page in pages {
                page.render(&mut roff)?;
            }
            print(String::from_utf8(roff)?.trim_end())
        }
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("can't create the folder {}", folder.display()))?;
            for page in pages {
                let file = page.generate_to(folder);
                let file = file.with_context(|| format!("can't write a page to {}", folder.display()))?;
                print(&file.display().to_string())?;
            }
            Ok(())
        }
    }
}
