//! Recipe keys that flags write, and errors in the words of the flags.

use thimble_trainer::error::{Error, Result};
use thimble_trainer::recipe::{Fault, RecipeError, TrainingRecipe};

/// The keys of a recipe that a command's flags write, in the order in which they apply.
#[derive(Clone, Debug, Default)]
pub(super) struct FlagKeys(Vec<FlagKey>);

#[derive(Clone, Debug)]
struct FlagKey {
    /// The flag with its value; none for what the command takes where no flag says otherwise.
    typed: Option<String>,
    /// `KEY=VALUE`, as `--set` takes it.
    set: String,
}

impl FlagKeys {
    /// A key that a flag writes, with the flag as it was typed.
    pub(super) fn typed(&mut self, flag: impl Into<String>, set: String) {
        self.0.push(FlagKey { typed: Some(flag.into()), set });
    }

    /// A key that no flag was given for.
    pub(super) fn implied(&mut self, set: String) {
        self.0.push(FlagKey { typed: None, set });
    }

    /// A key whose value may come from a flag, which has this name and was given this value.
    pub(super) fn given<T: std::fmt::Display>(&mut self, flag: &str, given: Option<T>, set: String) {
        match given {
            Some(value) => self.typed(format!("{flag} {value}"), set),
            None => self.implied(set),
        }
    }

    /// These keys with `more` behind them.
    #[must_use]
    pub(super) fn and(mut self, more: FlagKeys) -> FlagKeys {
        self.0.extend(more.0);
        self
    }

    /// The recipe that `load` makes of these keys and the overrides behind them. A fault in a key that a flag wrote names
    /// the flag.
    ///
    /// # Errors
    /// Those of `load`.
    pub(super) fn apply(
        &self,
        overrides: &[String],
        load: impl FnOnce(&[String]) -> Result<TrainingRecipe>,
    ) -> Result<TrainingRecipe> {
        let sets: Vec<String> =
            self.0.iter().map(|key| &key.set).chain(overrides).map(String::clone).collect();
        load(&sets).map_err(|error| match error {
            Error::Recipe(RecipeError { faults }) => {
                let faults = faults.into_iter().map(|fault| self.typed_fault(fault, overrides)).collect();
                Error::Recipe(RecipeError { faults })
            }
            other => other,
        })
    }

    fn typed_fault(&self, fault: Fault, overrides: &[String]) -> Fault {
        let Some(set) = fault.override_text().map(str::to_owned) else { return fault };
        let of_flag = self.0.iter().rev().find(|key| key.set == set && !overrides.contains(&set));
        match of_flag {
            Some(FlagKey { typed: Some(typed), .. }) => fault.typed_as(typed.clone()),
            Some(FlagKey { typed: None, .. }) => fault.without_place(),
            None => fault,
        }
    }
}

/// Names of the flags that stand for keys, by the keys.
pub(super) struct FlagNames(pub(super) &'static [(&'static str, &'static str)]);

impl FlagNames {
    /// The error with the flags in place of the keys that they write.
    pub(super) fn reword(&self, error: Error) -> Error {
        match error {
            Error::Invalid(text) => Error::Invalid(self.in_flags(text)),
            Error::Usage(text) => Error::Usage(self.in_flags(text)),
            Error::Recipe(RecipeError { faults }) => {
                let reword = |mut fault: Fault| {
                    // What --set has is named as it was typed.
                    if !fault.is_override() {
                        fault.key = self.in_flags(fault.key);
                    }
                    fault.what = self.in_flags(fault.what);
                    fault
                };
                Error::Recipe(RecipeError { faults: faults.into_iter().map(reword).collect() })
            }
            other => other,
        }
    }

    fn in_flags(&self, text: String) -> String {
        self.0.iter().fold(text, |text, (key, flag)| replace_key(&text, key, flag))
    }
}

/// Replaces a key by a flag, and `KEY = VALUE` by `FLAG VALUE`.
fn replace_key(text: &str, key: &str, flag: &str) -> String {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(key) {
        out.push_str(before);
        // A part of a longer key; or what --set takes, which has no other name.
        let other = out.ends_with(|c| in_name(c) || ".*'".contains(c))
            || out.ends_with("--set ")
            || behind.starts_with(in_name)
            || behind.strip_prefix('.').is_some_and(|inner| inner.starts_with(in_name));
        rest = behind;
        if other {
            out.push_str(key);
            continue;
        }
        out.push_str(flag);
        if let Some(value) = behind.strip_prefix(" = ") {
            out.push(' ');
            rest = value;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: FlagNames = FlagNames(&[
        ("data.held_out", "--held-out"),
        ("stages.0.context", "--context"),
        ("model.context", "the model's context of"),
    ]);

    #[test]
    fn keys_are_named_by_their_flags() {
        for (text, expected) in [
            ("data.held_out = 0.1: too few", "--held-out 0.1: too few"),
            ("raise stages.0.context.", "raise --context."),
            ("at most model.context = 64, found 65", "at most the model's context of 64, found 65"),
            // Longer keys, and advice for --set, stay.
            ("add --set 'stages.0.context=8'", "add --set 'stages.0.context=8'"),
            ("--set stages.0.context=8", "--set stages.0.context=8"),
            ("stages.0.context_length, data.held_out.0", "stages.0.context_length, data.held_out.0"),
        ] {
            assert_eq!(NAMES.reword(Error::Invalid(text.into())).to_string(), expected);
        }
        let stopped = NAMES.reword(Error::Stopped("data.held_out".into()));
        assert_eq!(stopped.to_string(), "data.held_out");
    }

    #[test]
    fn faults_name_the_flag_that_was_typed() {
        let mut keys = FlagKeys::default();
        keys.typed("--context 900000", "stages.0.context=900000".into());
        keys.implied("checkpoint.every=0".into());
        let load = |sets: &[String]| TrainingRecipe::load("tiny-cpu", sets);
        let error = NAMES.reword(keys.apply(&[], load).unwrap_err());
        let lines: Vec<String> = error.to_string().lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(lines[1], "--context 900000: expected at most the model's context of 256, found 900000");
        assert!(
            lines.iter().any(|line| line.starts_with("checkpoint.every: expected at least 1")),
            "{lines:?}"
        );
        assert_eq!(error.exit_code(), 2);
        // What --set says last is named as it was typed.
        let said = keys.apply(&["stages.0.context=900000".into()], load).unwrap_err().to_string();
        assert!(said.contains("--set 'stages.0.context=900000': stages.0.context: "), "{said}");
    }
}
