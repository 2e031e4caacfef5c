//! Folders of the PEFT library: adapter_config.json and adapter_model.safetensors.

use super::{SourceAdapter, SourceLowRank, name_of};
use crate::read::BlockType;
use crate::{ConvertError, dequantize};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use thimble_runtime::adapter::{AdapterRecord, MAX_RANK};
use thimble_runtime::format::TensorRole;

pub(super) const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// The key of the base model's fingerprint in the metadata of the weights, which `thimble-train` writes.
const FINGERPRINT: &str = "thimble.base_fingerprint";

/// What PEFT adds or changes beside A and B; an adapter file has no place for it.
const REFUSED: [&str; 13] = [
    "use_dora",
    "bias",
    "lora_bias",
    "modules_to_save",
    "fan_in_fan_out",
    "alpha_pattern",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
];
/// Ways to begin that leave the base model as it is. Others, such as PiSSA, train beside a changed one.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// Opens a folder.
pub(super) fn open(folder: &Path) -> Result<SourceAdapter, ConvertError> {
    let scaling = Scaling::read(folder)?;
    let path = folder.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(ConvertError::read(&path))?;
    let fail = |source| ConvertError::Safetensors { path: path.clone(), source };
    let file = SafeTensors::deserialize(&bytes).map_err(fail)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(fail)?;
    let fingerprint = metadata.metadata().as_ref().and_then(|metadata| metadata.get(FINGERPRINT));
    let mut pairs: BTreeMap<(u16, u16), Pair<'_>> = BTreeMap::new();
    for (name, tensor) in file.tensors() {
        let (role, layer, is_a) = place(&name)?;
        let pair = pairs.entry((layer, role as u16)).or_insert(Pair { role, layer, a: None, b: None });
        let side = if is_a { &mut pair.a } else { &mut pair.b };
        if side.replace((name.clone(), tensor)).is_some() {
            return Err(ConvertError::unsupported(
                format!("tensor {name}"),
                "there twice",
                "each matrix once",
            ));
        }
    }
    if pairs.is_empty() {
        return Err(ConvertError::MissingTensor { name: format!("of any matrix in {}", path.display()) });
    }
    let matrices = pairs.into_values().map(|pair| pair.low_rank(&scaling)).collect::<Result<Vec<_>, _>>()?;
    Ok(SourceAdapter {
        source: name_of(folder),
        base: scaling.base,
        fingerprint: fingerprint.and_then(|text| u64::from_str_radix(text, 16).ok()),
        layers: None,
        matrices,
    })
}

/// What adapter_config.json says.
struct Scaling {
    alpha: f64,
    /// Whether the scale is alpha / sqrt(rank) (Kalajdzievski 2023), not alpha / rank.
    stabilized: bool,
    base: Option<String>,
}

impl Scaling {
    fn read(folder: &Path) -> Result<Scaling, ConvertError> {
        let path = folder.join(CONFIG);
        let bytes = std::fs::read(&path).map_err(ConvertError::read(&path))?;
        let json = serde_json::from_slice(&bytes);
        let config: Value = json.map_err(|source| ConvertError::Json { path: path.clone(), source })?;
        let refuse = |key: &str, found: &Value, supported| {
            Err(ConvertError::unsupported(format!("{CONFIG}: {key}"), found.to_string(), supported))
        };
        if config["peft_type"] != "LORA" {
            return refuse("peft_type", &config["peft_type"], "\"LORA\"");
        }
        for key in REFUSED {
            if config.get(key).is_some_and(|value| !is_off(value)) {
                return refuse(key, &config[key], "off");
            }
        }
        let start = &config["init_lora_weights"];
        let plain = match start {
            Value::String(name) => PLAIN_STARTS.contains(&name.as_str()),
            Value::Null | Value::Bool(_) => true,
            _ => false,
        };
        if !plain {
            let supported =
                "true, false, \"gaussian\", \"orthogonal\" and \"eva\", which leave the base model as it is";
            return refuse("init_lora_weights", start, supported);
        }
        let alpha = config["lora_alpha"].as_f64().filter(|alpha| alpha.is_finite());
        let alpha = alpha.ok_or_else(|| ConvertError::field(CONFIG, "lora_alpha", "a number"))?;
        let stabilized = config["use_rslora"].as_bool().unwrap_or(false);
        let base = config["base_model_name_or_path"].as_str().filter(|base| !base.is_empty());
        Ok(Scaling { alpha, stabilized, base: base.map(str::to_owned) })
    }

    fn scale(&self, rank: usize) -> f32 {
        let rank = rank as f64;
        (self.alpha / if self.stabilized { rank.sqrt() } else { rank }) as f32
    }
}

/// Whether an option of PEFT is not used.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text == "none",
        _ => false,
    }
}

/// The matrix that a tensor belongs to, and whether it is its A.
fn place(name: &str) -> Result<(TensorRole, u16, bool), ConvertError> {
    let refuse = |found| {
        let supported = "A and B of the projections of a layer (q, k, v, o, gate, up, down)";
        Err(ConvertError::unsupported(format!("tensor {name}"), found, supported))
    };
    if name.contains("lora_magnitude_vector") {
        return refuse("a magnitude of DoRA");
    }
    if name.contains("lora_embedding_") {
        return refuse("an adapter of the embedding");
    }
    let module = name.strip_prefix("base_model.model.").unwrap_or(name);
    let sides = [(".lora_A.", true), (".lora_B.", false)];
    let found = sides.iter().find_map(|(side, is_a)| {
        let (module, rest) = module.split_once(side)?;
        (rest == "weight" || rest == "default.weight").then_some((module, *is_a))
    });
    let Some((module, is_a)) = found else { return refuse("a module that was saved whole") };
    let layer = module.split('.').nth(2).and_then(|layer| layer.parse().ok());
    let role = layer.and_then(|layer: u16| {
        let is_named = |role: &TensorRole| role.hugging_face(layer).to_string() == format!("{module}.weight");
        AdapterRecord::ROLES.into_iter().find(is_named)
    });
    match (role, layer) {
        (Some(role), Some(layer)) => Ok((role, layer, is_a)),
        _ => refuse("an adapter of another module"),
    }
}

/// A tensor with its name.
type Named<'b> = (String, TensorView<'b>);

/// The tensors of one matrix.
struct Pair<'b> {
    role: TensorRole,
    layer: u16,
    a: Option<Named<'b>>,
    b: Option<Named<'b>>,
}

impl Pair<'_> {
    fn low_rank(self, scaling: &Scaling) -> Result<SourceLowRank, ConvertError> {
        let Pair { role, layer, a, b } = self;
        let module = role.hugging_face(layer).to_string();
        let present = |side: Option<_>, letter| {
            side.ok_or_else(|| ConvertError::MissingTensor { name: format!("lora_{letter} of {module}") })
        };
        let (a, b) = (present(a, 'A')?, present(b, 'B')?);
        let [(kind, [rank, columns], a), (other, [rows, width], b)] = [numbers(&a)?, numbers(&b)?];
        if width != rank {
            let found = format!("{rows} x {width}, beside an A of {rank} x {columns}");
            return Err(ConvertError::unsupported(
                format!("B of {module}"),
                found,
                "as many columns as A has rows",
            ));
        }
        if !(1..=MAX_RANK).contains(&rank) {
            return Err(ConvertError::unsupported(
                format!("the rank of {module}"),
                rank.to_string(),
                "1 to 4,096",
            ));
        }
        // One encoding for both.
        let kind = if kind == other { kind } else { BlockType::F32 };
        let scale = scaling.scale(rank);
        Ok(SourceLowRank { role, layer, rows, columns, rank, scale, kind, a, b })
    }
}

/// Type, shape and numbers of a matrix.
fn numbers((name, tensor): &Named<'_>) -> Result<(BlockType, [usize; 2], Vec<f32>), ConvertError> {
    let kind = match tensor.dtype() {
        Dtype::F32 => BlockType::F32,
        Dtype::F16 => BlockType::F16,
        Dtype::BF16 => BlockType::BF16,
        other => {
            let what = format!("the type of tensor {name}");
            return Err(ConvertError::unsupported(what, format!("{other:?}"), "F32, F16 and BF16"));
        }
    };
    let &[rows, columns] = tensor.shape() else {
        let found = format!("of shape {:?}", tensor.shape());
        return Err(ConvertError::unsupported(format!("tensor {name}"), found, "matrices"));
    };
    let mut numbers = vec![0.0; rows * columns];
    dequantize(kind, tensor.data(), &mut numbers);
    match numbers.iter().position(|number| !number.is_finite()) {
        Some(at) => Err(ConvertError::NotFinite { name: name.clone(), row: at / columns }),
        None => Ok((kind, [rows, columns], numbers)),
    }
}
