//! Names of tensors and files in sources.

use thimble_runtime::format::TensorRole;

/// The file with a Hugging Face model's hyperparameters.
pub(super) const CONFIG_JSON: &str = "config.json";

/// llama.cpp's name of a tensor.
pub(crate) fn gguf(role: TensorRole, layer: u16) -> String {
    let (part, _) = parts(role);
    if TensorRole::LAYER.contains(&role) {
        format!("blk.{layer}.{part}.weight")
    } else {
        format!("{part}.weight")
    }
}

/// Hugging Face's name of a tensor.
pub(crate) fn hugging_face(role: TensorRole, layer: u16) -> String {
    let (_, part) = parts(role);
    if TensorRole::LAYER.contains(&role) {
        format!("model.layers.{layer}.{part}.weight")
    } else {
        format!("{part}.weight")
    }
}

/// The part of a name that tells the role: llama.cpp's and Hugging Face's.
fn parts(role: TensorRole) -> (&'static str, &'static str) {
    match role {
        TensorRole::Embedding => ("token_embd", "model.embed_tokens"),
        TensorRole::FinalNorm => ("output_norm", "model.norm"),
        TensorRole::Head => ("output", "lm_head"),
        TensorRole::AttentionNorm => ("attn_norm", "input_layernorm"),
        TensorRole::Query => ("attn_q", "self_attn.q_proj"),
        TensorRole::Key => ("attn_k", "self_attn.k_proj"),
        TensorRole::Value => ("attn_v", "self_attn.v_proj"),
        TensorRole::Output => ("attn_output", "self_attn.o_proj"),
        TensorRole::FfnNorm => ("ffn_norm", "post_attention_layernorm"),
        TensorRole::Gate => ("ffn_gate", "mlp.gate_proj"),
        TensorRole::Up => ("ffn_up", "mlp.up_proj"),
        TensorRole::Down => ("ffn_down", "mlp.down_proj"),
    }
}
