//! Paths of a recipe that hold from any folder.

use super::{DistillKeys, HeldOut, ObjectiveKeys, TrainingRecipe};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

impl TrainingRecipe {
    /// The recipe with the paths that start at the working folder made absolute, as a run keeps it: a resume from another
    /// folder finds the same files. Names of the catalogue and addresses of the hub stay.
    ///
    /// # Errors
    /// The working folder is gone.
    pub fn with_absolute_paths(&self) -> Result<TrainingRecipe> {
        let mut recipe = self.clone();
        recipe.data.files.iter_mut().try_for_each(make_absolute)?;
        if let Some(HeldOut::Files(files)) = &mut recipe.data.held_out {
            files.iter_mut().try_for_each(make_absolute)?;
        }
        recipe.data.sets.values_mut().try_for_each(make_absolute)?;
        if let Some(adapter) = &mut recipe.adapter {
            adapter.from.iter_mut().try_for_each(make_absolute)?;
        }
        if let Some(model) = recipe.init_from.as_mut().filter(|model| Path::new(model).exists()) {
            *model = absolute(Path::new(model))?.to_string_lossy().into_owned();
        }
        let of_stages = recipe.stages.iter_mut().filter_map(|stage| stage.quantize.as_mut());
        let of_objective = match &mut recipe.objective {
            ObjectiveKeys::Distill(keys) => Some(keys),
            _ => None,
        };
        for DistillKeys { quant, .. } in of_objective.into_iter().chain(of_stages) {
            // Not the name of a preset.
            if Path::new(quant).extension().is_some_and(|extension| extension == "toml") {
                *quant = absolute(Path::new(quant))?.to_string_lossy().into_owned();
            }
        }
        Ok(recipe)
    }
}

fn make_absolute(path: &mut PathBuf) -> Result<()> {
    if !path.to_string_lossy().starts_with("hf://") {
        *path = absolute(path)?;
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::file(path, "find"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::QuantizationScales;

    #[test]
    fn files_and_folders_hold_from_any_folder_and_names_stay() {
        let sets = [
            r#"data.files=["a.jsonl", "hf://datasets/o/n", "/b.jsonl"]"#,
            r#"data.held_out=["c.jsonl"]"#,
            "adapter.from=there",
        ];
        let sets = sets.map(str::to_owned);
        let recipe = TrainingRecipe::load("laptop-lora", &sets).unwrap();
        let kept = recipe.with_absolute_paths().unwrap();
        let here = std::env::current_dir().unwrap();
        let files = [here.join("a.jsonl"), "hf://datasets/o/n".into(), "/b.jsonl".into()];
        assert_eq!(kept.data.files, files);
        assert_eq!(kept.data.held_out, Some(HeldOut::Files(vec![here.join("c.jsonl")])));
        assert_eq!(kept.adapter.as_ref().unwrap().from, Some(here.join("there")));
        assert_eq!(kept.init_from, recipe.init_from, "a name of the catalogue");
        assert_eq!(kept.with_absolute_paths().unwrap(), kept);
        // What there is under the model's name is a path.
        let model = TrainingRecipe { init_from: Some("src".to_owned()), ..recipe.clone() };
        let kept = model.with_absolute_paths().unwrap();
        assert_eq!(kept.init_from.as_deref(), here.join("src").to_str());
        for (quant, expected) in [("q4", PathBuf::from("q4")), ("q.toml", here.join("q.toml"))] {
            let keys = DistillKeys { quant: quant.to_owned(), scales: QuantizationScales::Fixed };
            let recipe = TrainingRecipe { objective: ObjectiveKeys::Distill(keys), ..recipe.clone() };
            let recipe = recipe.with_absolute_paths().unwrap();
            let Some((0, keys)) = recipe.quantization() else { panic!("{quant}") };
            assert_eq!(Path::new(&keys.quant), expected);
        }
    }
}
