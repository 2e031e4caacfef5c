//! The tensors that lie side by side in the flat buffers, and which of them are frozen.

use super::freeze::frozen;
use crate::error::{Error, Result};
use thimble_runtime::format::{Config, TensorRole};

/// Query, key and value projections, their biases, and the two projections into the feed-forward network.
pub(super) const QKV: [TensorRole; 3] = [TensorRole::Query, TensorRole::Key, TensorRole::Value];
pub(super) const QKV_BIAS: [TensorRole; 3] =
    [TensorRole::QueryBias, TensorRole::KeyBias, TensorRole::ValueBias];
pub(super) const GATE_UP: [TensorRole; 2] = [TensorRole::Gate, TensorRole::Up];

/// Tensors that lie side by side: matrices of the same inputs stacked by rows, or vectors.
pub(super) struct Stack {
    pub(super) roles: &'static [TensorRole],
    pub(super) layer: u16,
    pub(super) frozen: bool,
    /// Place of its first tensor in the model's own order.
    pub(super) ordinal: usize,
}

impl Stack {
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.roles.iter().map(|role| role.hugging_face(self.layer).to_string())
    }

    pub(super) fn is_vector(&self) -> bool {
        self.roles.iter().all(|role| role.is_vector())
    }
}

/// All stacks of a model, matrices first.
pub(super) fn stacks(config: &Config) -> Vec<Stack> {
    use TensorRole as Role;
    const NONE: u16 = Role::NO_LAYER;
    let stack = |roles, layer| Stack { roles, layer, frozen: false, ordinal: 0 };
    let mut stacks = vec![stack(&[Role::Embedding], NONE)];
    for layer in 0..config.layers as u16 {
        stacks.push(stack(&QKV, layer));
        stacks.push(stack(&[Role::Output], layer));
        stacks.push(stack(&GATE_UP, layer));
        stacks.push(stack(&[Role::Down], layer));
    }
    if !config.tied {
        stacks.push(stack(&[Role::Head], NONE));
    }
    for layer in 0..config.layers as u16 {
        stacks.push(stack(&[Role::AttentionNorm], layer));
        stacks.push(stack(&[Role::FfnNorm], layer));
        if config.qkv_bias {
            stacks.push(stack(&QKV_BIAS, layer));
        }
        if config.qk_norm {
            stacks.push(stack(&[Role::QueryNorm], layer));
            stacks.push(stack(&[Role::KeyNorm], layer));
        }
    }
    stacks.push(stack(&[Role::FinalNorm], NONE));
    let mut ordinal = 0;
    for stack in &mut stacks {
        stack.ordinal = ordinal;
        ordinal += stack.roles.len();
    }
    stacks
}

/// Freezes the stacks that the entries name.
pub(super) fn freeze(stacks: &mut [Stack], entries: &[String]) -> Result<()> {
    let names: Vec<String> = stacks.iter().flat_map(Stack::names).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut rest = frozen(entries, &names)?.into_iter();
    for stack in stacks.iter_mut() {
        let frozen: Vec<bool> = rest.by_ref().take(stack.roles.len()).collect();
        stack.frozen = frozen.iter().all(|&frozen| frozen);
        if !stack.frozen && frozen.contains(&true) {
            return Err(Error::Invalid(format!(
                "freeze: expected all or none of {}, which are trained as one matrix; found a part of them",
                stack.names().collect::<Vec<_>>().join(", ")
            )));
        }
    }
    if stacks.iter().all(|stack| stack.frozen) {
        return Err(Error::Invalid("freeze: every tensor is frozen; leave at least one to train".into()));
    }
    Ok(())
}
