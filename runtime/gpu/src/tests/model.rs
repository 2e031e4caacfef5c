//! Whole forward passes against the CPU's exact mode.

use super::products::sample;
use super::{Random, device, plain};
use crate::{Device, Gpu, GpuError, GpuOptions, MatmulVariant};
use std::path::PathBuf;
use thimble_needs::{Need, skip};
use thimble_runtime::Token;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::{
    ALIGN, Config, DIRECTORY_RECORD, Encoding, HEADER_LEN, ModelFile, SectionKind, SectionRecord,
    TensorRecord, TensorRole, checksum, emit_header,
};
use thimble_runtime::kernels::{Kernels, KvKind, SingleThread};
use thimble_runtime::memory::{MemoryPlan, PlanOptions};
use thimble_runtime::model::{Backend, Batch, Weights, forward};
use thimble_runtime::sampler::{self, Sampling};

/// The small vocabulary of the runtime's own tests.
const TOKENIZER: &[u8] = include_bytes!("../../../src/tokenizer/fixture/tiny.bin");

/// Bytes on the boundary that a mapping has.
pub(super) struct File {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl File {
    fn new(content: &[u8]) -> File {
        let mut bytes = vec![0; content.len() + 64];
        let start = bytes.as_ptr().align_offset(64);
        bytes[start..start + content.len()].copy_from_slice(content);
        File { bytes, start, length: content.len() }
    }

    pub(super) fn model(&self) -> ModelFile<'_> {
        ModelFile::parse(&self.bytes[self.start..self.start + self.length]).unwrap()
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
        let encoding = if role.is_norm() { Encoding::Vector } else { encoding(usize::from(layer), role) };
        let data = match encoding {
            Encoding::Vector => {
                (0..columns).flat_map(|_| (1.0 + 0.3 * random.float()).to_le_bytes()).collect()
            }
            _ => sample(encoding, rows, columns, random),
        };
        tensors.resize(tensors.len().next_multiple_of(ALIGN as usize), 0u8);
        let (offset, length) = (tensors.len() as u64, data.len() as u64);
        tensors.extend(data);
        let (rows, columns) = (rows as u32, columns as u32);
        records.extend(TensorRecord { role, layer, encoding, rows, columns, offset, length }.emit());
    }
    let config = config.emit();
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
    emit_header(&sections, length, &mut file).unwrap();
    File::new(&file)
}

/// Logits of each of `tokens`, run in batches of these lengths by the CPU's exact mode.
pub(super) fn exact(file: &ModelFile<'_>, tokens: &[Token], batch: usize) -> Vec<f32> {
    on_cpu(file, tokens, batch, (KvKind::F32, true))
}

/// The same with another cache, and in the exact mode or not.
fn on_cpu(file: &ModelFile<'_>, tokens: &[Token], batch: usize, (kv, exact): (KvKind, bool)) -> Vec<f32> {
    let weights = Weights::new(file).unwrap();
    let options = PlanOptions { context: tokens.len(), batch, logit_rows: batch, kv, exact };
    let kernels = Kernels::scalar();
    let plan = MemoryPlan::new(file.config(), &options, &kernels).unwrap();
    let mut memory = vec![0; plan.bytes() + 64];
    let start = memory.as_ptr().align_offset(64);
    let memory = &mut memory[start..start + plan.bytes()];
    let mut cpu = Cpu::new(weights, &plan, kernels, &SingleThread, memory).unwrap();
    all_logits(&mut cpu, tokens, &[batch])
}

/// Logits of every token; batches have the lengths of `cuts` in turn, and heads at most the backend's rows.
fn all_logits(backend: &mut impl Backend, tokens: &[Token], cuts: &[usize]) -> Vec<f32> {
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
    let (layers, vocab, context, rope_theta, norm_eps) = (4, 512, 256, 10_000.0, 1e-5);
    let stop = [None; 8];
    Config {
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        ffn,
        vocab,
        context,
        rope_theta,
        norm_eps,
        tied,
        bos: None,
        stop,
    }
}

pub(super) fn options(kv: KvKind, batch: usize, logit_rows: usize) -> GpuOptions {
    GpuOptions { context: 160, batch, logit_rows, kv, binding_bytes: None }
}

/// Equal encodings side by side in even layers, a different one for each matrix in odd ones.
pub(super) fn mixed(layer: usize, role: TensorRole) -> Encoding {
    let all: Vec<_> = super::products::matrices().collect();
    if layer.is_multiple_of(2) {
        all[layer % all.len()]
    } else {
        all[(layer * 5 + role as usize) % all.len()]
    }
}

pub(super) fn tokens(count: usize, random: &mut Random) -> Vec<Token> {
    (0..count).map(|_| Token((random.next() % 512) as u32)).collect()
}

#[test]
fn logits_are_those_of_the_exact_mode() {
    let Some(device) = plain() else { return };
    let mut random = Random(11);
    let shapes = [(96, (6, 2, 32), 160, true), (70, (3, 1, 22), 100, false), (64, (2, 2, 64), 96, false)];
    for (i, (hidden, heads, ffn, tied)) in shapes.into_iter().enumerate() {
        let file = model(&config(hidden, heads, ffn, tied), mixed, &mut random);
        let file = file.model();
        let tokens = tokens(150, &mut random);
        let weights = Weights::new(&file).unwrap();
        // The CPU's own bytes, so that a few that are rounded otherwise are all that differs.
        for (kv, cpus, bound) in [
            (KvKind::F32, KvKind::F32, 2e-4),
            (KvKind::F16, KvKind::F32, 2e-2),
            (KvKind::Q8, KvKind::Q8, 2e-2),
        ] {
            let expected = on_cpu(&file, &tokens, 50, (cpus, true));
            // Also with a head, and here every matrix, cut to pieces.
            for binding_bytes in [None, Some(16_384)] {
                let options = GpuOptions { binding_bytes, ..options(kv, 128, 3) };
                let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
                assert_eq!(gpu.allocated(), gpu.plan().bytes(), "the plan is what was made");
                let found = all_logits(&mut gpu, &tokens, &[100, 1, 1, 30, 2]);
                gpu.check().unwrap();
                let off = difference(&found, &expected);
                println!(
                    "model {i}, {kv:?} cache, pieces of {binding_bytes:?}: logits off by {off:e} of the largest"
                );
                assert!(off <= bound);
            }
        }
    }
}

/// Five dispatches per layer, as long as one workgroup reaches over the context.
#[test]
fn dispatches_are_few() {
    let Some(device) = device() else { return };
    let mut random = Random(16);
    let config = Config { context: 512, ..config(96, (3, 1, 32), 160, true) };
    let file = model(&config, |_, _| Encoding::Q4, &mut random);
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let options = GpuOptions { context: 512, batch: 300, ..options(KvKind::F16, 300, 1) };
    let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
    assert_eq!(gpu.allocated(), gpu.plan().bytes(), "the plan is what was made");
    assert_eq!(gpu.plan().gate_up, 0);
    let prompt = tokens(300, &mut random);
    let mut count = |batch: &Batch<'_>| {
        let before = gpu.dispatches();
        gpu.logits_behind(batch).unwrap();
        gpu.dispatches() - before
    };
    let layers = config.layers as u64;
    // With the embedding and the head.
    assert_eq!(count(&Batch { tokens: &prompt, position: 0 }), 5 * layers + 2);
    assert_eq!(count(&Batch { tokens: &prompt[..1], position: 255 }), 5 * layers + 2);
    // Then the spans of the context are merged.
    assert_eq!(count(&Batch { tokens: &prompt[..1], position: 256 }), 6 * layers + 2);
}

/// Runs `first` at `position` and `count` tokens in all, each the likeliest behind the one before, in one submit.
fn greedy(gpu: &mut Gpu, first: Token, position: usize, count: usize) -> Result<Vec<Token>, GpuError> {
    let history = [vec![Token(0); position], vec![first]].concat();
    gpu.begin(&history, &Sampling::default())?;
    gpu.submit_tokens(count)?;
    gpu.take_tokens()
}

#[test]
fn tokens_come_back_without_the_host() {
    let Some(device) = device() else { return };
    let mut random = Random(12);
    let file = model(&config(96, (6, 2, 16), 160, true), mixed, &mut random);
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let prompt = tokens(20, &mut random);
    let mut gpu = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)).unwrap();
    // One by one, with the host's choice.
    let mut one_by_one = Vec::new();
    let mut next = sampler::greedy(gpu.logits_behind(&Batch { tokens: &prompt, position: 0 }).unwrap());
    let first = next;
    for position in 20..32 {
        next = sampler::greedy(gpu.logits_behind(&Batch { tokens: &[next], position }).unwrap());
        one_by_one.push(next);
    }
    // Eight in one submit, then four: the cache behind position 20 is written anew.
    let mut at_once = greedy(&mut gpu, first, 20, 8).unwrap();
    at_once.extend(greedy(&mut gpu, at_once[7], 28, 4).unwrap());
    assert_eq!(at_once, one_by_one);
    // Once more from where the device does not stand.
    assert_eq!(greedy(&mut gpu, first, 20, 12).unwrap(), one_by_one);
    let two_sessions = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1));
    assert!(two_sessions.is_ok());
    assert!(matches!(greedy(&mut gpu, first, 159, 2), Err(GpuError::Option { .. })));
    assert!(matches!(greedy(&mut gpu, first, 0, 65), Err(GpuError::Option { .. })));
    assert!(matches!(greedy(&mut gpu, first, 160, 1), Err(GpuError::Option { .. })));
    assert!(matches!(greedy(&mut gpu, Token(512), 3, 1), Err(GpuError::Option { .. })));
}

#[test]
fn wrong_options_are_refused() {
    let Some(device) = device() else { return };
    let file = model(&config(96, (6, 2, 16), 160, true), mixed, &mut Random(13));
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let good = options(KvKind::F16, 32, 1);
    for bad in [
        GpuOptions { context: 0, ..good },
        GpuOptions { context: 257, ..good },
        GpuOptions { batch: 161, ..good },
        GpuOptions { logit_rows: 33, ..good },
    ] {
        assert!(matches!(Gpu::new(&device, &weights, &bad), Err(GpuError::Option { .. })), "{bad:?}");
    }
    let narrow = GpuOptions { binding_bytes: Some(100), ..good };
    assert!(matches!(Gpu::new(&device, &weights, &narrow), Err(GpuError::TooLarge { .. })));
    assert!(matches!(Device::open(Some("no such adapter")), Err(GpuError::NoAdapter { .. })));
}

/// A second start finds the pipelines of the first, and a damaged file does no harm.
#[test]
fn pipelines_are_kept() {
    let Some(device) = device() else { return };
    let file = model(&config(96, (6, 2, 16), 160, true), |_, _| Encoding::Q4, &mut Random(17));
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("pipelines");
    let files = || -> Vec<_> {
        let list = std::fs::read_dir(&inside).map(|list| list.map(|file| file.unwrap().path()).collect());
        list.unwrap_or_default()
    };
    let run = || {
        let name = device.report().name.clone();
        // SAFETY: a folder of this test's own.
        let device = unsafe { Device::open(Some(&name)).unwrap().with_pipelines_in(&inside) };
        let mut gpu = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)).unwrap();
        gpu.logits_behind(&Batch { tokens: &[Token(1)], position: 0 }).unwrap().to_vec()
    };
    let expected = run();
    let [path] = &files()[..] else {
        return skip(Need::AdapterFeature, "this adapter leaves pipelines to its driver");
    };
    let bytes = std::fs::read(path).unwrap();
    println!("{} bytes of pipelines", bytes.len());
    assert!(run() == expected);
    for damage in [0, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[damage] ^= 0x55;
        std::fs::write(path, &damaged).unwrap();
        assert!(run() == expected);
        assert!(std::fs::read(path).unwrap() != damaged, "written anew");
    }
    assert_eq!(files().len(), 1, "no temporary file stays");
}

#[test]
fn a_lost_device_is_told() {
    let Some(device) = device() else { return };
    let file = model(&config(96, (6, 2, 16), 160, true), mixed, &mut Random(15));
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let mut gpu = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)).unwrap();
    assert!(gpu.logits_behind(&Batch { tokens: &[Token(1)], position: 0 }).is_ok());
    device.device.destroy();
    let after = gpu.logits_behind(&Batch { tokens: &[Token(2)], position: 1 });
    assert!(matches!(after, Err(GpuError::Device { .. })));
    assert!(gpu.logits().iter().all(|logit| *logit == 0.0));
    assert!(matches!(
        Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)),
        Err(GpuError::Device { .. })
    ));
}

/// Every kernel variant for products for many tokens beside the CPU's fast path, which loses more than all but f16.
fn compare_tiles(device: &Device, file: &ModelFile<'_>, tokens: &[Token]) {
    let weights = Weights::new(file).unwrap();
    let expected = exact(file, tokens, tokens.len());
    let fast = difference(&on_cpu(file, tokens, tokens.len(), (KvKind::F32, false)), &expected);
    println!("the CPU's fast path: logits off by {fast:e} of the largest");
    for tile in device.matmul_variants().to_vec() {
        let device = device.clone().with_matmul_variant(tile).unwrap();
        let options = GpuOptions {
            context: tokens.len(),
            batch: tokens.len(),
            logit_rows: tokens.len(),
            kv: KvKind::F32,
            binding_bytes: None,
        };
        let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
        let off = difference(&all_logits(&mut gpu, tokens, &[tokens.len()]), &expected);
        println!("{tile:?} products: logits off by {off:e} of the largest");
        // The same rounding on both sides, in another order.
        let bound = if tile == MatmulVariant::F16 { 100.0 } else { 2.0 };
        assert!(off <= bound * fast);
    }
}

#[test]
fn products_are_as_near_as_the_cpus_fast_path() {
    let Some(device) = device() else { return };
    let mut random = Random(18);
    for encoding in [Encoding::Q8, Encoding::Q4Min, Encoding::Q5Nl] {
        let file = model(&config(96, (3, 1, 32), 160, true), |_, _| encoding, &mut random);
        compare_tiles(&device, &file.model(), &tokens(40, &mut random));
    }
}

/// The file that `THIMBLE_MODEL` names.
#[test]
fn a_real_models_logits_are_those_of_the_exact_mode() {
    let Some(path) = std::env::var_os("THIMBLE_MODEL").map(PathBuf::from) else {
        return skip(Need::ChosenModel, "THIMBLE_MODEL names no .thimble file");
    };
    let Some(device) = plain() else { return };
    let file = File::new(&std::fs::read(path).unwrap());
    let file = file.model();
    let vocab = file.config().vocab as u64;
    let mut random = Random(14);
    let tokens: Vec<Token> = (0..24).map(|_| Token((random.next() % vocab) as u32)).collect();
    let expected = exact(&file, &tokens, 24);
    let weights = Weights::new(&file).unwrap();
    for (kv, bound) in [(KvKind::F32, 1e-4), (KvKind::F16, 1e-2)] {
        let options = GpuOptions { context: 32, batch: 16, logit_rows: 4, kv, binding_bytes: None };
        let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
        println!("{} bytes on the device", gpu.plan().bytes());
        let off = difference(&all_logits(&mut gpu, &tokens, &[16, 1]), &expected);
        println!("{kv:?} cache: logits off by {off:e} of the largest");
        assert!(off <= bound);
    }
    compare_tiles(&device, &file, &tokens);
}
