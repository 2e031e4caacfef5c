//! The tensors of a model: shape, presence, and names in Hugging Face folders and GGUF files, by role.

use super::{Config, TensorRole};
use Shape::{Matrix, Vector};
use core::fmt;

/// What is known about the tensors of a role.
struct RoleInfo {
    role: TensorRole,
    /// The end of the name in a GGUF file, after `blk.N.` for a tensor of a layer.
    gguf: &'static str,
    /// The end of the name in a Hugging Face folder, after `model.layers.N.` for a tensor of a layer.
    hugging_face: &'static str,
    shape: Shape,
    /// Whether a model has such tensors.
    present: fn(&Config) -> bool,
}

/// The shape of a tensor in a model.
enum Shape {
    /// Length of the weight of a norm or of a bias.
    Vector(fn(&Config) -> usize),
    /// Rows (outputs) and columns (inputs).
    Matrix(fn(&Config) -> (usize, usize)),
}

const fn info(
    role: TensorRole,
    (gguf, hugging_face): (&'static str, &'static str),
    shape: Shape,
    present: fn(&Config) -> bool,
) -> RoleInfo {
    RoleInfo { role, gguf, hugging_face, shape, present }
}

type Role = TensorRole;

/// The tensors before the layers.
const BEFORE: [RoleInfo; 1] = [info(
    Role::Embedding,
    ("token_embd.weight", "model.embed_tokens.weight"),
    Matrix(|c| (c.vocab, c.hidden)),
    |_| true,
)];

/// The tensors of each layer.
#[rustfmt::skip]
const LAYER: [RoleInfo; 14] = [
    info(Role::AttentionNorm, ("attn_norm.weight", "input_layernorm.weight"), Vector(|c| c.hidden), |_| true),
    info(Role::Query, ("attn_q.weight", "self_attn.q_proj.weight"), Matrix(|c| (c.q_dim(), c.hidden)), |_| true),
    info(Role::Key, ("attn_k.weight", "self_attn.k_proj.weight"), Matrix(|c| (c.kv_dim(), c.hidden)), |_| true),
    info(Role::Value, ("attn_v.weight", "self_attn.v_proj.weight"), Matrix(|c| (c.kv_dim(), c.hidden)), |_| true),
    info(Role::Output, ("attn_output.weight", "self_attn.o_proj.weight"), Matrix(|c| (c.hidden, c.q_dim())), |_| true),
    info(Role::FfnNorm, ("ffn_norm.weight", "post_attention_layernorm.weight"), Vector(|c| c.hidden), |_| true),
    info(Role::Gate, ("ffn_gate.weight", "mlp.gate_proj.weight"), Matrix(|c| (c.ffn, c.hidden)), |_| true),
    info(Role::Up, ("ffn_up.weight", "mlp.up_proj.weight"), Matrix(|c| (c.ffn, c.hidden)), |_| true),
    info(Role::Down, ("ffn_down.weight", "mlp.down_proj.weight"), Matrix(|c| (c.hidden, c.ffn)), |_| true),
    info(Role::QueryBias, ("attn_q.bias", "self_attn.q_proj.bias"), Vector(|c| c.q_dim()), |c| c.qkv_bias),
    info(Role::KeyBias, ("attn_k.bias", "self_attn.k_proj.bias"), Vector(|c| c.kv_dim()), |c| c.qkv_bias),
    info(Role::ValueBias, ("attn_v.bias", "self_attn.v_proj.bias"), Vector(|c| c.kv_dim()), |c| c.qkv_bias),
    info(Role::QueryNorm, ("attn_q_norm.weight", "self_attn.q_norm.weight"), Vector(|c| c.head_dim), |c| c.qk_norm),
    info(Role::KeyNorm, ("attn_k_norm.weight", "self_attn.k_norm.weight"), Vector(|c| c.head_dim), |c| c.qk_norm),
];

/// The tensors after the layers.
const AFTER: [RoleInfo; 2] = [
    info(Role::FinalNorm, ("output_norm.weight", "model.norm.weight"), Vector(|c| c.hidden), |_| true),
    info(Role::Head, ("output.weight", "lm_head.weight"), Matrix(|c| (c.vocab, c.hidden)), |c| !c.tied),
];

/// The roles of `infos` that a model has, in order.
fn present<'c>(infos: &'static [RoleInfo], config: &'c Config) -> impl Iterator<Item = TensorRole> + use<'c> {
    infos.iter().filter(|info| (info.present)(config)).map(|info| info.role)
}

impl TensorRole {
    fn info(self) -> &'static RoleInfo {
        let mut all = BEFORE.iter().chain(&LAYER).chain(&AFTER);
        // Every role is in one of the tables: a test looks each one up.
        all.find(|info| info.role == self).unwrap_or(&BEFORE[0])
    }

    /// Whether each layer has such a tensor.
    pub fn is_in_layer(self) -> bool {
        LAYER.iter().any(|info| info.role == self)
    }

    /// Whether this is the weight of a norm or a bias, stored as a vector.
    pub fn is_vector(self) -> bool {
        matches!(self.info().shape, Vector(_))
    }

    /// Rows (outputs) and columns (inputs) in a model of this configuration; vectors have one row.
    pub fn shape(self, config: &Config) -> (usize, usize) {
        match self.info().shape {
            Vector(length) => (1, length(config)),
            Matrix(shape) => shape(config),
        }
    }

    /// The roles of a layer's tensors, in file order.
    pub fn of_layer(config: &Config) -> impl Iterator<Item = TensorRole> + use<'_> {
        present(&LAYER, config)
    }

    /// Number of tensors in a model of this configuration.
    pub fn count(config: &Config) -> usize {
        present(&BEFORE, config).count()
            + config.layers * present(&LAYER, config).count()
            + present(&AFTER, config).count()
    }

    /// Role and layer of the tensor at `index` in file order, less than [`TensorRole::count`].
    pub fn at(config: &Config, index: usize) -> (TensorRole, u16) {
        let outside = |role: Option<TensorRole>| (role.unwrap_or(Role::Head), Self::NO_LAYER);
        let per_layer = present(&LAYER, config).count();
        let Some(inside) = index.checked_sub(BEFORE.len()) else {
            return outside(present(&BEFORE, config).nth(index));
        };
        match inside.checked_sub(config.layers * per_layer) {
            None => {
                let role = present(&LAYER, config).nth(inside % per_layer);
                (role.unwrap_or(Role::Head), (inside / per_layer) as u16)
            }
            Some(after) => outside(present(&AFTER, config).nth(after)),
        }
    }

    /// The index of a tensor in file order, the inverse of [`TensorRole::at`]; `None` if the model has no such tensor.
    pub fn index(self, config: &Config, layer: u16) -> Option<usize> {
        let place = |infos| present(infos, config).position(|role| role == self);
        if let Some(place) = place(&BEFORE) {
            return Some(place);
        }
        let per_layer = present(&LAYER, config).count();
        if let Some(place) = place(&LAYER) {
            let layer = usize::from(layer);
            return (layer < config.layers).then_some(BEFORE.len() + layer * per_layer + place);
        }
        Some(BEFORE.len() + config.layers * per_layer + place(&AFTER)?)
    }

    /// The tensor's name in a GGUF file.
    pub fn gguf(self, layer: u16) -> TensorName {
        TensorName { prefix: self.is_in_layer().then_some(("blk", layer)), part: self.info().gguf }
    }

    /// The tensor's name in a Hugging Face folder.
    pub fn hugging_face(self, layer: u16) -> TensorName {
        TensorName {
            prefix: self.is_in_layer().then_some(("model.layers", layer)),
            part: self.info().hugging_face,
        }
    }
}

/// The name of a tensor in a source.
#[derive(Clone, Copy, Debug)]
pub struct TensorName {
    prefix: Option<(&'static str, u16)>,
    part: &'static str,
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some((prefix, layer)) => write!(f, "{prefix}.{layer}.{}", self.part),
            None => f.write_str(self.part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn index_and_at_are_inverse() {
        for options in 0..8 {
            let [tied, qkv_bias, qk_norm] = [1, 2, 4].map(|bit| options & bit != 0);
            let config = Config { layers: 3, tied, qkv_bias, qk_norm, ..Config::PLAIN };
            let per_layer = 9 + 3 * usize::from(qkv_bias) + 2 * usize::from(qk_norm);
            assert_eq!(TensorRole::count(&config), 2 + 3 * per_layer + usize::from(!tied));
            for index in 0..TensorRole::count(&config) {
                let (role, layer) = TensorRole::at(&config, index);
                assert_eq!(role.index(&config, layer), Some(index));
                assert_eq!(role.info().role, role);
                assert_eq!(role.shape(&config).0 == 1 && role.is_vector(), role.is_vector());
            }
            assert_eq!(TensorRole::Head.index(&config, TensorRole::NO_LAYER).is_some(), !tied);
            assert_eq!(TensorRole::QueryBias.index(&config, 0).is_some(), qkv_bias);
            assert_eq!(TensorRole::Query.index(&config, 3), None);
        }
    }

    #[test]
    fn names_are_those_of_the_sources() {
        let names = [
            (TensorRole::Embedding, "token_embd.weight", "model.embed_tokens.weight"),
            (TensorRole::KeyBias, "blk.7.attn_k.bias", "model.layers.7.self_attn.k_proj.bias"),
            (TensorRole::QueryNorm, "blk.7.attn_q_norm.weight", "model.layers.7.self_attn.q_norm.weight"),
            (TensorRole::Head, "output.weight", "lm_head.weight"),
        ];
        for (role, gguf, hugging_face) in names {
            assert_eq!(role.gguf(7).to_string(), gguf);
            assert_eq!(role.hugging_face(7).to_string(), hugging_face);
        }
    }
}
