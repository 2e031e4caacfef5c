//! The whole model on the CPU, with every option of its configuration, against f64 and against itself.

mod adapters;
mod masked;
mod naive;
mod options;
pub(crate) mod random_adapter;
mod random_model;
mod sequences;

use crate::Token;
use crate::adapter::WeightedAdapter;
use crate::cpu::Cpu;
use crate::format::Config;
use crate::kernels::tests::{Backwards, Random};
use crate::kernels::{Kernels, KvKind};
use crate::memory::{MemoryPlan, PlanOptions};
use crate::model::{Backend, Batch, Weights, forward};
use random_adapter::RandomAdapter;
use random_model::RandomModel;
use std::vec;
use std::vec::Vec;

/// The vocabulary of the test models.
const VOCAB: usize = 512;

/// A small model for struct update syntax.
const BASE: Config = Config { hidden: 20, layers: 2, ffn: 24, vocab: VOCAB, context: 4096, ..Config::PLAIN };

fn tokens(count: usize, seed: u64) -> Vec<usize> {
    let mut random = Random(seed);
    (0..count).map(|_| random.next() as usize % VOCAB).collect()
}

fn ids(tokens: &[usize]) -> Vec<Token> {
    tokens.iter().map(|token| Token(*token as u32)).collect()
}

/// What a run of a model is cut by, and what it computes with.
#[derive(Clone, Copy, Debug)]
struct Setup {
    context: usize,
    batch: usize,
    kv: KvKind,
    exact: bool,
    threads: usize,
}

impl Setup {
    const EXACT: Setup = Setup { context: 0, batch: 64, kv: KvKind::F32, exact: true, threads: 1 };

    /// Calls `job` with a backend in memory full of NaNs: nothing that was not written may matter.
    fn with_cpu<'a, R>(
        self,
        model: &'a RandomModel,
        kernels: Kernels,
        job: impl FnOnce(Cpu<'a, '_, '_, Backwards>) -> R,
    ) -> R {
        self.with_cpu_and_adapters(model, kernels, &[], job)
    }

    /// The same with adapters.
    fn with_cpu_and_adapters<'a, R>(
        self,
        model: &'a RandomModel,
        kernels: Kernels,
        adapters: &[(&'a RandomAdapter, f32)],
        job: impl FnOnce(Cpu<'a, '_, '_, Backwards>) -> R,
    ) -> R {
        let Setup { context, batch, kv, exact, threads } = self;
        let mut weighted = Vec::new();
        for (adapter, weight) in adapters {
            weighted.push(WeightedAdapter { file: adapter.file(), weight: *weight });
        }
        let adapter_rank = WeightedAdapter::largest_rank(&weighted);
        let options =
            PlanOptions { context, batch, logit_rows: batch, kv, exact, adapter_rank, sequences: 1 };
        let plan = MemoryPlan::new(&model.config, &options, &kernels).unwrap();
        let mut memory = vec![[0xff; 64]; plan.bytes() / 64 + 1];
        let start = memory.as_flattened().as_ptr().align_offset(64);
        let memory = &mut memory.as_flattened_mut()[start..start + plan.bytes()];
        let file = model.file();
        let (weights, pool) = (Weights::new(&file).unwrap(), Backwards { threads });
        let mut cpu = Cpu::new(weights, &plan, kernels, &pool, memory).unwrap();
        cpu.set_adapters(&weighted).unwrap();
        job(cpu)
    }

    /// Logits after each token.
    fn logits(self, model: &RandomModel, kernels: Kernels, tokens: &[usize]) -> Vec<f32> {
        self.with_cpu(model, kernels, |mut cpu| run(&mut cpu, &ids(tokens), 0))
    }
}

/// Logits after each of `tokens`, run in batches from `position` on.
fn run(cpu: &mut Cpu<'_, '_, '_, Backwards>, tokens: &[Token], position: usize) -> Vec<f32> {
    let mut out = Vec::new();
    let size = cpu.batch();
    for (i, tokens) in tokens.chunks(size).enumerate() {
        forward(cpu, &Batch { tokens, position: position + i * size });
        cpu.head(0..tokens.len());
        out.extend_from_slice(cpu.logits());
    }
    out
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}
