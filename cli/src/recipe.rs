//! Which encoding each tensor gets: the flags of `thimble convert` that say so, and what they mean.

use crate::failure::Failure;
use crate::input;
use clap::Args;
use std::path::PathBuf;
use thimble_converter::{ConvertError, Quant, SizeTarget, Table};
use thimble_files::OutputFiles;

/// `--quant` and what refines it.
#[derive(Args, Clone, Debug)]
pub(crate) struct RecipeFlags {
    /// Encoding of the weights: keep, f32, f16, bf16, q8, q6, q5, q4, q4even, q4min, q3
    #[arg(long, value_name = "ENCODING", default_value = "keep")]
    pub(crate) quant: String,
    /// A TOML table of encodings by tensor, before those of --quant, with entries like pattern = "layers.*.down",
    /// encoding = "q5nl" (converter/RECIPES.md)
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) recipe: Option<PathBuf>,
    /// Round with error compensation for the activations on this text; `default` is a text that comes with the program
    #[cfg_attr(not(feature = "calibrate"), doc = "(not in this program: feature `calibrate`)")]
    #[arg(long, value_name = "TEXT|default")]
    pub(crate) calibrate: Option<PathBuf>,
    /// Choose encodings for the fewest losses at B bits per weight, the file's other parts not counted
    #[cfg_attr(not(feature = "calibrate"), doc = "(not in this program: feature `calibrate`)")]
    #[arg(long, value_name = "B", conflicts_with_all = ["recipe", "target_bytes"])]
    pub(crate) target_bits: Option<f64>,
    /// Choose encodings for the fewest losses in a file of at most so many bytes, for example 45MB or 43MiB
    #[cfg_attr(not(feature = "calibrate"), doc = "(not in this program: feature `calibrate`)")]
    #[arg(long, value_name = "SIZE", conflicts_with = "recipe")]
    pub(crate) target_bytes: Option<String>,
    /// Keep what is measured for a target in FILE, and use it again: other targets then need no second measurement
    #[arg(long, value_name = "FILE.json")]
    pub(crate) sensitivities: Option<PathBuf>,
}

/// What the flags ask for, its files read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QuantizationRecipe {
    /// Encodings by name.
    pub(crate) quant: Quant,
    /// Encodings by tensor.
    pub(crate) table: Option<Table>,
    /// The text to calibrate on.
    pub(crate) calibration: Option<String>,
    /// The size to reach.
    pub(crate) target: Option<SizeTarget>,
    /// Where what is measured for it is kept.
    pub(crate) sensitivities: Option<PathBuf>,
}

impl From<Quant> for QuantizationRecipe {
    fn from(quant: Quant) -> QuantizationRecipe {
        QuantizationRecipe { quant, ..QuantizationRecipe::default() }
    }
}

/// The recipe of this name.
pub(crate) fn quant(name: &str) -> Result<Quant, Failure> {
    name.parse().map_err(|error: ConvertError| Failure::Usage(format!("--quant: {error}")))
}

impl RecipeFlags {
    /// Names the files of the flags.
    pub(crate) fn files(&self, files: &mut OutputFiles) -> Result<(), Failure> {
        self.recipe.iter().for_each(|path| files.reads("--recipe", path));
        self.calibrate.iter().for_each(|path| files.reads("--calibrate", path));
        self.sensitivities.as_ref().map_or(Ok(()), |path| files.writes("--sensitivities", path).map(drop))?;
        Ok(())
    }

    /// Refuses what this program was built without.
    fn buildable(&self) -> Result<(), Failure> {
        let asked = [
            ("--calibrate", self.calibrate.is_some()),
            ("--target-bits", self.target_bits.is_some()),
            ("--target-bytes", self.target_bytes.is_some()),
        ];
        match asked.into_iter().find(|(_, asked)| *asked && cfg!(not(feature = "calibrate"))) {
            Some((what, _)) => Err(Failure::LeftOut { what, feature: "calibrate" }),
            None => Ok(()),
        }
    }

    /// Reads the files that the flags name; refuses what makes no sense before a model is opened.
    pub(crate) fn resolve(self) -> Result<QuantizationRecipe, Failure> {
        let quant = quant(&self.quant)?;
        self.buildable()?;
        let table = match &self.recipe {
            None => None,
            Some(path) => {
                let table = Table::parse(&input::file(path)?, &path.display().to_string());
                Some(table.map_err(|error| Failure::Usage(format!("--recipe: {error}")))?)
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
            (Some(bits), _) if bits.is_finite() && bits > 0.0 => Some(SizeTarget::Bits(bits)),
            (Some(bits), _) => {
                return Err(Failure::Usage(format!(
                    "--target-bits: expected a number above 0, found {bits}"
                )));
            }
            (None, Some(size)) => Some(SizeTarget::Bytes(bytes(&size).map_err(Failure::Usage)?)),
            (None, None) if self.sensitivities.is_some() => {
                let reason = "--sensitivities: nothing is measured without --target-bits or --target-bytes";
                return Err(Failure::Usage(reason.to_owned()));
            }
            (None, None) => None,
        };
        if target.is_some() && quant != Quant::default() {
            let reason = "--quant: --target-bits and --target-bytes choose the encodings themselves; leave one of them out";
            return Err(Failure::Usage(reason.to_owned()));
        }
        Ok(QuantizationRecipe { quant, table, calibration, target, sensitivities: self.sensitivities })
    }
}

/// A number of bytes, with or without a unit.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("--target-bytes: expected a size such as 45MB, 43MiB or 47185920, found {text:?}");
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

    fn flags(arguments: &[&str]) -> RecipeFlags {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            recipe: RecipeFlags,
        }
        let all = ["convert"].iter().chain(arguments);
        <Only as clap::Parser>::try_parse_from(all).unwrap().recipe
    }

    #[test]
    #[cfg(not(feature = "calibrate"))]
    fn what_was_left_out_is_named_with_its_feature() {
        for arguments in [["--calibrate", "default"], ["--target-bits", "4"], ["--target-bytes", "4MB"]] {
            let error = flags(&arguments).resolve().unwrap_err();
            assert!(matches!(error, Failure::LeftOut { feature: "calibrate", .. }), "{error}");
            assert!(error.to_string().contains("--features calibrate"), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "calibrate")]
    fn what_makes_no_sense_is_refused_before_anything_is_read() {
        let refused = |arguments: &[&str]| flags(arguments).resolve().unwrap_err().to_string();
        assert!(refused(&["--quant", "q9"]).contains("q6"));
        assert!(refused(&["--target-bits", "0"]).contains("above 0"));
        assert!(refused(&["--target-bytes", "much"]).contains("45MB"));
        assert!(refused(&["--target-bits", "4", "--quant", "q4"]).contains("themselves"));
        assert!(refused(&["--sensitivities", "s.json"]).contains("--target-bits"));
        assert!(refused(&["--recipe", "no/such.toml"]).contains("no/such.toml"));
        assert!(refused(&["--calibrate", "no/such.txt"]).contains("no/such.txt"));
        let recipe = flags(&["--quant", "q5", "--calibrate", "default"]).resolve().unwrap();
        assert!(recipe.quant == Quant::Q5 && recipe.calibration.is_some_and(|text| text.len() > 100_000));
    }
}
