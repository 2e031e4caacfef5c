//! The weights that a run starts from, and what identifies those that it does not train.

use crate::error::{Error, Result};
use crate::init_from;
use crate::model::parameters::NamedTensor;
use crate::model::{Parameters, init};
use crate::recipe::TrainingRecipe;
use thimble_converter::{SourceModel, dequantize};
use zerocopy::IntoBytes;

/// Numbers that are dequantized at once.
const CHUNK: usize = 2 << 20;

/// The weights before the first step, all of the flat buffer: those of `init_from`, or random ones; adapters are initialized.
///
/// # Errors
/// The source cannot be read, or is of another shape than the recipe's model.
pub fn weights(recipe: &TrainingRecipe, parameters: &Parameters) -> Result<Vec<f32>> {
    let Some(typed) = &recipe.init_from else {
        return Ok(init::weights(parameters, recipe.model.init_std, recipe.seed));
    };
    let source = init_from::open(typed)?;
    let mut weights = vec![0.0; parameters.len];
    read_source(&source, parameters, &mut weights)
        .map_err(|what| Error::Invalid(format!("init_from = {typed:?}: {what}")))?;
    init::adapters(parameters, recipe.seed, &mut weights);
    Ok(weights)
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
        return Err(format!("the source has {found} tensors, expected the {expected} of the recipe's [model]"));
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

/// Whether the tensor is an adapter's.
pub(crate) fn is_adapter(name: &str) -> bool {
    name.contains(".lora_A.") || name.contains(".lora_B.")
}

/// Identifies the frozen weights of a flat buffer, which a checkpoint does not hold; none if nothing is frozen.
pub fn frozen_hash(parameters: &Parameters, weights: &[f32]) -> Option<String> {
    let frozen = parameters.frozen();
    if frozen.is_empty() {
        return None;
    }
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    // By ordinal, so that the hash of a whole model does not depend on where its tensors lie.
    let mut frozen: Vec<&NamedTensor> = frozen.iter().collect();
    frozen.sort_by_key(|named| named.ordinal);
    frozen.iter().for_each(|named| hash.update(weights[named.range()].as_bytes()));
    Some(format!("{:016x}", hash.digest()))
}

/// Refuses frozen weights other than those that a checkpoint or an adapter was made with.
///
/// # Errors
/// The hashes differ.
pub fn require_same_base(then: Option<&str>, now: Option<&str>, what: &str) -> Result<()> {
    if then == now {
        return Ok(());
    }
    let [then, now] = [then, now].map(|hash| hash.unwrap_or("none"));
    Err(Error::Invalid(format!(
        "{what} was trained on other frozen weights (hash {then}) than those of this base model (hash {now}): expected the \
         base model that it was trained on; restore it, or start a new run with --run"
    )))
}
