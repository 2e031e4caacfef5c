//! `thimble completions` and `thimble man`: what shells and `man` read about the command.

use super::Flags as Command;
use crate::failure::Failure;
use crate::terminal;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of the program.
const NAME: &str = "thimble";

/// `thimble completions`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// The shell whose script is printed
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// `thimble man`.
#[derive(Args, Debug)]
pub(crate) struct ManFlags {
    /// The folder for the pages, one for each command; it is created
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the script.
pub(crate) fn run(flags: &Flags, stdout: &mut dyn Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Command::command(), NAME, &mut script);
    Ok(stdout.write_all(&script)?)
}

/// Writes the pages, with a line on stderr.
pub(crate) fn write_pages(ManFlags { folder }: &ManFlags) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::io("create the folder", folder, error))?;
    let mut command = Command::command().disable_help_subcommand(true);
    command.build();
    let pages = page(&command, NAME, folder)?;
    terminal::note(&format!("wrote {pages} pages to {}", folder.display()));
    Ok(())
}

/// Writes the page of a command and those of the commands below; returns their number.
fn page(command: &clap::Command, name: &str, folder: &Path) -> Result<usize, Failure> {
    let path = folder.join(format!("{name}.1"));
    let titled = command.clone().display_name(name.to_string());
    let mut page = Vec::new();
    let rendered: io::Result<()> = clap_mangen::Man::new(titled).render(&mut page);
    rendered
        .and_then(|()| thimble_files::write(&path, &page))
        .map_err(|error| Failure::io("write", &path, error))?;
    let below = command.get_subcommands().filter(|command| !command.is_hide_set());
    below
        .map(|command| self::page(command, &format!("{name}-{}", command.get_name()), folder))
        .try_fold(1, |pages, more| Ok(pages + more?))
}
