//! The model that a run starts from, and the one that it has made of it.

use crate::error::{Error, Result};
use crate::frozen::{frozen_hash, require_same_base};
use crate::init_from;
use crate::merge::merge;
use crate::model::parameters::NamedTensor;
use crate::model::{Parameters, init};
use crate::peft;
use crate::recipe::TrainingRecipe;
use std::path::Path;
use thimble_converter::export::{Dtype, write_metadata};
use thimble_converter::{SourceModel, dequantize};
use thimble_runtime::format::Config;

/// Numbers that are dequantized at once.
const CHUNK: usize = 2 << 20;

/// The weights before the first step, all of the flat buffer: those of `init_from`, or random ones; adapters are
/// initialized, or those of `adapter.from`.
///
/// # Errors
/// The source or the adapter cannot be read, or is of another shape than the recipe's model.
pub fn weights(recipe: &TrainingRecipe, parameters: &Parameters) -> Result<Vec<f32>> {
    let Some(typed) = &recipe.init_from else {
        return Ok(init::weights(parameters, recipe.model.init_std, recipe.seed));
    };
    let source = init_from::open(typed)?;
    let mut weights = vec![0.0; parameters.len];
    read_source(&source, parameters, &mut weights)
        .map_err(|what| Error::Invalid(format!("{typed}: {what}")))?;
    init::adapters(parameters, recipe.seed, &mut weights);
    if let Some((keys, folder)) = recipe.adapter.as_ref().and_then(|keys| Some((keys, keys.from.as_ref()?))) {
        let base_hash = frozen_hash(parameters, &weights);
        peft::read_weights(folder, keys, parameters, (&mut weights, base_hash.as_deref()))?;
    }
    Ok(weights)
}

/// The whole model that a run has trained so far, laid out as [`Parameters::new`] does, with its adapters merged.
///
/// # Errors
/// As [`weights`]; the frozen weights are others than `frozen`, the hash of those that the run was trained on.
pub fn trained_model(recipe: &TrainingRecipe, trained: Vec<f32>, frozen: Option<&str>) -> Result<Vec<f32>> {
    let parameters = Parameters::of(recipe)?;
    if parameters.frozen().is_empty() {
        return Ok(trained);
    }
    let mut weights = weights(recipe, &parameters)?;
    require_same_base(frozen, frozen_hash(&parameters, &weights).as_deref(), "the checkpoint")?;
    weights[..parameters.trainable].copy_from_slice(&trained);
    Ok(merge(&parameters, &weights, &Parameters::new(&recipe.model.config())))
}

/// Reads a source's tensors to their places in a flat buffer.
fn read_source(
    source: &SourceModel,
    parameters: &Parameters,
    weights: &mut [f32],
) -> std::result::Result<(), String> {
    let of_model = |named: &&NamedTensor| !is_adapter(&named.name);
    let expected = parameters.named().iter().filter(of_model).count();
    if source.tensors().len() != expected {
        let found = source.tensors().len();
        return Err(format!(
            "the source has {found} tensors, expected the {expected} of the recipe's [model]"
        ));
    }
    let mut bytes = Vec::new();
    for tensor in source.tensors() {
        let name = tensor.role.hugging_face(tensor.layer).to_string();
        let Some(named) = parameters.find(&name) else {
            return Err(format!("the source has a tensor {name}, which the recipe's [model] lacks"));
        };
        if named.len() != tensor.rows * tensor.columns || named.shape.last() != Some(&tensor.columns) {
            let (found, shape) = ([tensor.rows, tensor.columns], &named.shape);
            return Err(format!("tensor {name} is {found:?}, expected {shape:?} of the recipe's [model]"));
        }
        let at_once = (CHUNK / tensor.columns.max(1)).max(1);
        for (task, out) in weights[named.range()].chunks_mut(at_once * tensor.columns).enumerate() {
            let first = task * at_once;
            let rows = first..first + out.len() / tensor.columns;
            source.read_rows(tensor, rows, &mut bytes).map_err(|error| error.to_string())?;
            dequantize(tensor.kind, &bytes, out);
        }
        if weights[named.range()].iter().any(|value| !value.is_finite()) {
            return Err(format!("tensor {name} has a number that is not finite"));
        }
    }
    Ok(())
}

/// Writes the files of the model that `init_from` names, all but its weights: tokenizer, chat template, config.json,
/// generation_config.json. Does nothing where the folder has them, or the recipe starts from random weights.
///
/// # Errors
/// The source cannot be read, or a file cannot be written.
pub fn write_files(recipe: &TrainingRecipe, folder: &Path) -> Result<()> {
    let Some(typed) = &recipe.init_from else { return Ok(()) };
    // The last of them.
    if folder.join("README.md").exists() {
        return Ok(());
    }
    let source = init_from::open(typed)?;
    let (found, trained) = (&source.config, recipe.model.config());
    let options = |config: &Config| (config.rope, config.norm_eps, config.window, config.pattern);
    if options(found) != options(&trained) {
        eprintln!(
            "warning: [model] has another RoPE, norm epsilon or window than {typed:?}; leave those keys out to take the \
             model's"
        );
    }
    write_metadata(&source, folder, Dtype::F32, |_| ())
        .map_err(|error| Error::Invalid(format!("{typed}: {error}")))
}

/// Whether the tensor is an adapter's.
pub(crate) fn is_adapter(name: &str) -> bool {
    name.contains(".lora_A.") || name.contains(".lora_B.")
}
