//! Models of random weights, and their logits in the CPU's exact mode.

use super::Random;
use super::products::sample;
use crate::GpuOptions;
use thimble_runtime::Token;
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::{
    ALIGN, Config, DIRECTORY_RECORD, Encoding, HEADER_LEN, ModelFile, SectionKind, SectionRecord,
    TensorRecord, TensorRole, checksum, emit_header,
};
use thimble_runtime::kernels::{Kernels, KvKind, SingleThread};
use thimble_runtime::memory::{MemoryPlan, PlanOptions};
use thimble_runtime::model::{Backend, Batch, Weights, forward};

/// The small vocabulary of the runtime's own tests.
const TOKENIZER: &[u8] = include_bytes!("../../../src/tokenizer/fixture/tiny.bin");

/// A file in memory, aligned like a mapping.
pub(super) struct File {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl File {
    pub(super) fn new(content: &[u8]) -> File {
        let mut bytes = vec![0; content.len() + 64];
        let start = bytes.as_ptr().align_offset(64);
        bytes[start..start + content.len()].copy_from_slice(content);
        File { bytes, start, length: content.len() }
    }

    pub(super) fn model(&self) -> ModelFile<'_> {
        ModelFile::parse(self.content()).unwrap()
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

/// A model of random weights; `encoding` says how each matrix is stored, by layer and role.
pub(super) fn model(
    config: &Config,
    encoding: impl Fn(usize, TensorRole) -> Encoding,
    random: &mut Random,
) -> File {
    let (mut tensors, mut records) = (Vec::new(), Vec::new());
    for index in 0..TensorRole::count(config) {
        let (role, layer) = TensorRole::at(config, index);
        let (rows, columns) = role.shape(config);
        let encoding = if role.is_vector() { Encoding::Vector } else { encoding(usize::from(layer), role) };
        let data = match encoding {
            Encoding::Vector => {
                let bias =
                    matches!(role, TensorRole::QueryBias | TensorRole::KeyBias | TensorRole::ValueBias);
                let middle = if bias { 0.0 } else { 1.0 };
                (0..columns).flat_map(|_| (middle + 0.3 * random.float()).to_le_bytes()).collect()
            }
            _ => sample(encoding, rows, columns, random),
        };
        tensors.resize(tensors.len().next_multiple_of(ALIGN as usize), 0u8);
        let (offset, length) = (tensors.len() as u64, data.len() as u64);
        tensors.extend(data);
        let (rows, columns) = (rows as u32, columns as u32);
        records.extend(TensorRecord { role, layer, encoding, rows, columns, offset, length }.emit());
    }
    let (version, config) = (config.version(), config.emit());
    let parts: [(SectionKind, &[u8]); 5] = [
        (SectionKind::Config, &config),
        (SectionKind::TensorTable, &records),
        (SectionKind::Tokenizer, TOKENIZER),
        (SectionKind::Provenance, b"{}"),
        (SectionKind::Tensors, &tensors),
    ];
    let mut file = vec![0; HEADER_LEN + parts.len() * DIRECTORY_RECORD];
    let mut sections = Vec::new();
    for (kind, bytes) in parts {
        file.resize(file.len().next_multiple_of(kind.align() as usize), 0);
        let (offset, length) = (file.len() as u64, bytes.len() as u64);
        sections.push(SectionRecord { kind, offset, length, checksum: checksum(bytes) });
        file.extend(bytes);
    }
    let length = file.len() as u64;
    emit_header(version, &sections, length, &mut file).unwrap();
    File::new(&file)
}

/// Logits of each of `tokens`, run in batches of these lengths by the CPU's exact mode.
pub(super) fn exact(file: &ModelFile<'_>, tokens: &[Token], batch: usize) -> Vec<f32> {
    on_cpu(file, tokens, batch, (KvKind::F32, true))
}

/// The same with another cache, and in the exact mode or not.
pub(super) fn on_cpu(
    file: &ModelFile<'_>,
    tokens: &[Token],
    batch: usize,
    (kv, exact): (KvKind, bool),
) -> Vec<f32> {
    adapted_on_cpu(file, &[], (tokens, batch), (kv, exact))
}

/// The same with adapters.
pub(super) fn adapted_on_cpu<'f>(
    file: &ModelFile<'f>,
    adapters: &[WeightedAdapter<'f>],
    (tokens, batch): (&[Token], usize),
    (kv, exact): (KvKind, bool),
) -> Vec<f32> {
    let adapter_rank = WeightedAdapter::largest_rank(adapters);
    let weights = Weights::new(file).unwrap();
    let options = PlanOptions {
        context: tokens.len(),
        batch,
        logit_rows: batch,
        kv,
        exact,
        adapter_rank,
        sequences: 1,
    };
    let kernels = Kernels::scalar();
    let plan = MemoryPlan::new(file.config(), &options, &kernels).unwrap();
    let mut memory = vec![0; plan.bytes() + 64];
    let start = memory.as_ptr().align_offset(64);
    let memory = &mut memory[start..start + plan.bytes()];
    let mut cpu = Cpu::new(weights, &plan, kernels, &SingleThread, memory).unwrap();
    cpu.set_adapters(adapters).unwrap();
    all_logits(&mut cpu, tokens, &[batch])
}

/// Logits of every token; batches have the lengths of `cuts` in turn, and heads at most the backend's rows.
pub(super) fn all_logits(backend: &mut impl Backend, tokens: &[Token], cuts: &[usize]) -> Vec<f32> {
    let (mut out, mut position) = (Vec::new(), 0);
    for cut in cuts.iter().cycle() {
        let end = tokens.len().min(position + cut);
        let batch = Batch { tokens: &tokens[position..end], position };
        forward(backend, &batch);
        for row in (0..end - position).step_by(backend.logit_rows()) {
            backend.head(row..(row + backend.logit_rows()).min(end - position));
            out.extend_from_slice(backend.logits());
        }
        position = end;
        if end == tokens.len() {
            break;
        }
    }
    out
}

/// Largest difference, relative to the largest logit.
pub(super) fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    assert!(size > 0.0 && found.iter().all(|x| x.is_finite()));
    found.iter().zip(expected).fold(0.0f32, |a, (f, e)| a.max((f - e).abs())) / size
}

pub(super) fn config(
    hidden: usize,
    (heads, kv_heads, head_dim): (usize, usize, usize),
    ffn: usize,
    tied: bool,
) -> Config {
    Config {
        hidden,
        layers: 4,
        heads,
        kv_heads,
        head_dim,
        ffn,
        vocab: 512,
        context: 256,
        tied,
        ..Config::PLAIN
    }
}

pub(super) fn options(kv: KvKind, batch: usize, logit_rows: usize) -> GpuOptions {
    GpuOptions { context: 160, batch, logit_rows, kv, adapter_rank: 0, binding_bytes: None }
}

/// Equal encodings side by side in even layers, a different one for each matrix in odd ones.
pub(super) fn mixed(layer: usize, role: TensorRole) -> Encoding {
    let all: Vec<_> = Encoding::matrices().collect();
    if layer.is_multiple_of(2) {
        all[layer % all.len()]
    } else {
        all[(layer * 5 + role as usize) % all.len()]
    }
}

pub(super) fn tokens(count: usize, random: &mut Random) -> Vec<Token> {
    (0..count).map(|_| Token((random.next() % 512) as u32)).collect()
}
