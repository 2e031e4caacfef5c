//! Recipes from files, from the built-in ones, and back to text.

use super::fault::{Fault, RecipeError};
use super::{TrainingRecipe, read, tree};
use crate::error::{Error, Result};
use std::path::Path;

/// The recipes that come with the program, by name.
pub const BUILT_IN: [(&str, &str); 5] = [
    ("tiny-cpu", include_str!("../../recipes/tiny-cpu.toml")),
    ("smollm2-70m", include_str!("../../recipes/smollm2-70m.toml")),
    ("smollm2-135m", include_str!("../../recipes/smollm2-135m.toml")),
    ("smollm2-360m", include_str!("../../recipes/smollm2-360m.toml")),
    ("smollm2-stages", include_str!("../../recipes/smollm2-stages.toml")),
];

impl TrainingRecipe {
    /// Reads and checks a recipe: a file, or a built-in one by its bare name (`tiny-cpu`), with `KEY=VALUE` overrides
    /// applied in order (`stages.0.context=512`, `stages.*.micro_batch=4`, `optimizer.clip=none`).
    ///
    /// Errors: a file that cannot be read, or [`RecipeError`] with every fault's place and key.
    pub fn load(path: impl AsRef<Path>, overrides: &[String]) -> Result<TrainingRecipe> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == shown)
            && !path.is_file()
        {
            return Ok(TrainingRecipe::parse(text, name, overrides)?);
        }
        if !path.exists() && path.extension().is_none() && path.components().count() == 1 {
            let names = BUILT_IN.map(|(name, _)| name);
            let near = match read::nearest(&shown, &names) {
                Some(near) => format!(" Did you mean `{near}`?"),
                None => String::new(),
            };
            return Err(Error::Usage(format!(
                "{shown}: neither a file nor a built-in recipe.{near} The built-in ones: {}",
                names.join(", ")
            )));
        }
        let text = std::fs::read_to_string(path).map_err(Error::file(path, "read"))?;
        Ok(TrainingRecipe::parse(&text, &shown, overrides)?)
    }

    /// As [`TrainingRecipe::load`], from text; `origin` names it in errors.
    pub fn parse(
        text: &str,
        origin: &str,
        overrides: &[String],
    ) -> std::result::Result<TrainingRecipe, RecipeError> {
        let mut root = tree::parse(text, origin)?;
        for set in overrides {
            tree::set(&mut root, set)?;
        }
        let recipe: TrainingRecipe = read::read(&root)?;
        let faults: Vec<Fault> = recipe
            .faults()
            .into_iter()
            .map(|fault| {
                let place = root.place_of(&fault.key);
                fault.at(place)
            })
            .collect();
        if faults.is_empty() { Ok(recipe) } else { Err(RecipeError { faults }) }
    }

    /// Every key with its value, defaults too, as [`TrainingRecipe::parse`] reads it back to an equal recipe.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|error| Error::Invalid(format!("the recipe as TOML: {error}")))
    }
}

/// An optional number whose default is a number: absent means the default, so `none` must be sayable.
pub(super) mod number_or_none {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_f64(*value),
            None => serializer.serialize_str("none"),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        deserializer.deserialize_any(NumberOrNone)
    }

    struct NumberOrNone;

    impl Visitor<'_> for NumberOrNone {
        type Value = Option<f64>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a number, or \"none\"")
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Option<f64>, E> {
            Ok(Some(value))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Option<f64>, E> {
            Ok(Some(value as f64))
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Option<f64>, E> {
            Ok(Some(value as f64))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Option<f64>, E> {
            match value {
                "none" => Ok(None),
                other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
            }
        }

        fn visit_none<E: Error>(self) -> Result<Option<f64>, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<f64>, E> {
            Ok(None)
        }
    }
}
