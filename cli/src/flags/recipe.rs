//! Which encoding each tensor gets: the flags that decide it, and the quantization recipe that they mean.

use crate::failure::Failure;
use crate::input;
use clap::Args;
use std::path::PathBuf;
use thimble_converter::{Quant, SizeTarget, Table};
use thimble_files::OutputFiles;

/// `--quant` and what refines it.
#[derive(Args, Clone, Debug)]
pub(crate) struct RecipeFlags {
    #[arg(long, value_name = "ENCODING", default_value = "keep", help = encodings(""))]
    quant: Quant,
    /// TOML file of encodings by tensor, which override --quant: [[tensor]] entries with pattern = "layers.*.down" and
    /// encoding = "q5nl"
    #[arg(long, value_name = "FILE.toml")]
    recipe: Option<PathBuf>,
    /// Calibrate on this text (`default` is a built-in one): round so that errors in the model's activations are compensated
    #[cfg_attr(not(feature = "calibrate"), doc = "(not in this build: requires the feature `calibrate`)")]
    #[arg(long, value_name = "TEXT|default")]
    calibrate: Option<PathBuf>,
    /// Choose encodings for the lowest divergence at an average of B bits per weight (weights only)
    #[cfg_attr(not(feature = "calibrate"), doc = "(not in this build: requires the feature `calibrate`)")]
    #[arg(long, value_name = "B", value_parser = bits, conflicts_with_all = ["recipe", "target_bytes"])]
    target_bits: Option<f64>,
    /// Choose encodings for the lowest divergence in a file of at most SIZE, such as 45MB or 43MiB
    #[cfg_attr(not(feature = "calibrate"), doc = "(not in this build: requires the feature `calibrate`)")]
    #[arg(long, value_name = "SIZE", value_parser = bytes, conflicts_with = "recipe")]
    target_bytes: Option<u64>,
    /// Save the measurements for --target-* in FILE and reuse them
    #[arg(long, value_name = "FILE.json")]
    sensitivities: Option<PathBuf>,
}

/// The help of `--quant`, which names every preset; `rest` follows.
pub(crate) fn encodings(rest: &str) -> String {
    format!("Encoding of the weights: {}{rest}", Quant::names())
}

/// What the flags mean, with their files read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QuantizationRecipe {
    /// The named encodings.
    pub(crate) quant: Quant,
    /// Encodings by tensor.
    pub(crate) table: Option<Table>,
    /// The text to calibrate on.
    pub(crate) calibration: Option<String>,
    /// The target size.
    pub(crate) target: Option<SizeTarget>,
    /// Where the measurements for it are saved.
    pub(crate) sensitivities: Option<PathBuf>,
    /// Adapters that are merged into the weights first.
    pub(crate) merge: Vec<(PathBuf, f32)>,
    /// Whether they may belong to another model of the same shape.
    pub(crate) any_base: bool,
}

impl From<Quant> for QuantizationRecipe {
    fn from(quant: Quant) -> QuantizationRecipe {
        QuantizationRecipe { quant, ..QuantizationRecipe::default() }
    }
}

impl RecipeFlags {
    /// Registers the files of the flags.
    pub(crate) fn register(&self, files: &mut OutputFiles) -> Result<(), Failure> {
        self.recipe.iter().for_each(|path| files.reads("--recipe", path));
        self.calibrate.iter().for_each(|path| files.reads("--calibrate", path));
        self.sensitivities.as_ref().map_or(Ok(()), |path| files.writes("--sensitivities", path).map(drop))?;
        Ok(())
    }

    /// Refuses what this build lacks.
    fn check_features(&self) -> Result<(), Failure> {
        let asked = [
            ("--calibrate", self.calibrate.is_some()),
            ("--target-bits", self.target_bits.is_some()),
            ("--target-bytes", self.target_bytes.is_some()),
        ];
        match asked.into_iter().find(|(_, asked)| *asked && cfg!(not(feature = "calibrate"))) {
            Some((what, _)) => Err(Failure::NotBuilt { what, feature: "calibrate" }),
            None => Ok(()),
        }
    }

    /// Reads the files of the flags; refuses contradictions before a model is opened.
    pub(crate) fn resolve(self) -> Result<QuantizationRecipe, Failure> {
        let quant = self.quant;
        self.check_features()?;
        let table = match &self.recipe {
            None => None,
            Some(path) => {
                let table = Table::parse(&input::file(path)?, &path.display().to_string());
                Some(table.map_err(|error| Failure::Usage(error.to_string()))?)
            }
        };
        let calibration = match &self.calibrate {
            None => None,
            #[cfg(feature = "calibrate")]
            Some(path) if path.as_os_str() == "default" => {
                Some(thimble_converter::calibrate::default_text().to_owned())
            }
            Some(path) => Some(input::file(path)?),
        };
        let target = match (self.target_bits, self.target_bytes) {
            (Some(bits), _) => Some(SizeTarget::Bits(bits)),
            (None, Some(bytes)) => Some(SizeTarget::Bytes(bytes)),
            (None, None) if self.sensitivities.is_some() => {
                let reason =
                    "--sensitivities requires --target-bits or --target-bytes: nothing else is measured";
                return Err(Failure::Usage(reason.to_owned()));
            }
            (None, None) => None,
        };
        if target.is_some() && quant != Quant::default() {
            let reason = "--quant: --target-bits and --target-bytes choose the encodings themselves; leave out --quant or the target";
            return Err(Failure::Usage(reason.to_owned()));
        }
        let sensitivities = self.sensitivities;
        let (merge, any_base) = (Vec::new(), false);
        Ok(QuantizationRecipe { quant, table, calibration, target, sensitivities, merge, any_base })
    }
}

fn bits(text: &str) -> Result<f64, String> {
    let bits = text.parse().ok().filter(|bits: &f64| bits.is_finite() && *bits > 0.0);
    bits.ok_or_else(|| "expected a number above 0".to_owned())
}

/// A number of bytes, with or without a unit.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "expected a size such as 45MB, 43MiB or 47185920".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * factor;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("45MB", 45_000_000),
            ("1.5 MiB", 1_572_864),
            ("2gb", 2_000_000_000),
            ("12345", 12_345),
            ("3KiB", 3072),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for text in ["", "MB", "-4MB", "4 elephants", "1.2.3MB", "0", "1e9GB", "99999999999999999999"] {
            assert!(bytes(text).unwrap_err().contains("45MB"), "{text}");
        }
    }

    /// The meaning of the flags, or the error's text.
    fn resolve(arguments: &[&str]) -> Result<QuantizationRecipe, String> {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            recipe: RecipeFlags,
        }
        let all = ["convert"].iter().chain(arguments);
        let flags = <Only as clap::Parser>::try_parse_from(all).map_err(|error| error.to_string())?;
        flags.recipe.resolve().map_err(|failure| failure.to_string())
    }

    #[test]
    #[cfg(not(feature = "calibrate"))]
    fn a_missing_feature_is_named() {
        for arguments in [["--calibrate", "default"], ["--target-bits", "4"], ["--target-bytes", "4MB"]] {
            let error = resolve(&arguments).unwrap_err();
            assert!(error.contains("--features calibrate"), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "calibrate")]
    fn contradictions_are_refused_before_anything_is_read() {
        let refused = |arguments: &[&str]| resolve(arguments).unwrap_err();
        assert!(refused(&["--quant", "q9"]).contains("q6"));
        assert!(refused(&["--target-bits", "0"]).contains("above 0"));
        assert!(refused(&["--target-bytes", "much"]).contains("45MB"));
        assert!(refused(&["--target-bits", "4", "--quant", "q4"]).contains("themselves"));
        assert!(refused(&["--sensitivities", "s.json"]).contains("--target-bits"));
        assert!(refused(&["--recipe", "no/such.toml"]).contains("no/such.toml"));
        assert!(refused(&["--calibrate", "no/such.txt"]).contains("no/such.txt"));
        let recipe = resolve(&["--quant", "q5", "--calibrate", "default"]).unwrap();
        assert!(recipe.quant == Quant::Q5 && recipe.calibration.is_some_and(|text| text.len() > 100_000));
    }
}
