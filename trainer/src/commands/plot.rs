//! `thimble-train plot`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::report::plot::{self, PlotOptions, XAxis};

/// Draw loss, learning rate and gradient norm of one or several runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Run folders that `pretrain` wrote, or their metrics.jsonl
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The picture to write, an .svg
    #[arg(short, long, value_name = "FILE", default_value = "plot.svg")]
    output: PathBuf,
    /// Title [default: the run's name, if it is one run]
    #[arg(long)]
    title: Option<String>,
    /// Smooth loss and gradient norm over N steps; 1 turns it off [default: a fiftieth of the longest run]
    #[arg(long, value_name = "N")]
    smooth: Option<NonZeroUsize>,
    /// What the x axis counts
    #[arg(long, value_enum, default_value = "steps")]
    x: XAxis,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        check_is_svg(&self.output)?;
        let options =
            PlotOptions { title: self.title, smooth: self.smooth.map(NonZeroUsize::get), x_axis: self.x };
        plot::write(&plot::read(&self.runs)?, &options, &self.output)?;
        eprintln!("wrote {}", self.output.display());
        Ok(())
    }
}

/// A bitmap would need a font; SVG leaves that to the viewer.
fn check_is_svg(output: &Path) -> Result<()> {
    let extension = output.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("svg") => Ok(()),
        Some("png") => Err(Error::Usage(format!(
            "{}: plot writes SVG, not PNG; give -o {} (any browser shows it, and `rsvg-convert` or Inkscape make a PNG \
             of it)",
            output.display(),
            output.with_extension("svg").display()
        ))),
        _ => Err(Error::Usage(format!("{}: expected a file name that ends in .svg", output.display()))),
    }
}
