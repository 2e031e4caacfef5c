//! Loading recipes from files and the built-in ones, and writing them.

use super::document::Document;
use super::fault::{Fault, RecipeError, nearest};
use super::{ModelShape, TrainingRecipe};
use crate::error::Error;
use crate::init_from;
use crate::shell;
use std::path::Path;

/// The recipes that come with the program, by name.
pub const BUILT_IN: [(&str, &str); 11] = [
    ("tiny-cpu", include_str!("../../recipes/tiny-cpu.toml")),
    ("smollm2-70m", include_str!("../../recipes/smollm2-70m.toml")),
    ("smollm2-135m", include_str!("../../recipes/smollm2-135m.toml")),
    ("smollm2-360m", include_str!("../../recipes/smollm2-360m.toml")),
    ("smollm2-stages", include_str!("../../recipes/smollm2-stages.toml")),
    ("smollm2-135m-sft", include_str!("../../recipes/smollm2-135m-sft.toml")),
    ("smollm2-360m-sft", include_str!("../../recipes/smollm2-360m-sft.toml")),
    ("smollm2-1.7b-sft", include_str!("../../recipes/smollm2-1.7b-sft.toml")),
    ("smollm2-135m-dpo", include_str!("../../recipes/smollm2-135m-dpo.toml")),
    ("smollm2-1.7b-dpo", include_str!("../../recipes/smollm2-1.7b-dpo.toml")),
    ("laptop-lora", include_str!("../../recipes/laptop-lora.toml")),
];

impl TrainingRecipe {
    /// Reads and checks a recipe: a file, or a built-in one by its bare name (`tiny-cpu`), with `KEY=VALUE` overrides
    /// applied in order (`stages.0.context=512`, `stages.*.micro_batch=4`, `optimizer.clip=none`).
    ///
    /// Errors: a file that cannot be read, or [`RecipeError`] with every fault's place and key.
    pub fn load(path: impl AsRef<Path>, overrides: &[String]) -> crate::error::Result<TrainingRecipe> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == shown)
            && !path.is_file()
        {
            return Ok(TrainingRecipe::parse(text, name, overrides)?);
        }
        if path.is_dir() {
            return Err(Error::Usage(match init_from::is_run(path) {
                true => {
                    let [recipe, run] = [&path.join("recipe.toml"), path].map(shell::quote);
                    format!(
                        "{shown}: expected a recipe, found the folder of a run; its recipe is {recipe}, and `thimble-train \
                         pretrain {recipe} --run {run} --resume` continues it"
                    )
                }
                false => format!("{shown}: expected the file of a recipe (.toml), found a folder"),
            }));
        }
        let is_file_name = path.extension().is_some_and(|extension| extension == "toml");
        if !path.exists() && !is_file_name && path.components().count() == 1 {
            let names = BUILT_IN.map(|(name, _)| name);
            let near = match nearest(&shown, &names) {
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
    pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<TrainingRecipe, RecipeError> {
        let mut document = Document::parse(text, origin)?;
        for set in overrides {
            document.set(set)?;
        }
        document.complete_model(|source| {
            let source = init_from::open(source).map_err(|error| error.to_string())?;
            toml::Table::try_from(ModelShape::of(&source.config)).map_err(|error| error.to_string())
        })?;
        let recipe: TrainingRecipe = document.read()?;
        let placed = |fault: Fault| Fault { place: Some(document.place_of(&fault.key)), ..fault };
        let faults: Vec<Fault> = recipe.faults().into_iter().map(placed).collect();
        if faults.is_empty() { Ok(recipe) } else { Err(RecipeError { faults }) }
    }

    /// Every key with its value, defaults too, as [`TrainingRecipe::parse`] reads it back to an equal recipe.
    pub fn to_toml(&self) -> crate::error::Result<String> {
        toml::to_string_pretty(self).map_err(|error| Error::Invalid(format!("the recipe as TOML: {error}")))
    }
}
