//! A session uses the memory that its plan announced: all of it, nothing behind it, whatever was in it before.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "model/golden.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod golden;
mod tiny;

use golden::Grid;
use thimble_converter::Quant;
use thimble_files::MappedModel;
use thimble_host::KernelKind;
use thimble_runtime::Token;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::Config;
use thimble_runtime::kernels::{KvKind, SingleThread};
use thimble_runtime::memory::{ALIGN, MemoryError, MemoryPlan, PlanOptions};
use thimble_runtime::model::Weights;
use thimble_runtime::sampler::{Sampler, Sampling};
use thimble_runtime::session::Session;

/// Bytes behind the plan's that nobody may write.
const GUARD: usize = 4096;

/// Memory on a boundary, filled with one byte.
struct Filled {
    bytes: Vec<u8>,
    start: usize,
}

impl Filled {
    fn new(len: usize, fill: u8) -> Filled {
        let bytes = vec![fill; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        Filled { bytes, start }
    }

    fn bytes(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.start..][..len]
    }
}

/// Fills the whole context, takes logits wherever they fit and draws a token; gives the memory afterwards, the
/// guard included, and the bits of all log-probabilities with the token behind them.
fn used(model: &MappedModel, plan: &MemoryPlan, tokens: &[Token], fill: u8) -> (Filled, Vec<u64>) {
    let file = model.file().unwrap();
    let mut memory = Filled::new(plan.bytes() + GUARD, fill);
    let weights = Weights::new(&file).unwrap();
    let kernels = KernelKind::detect().unwrap();
    let cpu = Cpu::new(weights, plan, kernels, &SingleThread, memory.bytes(plan.bytes() + GUARD)).unwrap();
    let mut session = Session::new(cpu);
    let mut scores = Vec::new();
    session.score(tokens, 1, &mut |scored| scores.push(scored.log_probability.to_bits())).unwrap();
    let context = session.context();
    assert_eq!(session.position(), context);
    session.rewind(context - 1).unwrap();
    session.prefill(&tokens[context - 1..context]).unwrap();
    // Of all tokens, so that all of the sampler's scratch is used.
    let sampling = Sampling { temperature: 1.0, top_p: Some(0.9), seed: 3, ..Sampling::default() };
    let drawn = session.sample(&mut Sampler::new(sampling).unwrap());
    scores.push(u64::from(drawn.0));
    (memory, scores)
}

#[test]
fn the_plan_is_what_a_session_writes() {
    let all = golden::all();
    let kernels = KernelKind::detect().unwrap();
    let (mut plans, mut most) = (0, 0.0f64);
    for (golden, (grid, quant)) in all.iter().zip(golden::RECIPES) {
        let folder = tempfile::tempdir().unwrap();
        let model = golden.model(grid, quant, folder.path());
        let config = *model.file().unwrap().config();
        for kv in [KvKind::F32, KvKind::F16, KvKind::Q8] {
            for exact in [true, false] {
                for (context, batch, logit_rows) in [(64, 64, 64), (128, 12, 12), (128, 7, 3), (192, 192, 1)]
                {
                    let options =
                        PlanOptions { context, batch, logit_rows, kv, exact, adapter_rank: 0, sequences: 1 };
                    let plan = MemoryPlan::new(&config, &options, &kernels).unwrap();
                    let tokens: Vec<Token> = golden.tokens().into_iter().cycle().take(context + 1).collect();
                    let (mut a, scores) = used(&model, &plan, &tokens, 0x5A);
                    // All ones are not-a-numbers, as f32 and as f16.
                    let (mut b, again) = used(&model, &plan, &tokens, 0xFF);
                    let label = format!("{}, {quant}, {options:?}", golden.name);
                    assert!(scores == again, "what was in the memory does not matter: {label}");
                    let (a, b) = (a.bytes(plan.bytes() + GUARD), b.bytes(plan.bytes() + GUARD));
                    assert!(a[plan.bytes()..].iter().all(|&byte| byte == 0x5A), "wrote behind: {label}");
                    assert!(b[plan.bytes()..].iter().all(|&byte| byte == 0xFF), "wrote behind: {label}");
                    let untouched = a.iter().zip(&*b).filter(|pair| *pair == (&0x5A, &0xFF)).count() - GUARD;
                    let share = untouched as f64 / plan.bytes() as f64;
                    assert!(share < UNTOUCHED, "{untouched} of {} bytes for nothing: {label}", plan.bytes());
                    (plans, most) = (plans + 1, most.max(share));
                }
            }
        }
    }
    println!("{plans} plans, {} kernels: at most {:.1}% is padding", kernels.name(), 100.0 * most);
}

/// Most of a plan that padding to boundaries and to vectors may take, and the quantized activations, which a
/// model of float encodings has no use for: 15.7% of the smallest of these models, 1.2% of the 70M shape at 2,048
/// positions.
const UNTOUCHED: f64 = 0.2;

#[test]
fn too_little_memory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = golden::all()[0].model(Grid::Bytes, Quant::Q8, folder.path());
    let file = model.file().unwrap();
    let kernels = KernelKind::detect().unwrap();
    let weights = Weights::new(&file).unwrap();
    for context in [1, 16, 100, 512] {
        let plan = MemoryPlan::new(file.config(), &PlanOptions::generate(context), &kernels).unwrap();
        let needed = plan.bytes();
        let mut memory = Filled::new(needed + 1, 0);
        let mut make = |from: usize, to: usize| {
            let lent = &mut memory.bytes(needed + 1)[from..to];
            Cpu::new(weights, &plan, kernels, &SingleThread, lent).map(|_| ())
        };
        for found in [0, 1, needed / 2, needed - 1] {
            assert_eq!(make(0, found), Err(MemoryError::TooSmall { needed, found }), "{context}");
        }
        assert_eq!(make(1, needed + 1), Err(MemoryError::Misaligned), "{context}");
        assert_eq!((make(0, needed), make(0, needed + 1)), (Ok(()), Ok(())), "{context}");
    }
}

/// The shape of SmolLM2-70M.
fn smollm2_70m() -> Config {
    Config {
        hidden: 384,
        layers: 32,
        heads: 6,
        kv_heads: 2,
        head_dim: 64,
        ffn: 1024,
        vocab: 49_152,
        context: 8192,
        ..Config::PLAIN
    }
}

#[test]
fn the_70m_models_whole_context() {
    let config = smollm2_70m();
    config.check().unwrap();
    let kernels = KernelKind::detect().unwrap();
    // Per position and layer: two KV heads of 64 keys and 64 values; 8-bit ones have two f32 scales a head.
    for (kv, per_position) in [(KvKind::F16, 32 * 2 * 128 * 2), (KvKind::Q8, 32 * 2 * (128 + 8))] {
        let options = PlanOptions { kv, ..PlanOptions::generate(8192) };
        let bytes = MemoryPlan::new(&config, &options, &kernels).unwrap().bytes();
        let cache = 8192 * per_position;
        println!("8,192 positions, {kv:?}: {bytes} bytes, {} of them beside keys and values", bytes - cache);
        // 192 tokens' activations, one row of logits, the token history, the sampler's scratch.
        assert!(bytes > cache && bytes < cache + 8_000_000, "{bytes}");
    }
}

#[test]
fn sizes_beyond_the_address_space_are_refused() {
    let mut config = smollm2_70m();
    (config.layers, config.heads, config.kv_heads) = (1 << 10, 1 << 10, 1 << 10);
    (config.head_dim, config.context, config.vocab) = (256, 1 << 20, 1 << 22);
    config.check().unwrap();
    let options = PlanOptions {
        context: 1 << 20,
        batch: 1 << 20,
        logit_rows: 1 << 20,
        kv: KvKind::F32,
        exact: true,
        adapter_rank: 0,
        sequences: 1,
    };
    let plan = MemoryPlan::new(&config, &options, &KernelKind::detect().unwrap());
    // 2^52 bytes of keys and values fit 64 bits; 32 bits they do not.
    let fits = plan.map(|plan| plan.bytes() >> 51 > 0);
    assert!(if usize::BITS == 64 { fits == Ok(true) } else { fits == Err(MemoryError::Overflow) });
}
