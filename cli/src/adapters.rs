//! The adapters that a command runs a model with.

use crate::failure::Failure;
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thimble_files::{OpenError, OpenedAdapter};
use thimble_runtime::adapter::{AdapterError, AdapterFile, WeightedAdapter};
use thimble_runtime::format::ModelFile;

/// A path and a weight: `FILE` or `FILE:WEIGHT`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WeightedPath {
    pub(crate) path: PathBuf,
    pub(crate) weight: f32,
}

impl FromStr for WeightedPath {
    type Err = String;

    fn from_str(typed: &str) -> Result<WeightedPath, String> {
        // Anything but a number after the last colon belongs to the path, as in C:\x.adapter.
        let weighted = typed.rsplit_once(':').and_then(|(path, weight)| Some((path, weight.parse().ok()?)));
        let (path, weight): (&str, f32) = weighted.unwrap_or((typed, 1.0));
        if path.is_empty() {
            return Err("expected FILE or FILE:WEIGHT".to_string());
        }
        if !weight.is_finite() {
            return Err(format!("expected a finite weight after the colon, found {weight}"));
        }
        Ok(WeightedPath { path: PathBuf::from(path), weight })
    }
}

/// Adapters beside the model's own weights.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Adapters")]
pub(crate) struct AdapterFlags {
    /// Run the model with an adapter, a file that `thimble convert` made of a LoRA folder; WEIGHT scales what it changes, 1
    /// as trained [default: 1]. Several can be given
    #[arg(long, value_name = "FILE[:WEIGHT]")]
    adapter: Vec<WeightedPath>,
    /// Accept adapters that were trained on another model of the same shape
    #[arg(long, requires = "adapter")]
    any_base: bool,
}

impl AdapterFlags {
    /// The same with other adapters.
    pub(crate) fn with(&self, adapter: Vec<WeightedPath>) -> AdapterFlags {
        AdapterFlags { adapter, any_base: self.any_base }
    }

    /// The adapters as a user types them.
    pub(crate) fn typed(&self) -> Vec<String> {
        let typed = |WeightedPath { path, weight }: &WeightedPath| match *weight {
            1.0 => path.display().to_string(),
            weight => format!("{}:{weight}", path.display()),
        };
        self.adapter.iter().map(typed).collect()
    }

    /// The same as another process takes it.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for WeightedPath { path, weight } in &self.adapter {
            let mut value = path.clone().into_os_string();
            value.push(format!(":{weight}"));
            arguments.extend(["--adapter".into(), value]);
        }
        arguments.extend(self.any_base.then(|| "--any-base".into()));
        arguments
    }
}

/// Open adapters that fit a model.
#[derive(Default)]
pub(crate) struct Adapters {
    opened: Vec<(OpenedAdapter, f32)>,
}

impl Adapters {
    /// Opens the adapters of the flags for `base`.
    pub(crate) fn open(flags: &AdapterFlags, base: &ModelFile<'_>) -> Result<Adapters, Failure> {
        let mut opened = Vec::with_capacity(flags.adapter.len());
        for WeightedPath { path, weight } in &flags.adapter {
            let adapter = open(path)?;
            let file = view(&adapter)?;
            let fits = match flags.any_base {
                true => file.check_shape(base.config()),
                false => file.check_base(base),
            };
            fits.map_err(|error| misfit(path, error))?;
            opened.push((adapter, *weight));
        }
        Ok(Adapters { opened })
    }

    /// The adapters with their weights.
    pub(crate) fn weighted(&self) -> Result<Vec<WeightedAdapter<'_>>, Failure> {
        self.opened.iter().map(|(adapter, weight)| weighted(adapter, *weight)).collect()
    }

    /// The largest rank, which the memory of a session is planned for.
    pub(crate) fn rank(&self) -> Result<usize, Failure> {
        Ok(WeightedAdapter::largest_rank(&self.weighted()?))
    }
}

fn weighted(adapter: &OpenedAdapter, weight: f32) -> Result<WeightedAdapter<'_>, Failure> {
    Ok(WeightedAdapter { file: view(adapter)?, weight })
}

/// Reads an adapter file.
pub(crate) fn open(path: &Path) -> Result<OpenedAdapter, Failure> {
    OpenedAdapter::read(path).map_err(|error| match error {
        OpenError::Io { path, source } => Failure::Io { action: "open", path, source },
        other => Failure::other(other),
    })
}

/// The checked view of an adapter.
pub(crate) fn view(adapter: &OpenedAdapter) -> Result<AdapterFile<'_>, Failure> {
    adapter.file().map_err(|error| Failure::Other(format!("{}: {error}", adapter.path().display())))
}

/// Why an adapter cannot be used with a model, and what to do.
pub(crate) fn misfit(path: &Path, error: AdapterError) -> Failure {
    let remedy = match error {
        AdapterError::OtherBase { .. } => {
            ": use the model that it was trained on, or add --any-base to use it all the same"
        }
        AdapterError::Layers { .. } | AdapterError::Shape { .. } => ": use the model that it was trained on",
        _ => "",
    };
    Failure::Other(format!("{}: {error}{remedy}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::WeightedPath;
    use std::path::Path;

    #[test]
    fn a_weight_follows_the_last_colon() {
        let parse = |typed: &str| typed.parse::<WeightedPath>();
        for (typed, path, weight) in [
            ("x.adapter", "x.adapter", 1.0),
            ("x.adapter:0.5", "x.adapter", 0.5),
            ("a:b.adapter:-2", "a:b.adapter", -2.0),
            ("C:\\x.adapter", "C:\\x.adapter", 1.0),
        ] {
            let found = parse(typed).unwrap();
            assert_eq!((found.path.as_path(), found.weight), (Path::new(path), weight), "{typed}");
        }
        for typed in ["", ":1", "x:inf", "x:NaN"] {
            assert!(parse(typed).is_err(), "{typed}");
        }
    }
}
