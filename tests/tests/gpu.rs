//! Sessions with a real adapter (lavapipe is one): the same text as on the CPU, whatever happens to the device. Without an
//! adapter each test says so and does nothing. `THIMBLE_ADAPTER` names another one than the fastest.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "gpu/sampling.rs"]
mod sampling;
mod tiny;

use conformance::{Need, converted, skip};
use serde_json::Value;
use std::cell::RefCell;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use thimble_converter::{BlockType, Quant};
use thimble_files::MappedModel;
use thimble_host::{
    BackendKind, Generator, InferencePlan, InferenceSettings, MatmulVariant, SpinPool, device, embed,
    generator,
};
use thimble_runtime::Token;
use thimble_runtime::embedding::Pooling;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::sampler::{Sampler, Sampling, greedy};
use tiny::{Folder, ODD, Random, Shape};

/// Tests that lose the device would disturb others.
static ALONE: Mutex<()> = Mutex::new(());

/// Held by a test for itself; nothing where there is no adapter.
fn adapter() -> Option<MutexGuard<'static, ()>> {
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match device() {
        Ok(device) => {
            println!("adapter: {}", device.report().name);
            Some(guard)
        }
        Err(error) => {
            skip(Need::Adapter, error);
            None
        }
    }
}

thread_local! {
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn tell(line: &str) {
    TOLD.with_borrow_mut(|told| told.push(line.to_owned()));
}

const SHAPE: Shape = Shape { layers: 3, heads: 6, kv_heads: 2, ..ODD };

fn model(folder: &Path, shape: Shape, context: usize) -> MappedModel {
    let mut source = Folder::new(shape, BlockType::F16);
    source.config["max_position_embeddings"] = Value::from(context);
    source.write(folder, 1);
    converted(folder, &folder.join("m.thimble"), Quant::Keep).0
}

fn tokens(count: usize, seed: u64) -> Vec<Token> {
    let mut random = Random(seed);
    (0..count).map(|_| Token(random.below(SHAPE.vocab) as u32)).collect()
}

const EXACT: InferenceSettings = InferenceSettings {
    context: None,
    threads: Some(2),
    kernels: None,
    kv: None,
    exact: true,
    logit_rows: None,
    batch: None,
    lookup: 0,
    matmul_variant: None,
    adapter_rank: 0,
    sequences: None,
    backend: Some(BackendKind::Cpu),
};

fn on(backend: BackendKind) -> InferenceSettings {
    InferenceSettings { backend: Some(backend), ..EXACT }
}

fn with_session<R>(
    model: &MappedModel,
    settings: &InferenceSettings,
    work: impl FnOnce(&mut Generator<'_>) -> R,
) -> R {
    let file = model.file().unwrap();
    let plan = InferencePlan::new(file.config(), settings).unwrap().with_notify(tell);
    let mut memory = plan.allocate().unwrap();
    let pool = SpinPool::new(plan.threads()).unwrap();
    work(&mut generator(&file, &plan, &mut memory, &pool).unwrap())
}

/// The likeliest tokens behind a prompt; `at` is called before each.
fn reply(session: &mut Generator<'_>, prompt: &[Token], count: usize, at: &mut dyn FnMut(usize)) -> Vec<u32> {
    session.prefill(prompt).unwrap();
    let next = |i| {
        at(i);
        let token = greedy(session.tokens_and_logits().1);
        session.prefill(&[token]).unwrap();
        token.0
    };
    (0..count).map(next).collect()
}

/// Tokens that are drawn behind a prompt; `at` is called before each, with the session. With a bias of nothing the host
/// draws, on every processor.
fn drawn(
    session: &mut Generator<'_>,
    sampling: Sampling,
    bias: &[(Token, f32)],
    count: usize,
    at: &mut dyn FnMut(usize, &mut Generator<'_>),
) -> Vec<u32> {
    let mut sampler = Sampler::new(sampling).unwrap().with_bias(bias).unwrap();
    let next = |i| {
        at(i, session);
        let token = session.sample(&mut sampler);
        session.prefill(&[token]).unwrap();
        token.0
    };
    (0..count).map(next).collect()
}

const WARM: Sampling = Sampling {
    temperature: 1.2,
    top_k: Some(40),
    top_p: Some(0.95),
    min_p: None,
    repetition_penalty: 1.0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
    penalty_window: None,
    seed: 11,
};

/// The largest difference of logits, in the largest logit.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    found.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / size
}

#[test]
fn the_text_is_the_same_on_every_division_of_the_work() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), SHAPE, 512);
    let prompt = tokens(150, 1);
    let expected = with_session(&model, &EXACT, |session| reply(session, &prompt, 60, &mut |_| {}));
    for backend in [BackendKind::Gpu, BackendKind::GpuPrompts, BackendKind::GpuTokens] {
        for kv in [KvKind::F32, KvKind::F16] {
            let settings = InferenceSettings { kv: Some(kv), ..on(backend) };
            let found = with_session(&model, &settings, |session| {
                let found = reply(session, &prompt, 60, &mut |_| {});
                assert_eq!(session.sequence().kind(), backend);
                // Once more from the middle, and a score: the caches change sides again.
                session.rewind(170).unwrap();
                let again = reply(session, &prompt[..70], 5, &mut |_| {});
                session.rewind(0).unwrap();
                let mut sum = 0.0;
                session.score(&prompt, 1, &mut |scored| sum += scored.log_probability).unwrap();
                (found, again, sum)
            });
            let cpu = InferenceSettings { kv: Some(kv), ..EXACT };
            let (again, sum) = with_session(&model, &cpu, |session| {
                reply(session, &prompt, 60, &mut |_| {});
                session.rewind(170).unwrap();
                let again = reply(session, &prompt[..70], 5, &mut |_| {});
                session.rewind(0).unwrap();
                let mut sum = 0.0;
                session.score(&prompt, 1, &mut |scored| sum += scored.log_probability).unwrap();
                (again, sum)
            });
            assert_eq!((&found.0, &found.1), (&expected, &again), "{backend}, {kv:?}");
            let off = (found.2 - sum).abs() / sum.abs();
            println!("{backend}, {kv:?}: log-likelihood off by {off:.1e}");
            assert!(off < if kv == KvKind::F32 { 1e-6 } else { 1e-3 }, "{off}");
        }
    }
    assert_eq!(TOLD.take(), Vec::<String>::new());
}

#[test]
fn a_device_lost_in_the_middle_of_a_reply_costs_one_line() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), SHAPE, 512);
    let prompt = tokens(100, 2);
    let expected = with_session(&model, &EXACT, |session| reply(session, &prompt, 40, &mut |_| {}));
    for (backend, at) in [
        (BackendKind::Gpu, 0),
        (BackendKind::Gpu, 17),
        (BackendKind::GpuTokens, 3),
        (BackendKind::GpuPrompts, 0),
    ] {
        let found = with_session(&model, &on(backend), |session| {
            assert_eq!(session.sequence().kind(), backend, "a new session finds a new device");
            let lose = &mut |i| {
                if i == at {
                    device().unwrap().destroy();
                }
            };
            let found = reply(session, &prompt, 40, lose);
            assert_eq!(session.sequence().kind(), BackendKind::Cpu);
            found
        });
        assert_eq!(found, expected, "{backend}, lost before token {at}");
        let told = TOLD.take();
        assert!(told.len() == 1 && told[0].ends_with("continuing on the CPU"), "{told:?}");
        println!("{}", told[0]);
    }
}

#[test]
fn two_sessions_run_at_once() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), SHAPE, 512);
    let prompts = [tokens(90, 3), tokens(120, 4)];
    let one = |settings: &InferenceSettings, prompt: &[Token]| {
        with_session(&model, settings, |session| {
            let found = reply(session, prompt, 40, &mut |_| {});
            (found, session.sequence().kind())
        })
    };
    let gpu = on(BackendKind::Gpu);
    let found: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = prompts.iter().map(|prompt| scope.spawn(|| one(&gpu, prompt))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (prompt, (found, kind)) in prompts.iter().zip(found) {
        assert_eq!((found, kind), (one(&EXACT, prompt).0, BackendKind::Gpu));
    }
}

#[test]
fn a_prompt_of_8000_tokens() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), Shape { layers: 1, ..ODD }, 8192);
    let prompt = tokens(8000, 5);
    let run = |backend| {
        let settings = InferenceSettings { context: Some(8192), kv: Some(KvKind::F32), ..on(backend) };
        with_session(&model, &settings, |session| {
            session.prefill(&prompt).unwrap();
            let logits = session.tokens_and_logits().1.to_vec();
            (logits, reply(session, &prompt[..40], 4, &mut |_| {}))
        })
    };
    let (expected, text) = run(BackendKind::Cpu);
    let (found, same) = run(BackendKind::GpuPrompts);
    let off = difference(&found, &expected);
    println!("logits behind 8,000 tokens off by {off:.1e} of the largest");
    assert!(off < 1e-4 && same == text, "{off}");
    assert_eq!(TOLD.take(), Vec::<String>::new());
}

/// A model of one encoding for its body.
fn quantized(folder: &Path, quant: Quant) -> MappedModel {
    let mut source = Folder::new(SHAPE, BlockType::F16);
    source.config["max_position_embeddings"] = Value::from(512);
    source.write(folder, 2);
    converted(folder, &folder.join("q.thimble"), quant).0
}

fn scores(model: &MappedModel, settings: &InferenceSettings, text: &[Token]) -> Vec<f64> {
    with_session(model, settings, |session| {
        let mut all = Vec::new();
        session.score(text, 1, &mut |scored| all.push(scored.log_probability)).unwrap();
        all
    })
}

/// Mean difference, nats a token.
fn apart(found: &[f64], expected: &[f64]) -> f64 {
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).sum::<f64>() / expected.len() as f64
}

#[test]
fn scores_are_as_near_to_the_exact_mode_as_the_cpus() {
    let Some(_alone) = adapter() else { return };
    let text = tokens(300, 9);
    let mut sums = [0.0; 2];
    for quant in [Quant::Q8, Quant::Q5, Quant::Q4Min] {
        let folder = tempfile::tempdir().unwrap();
        let model = quantized(folder.path(), quant);
        let exact = scores(&model, &EXACT, &text);
        let off = |kv, backend| {
            let settings = InferenceSettings { exact: false, kv: Some(kv), ..on(backend) };
            apart(&scores(&model, &settings, &text), &exact)
        };
        let [gpu, cpu] = [BackendKind::Gpu, BackendKind::Cpu].map(|backend| off(KvKind::F32, backend));
        println!("{quant:?}: {gpu:.1e} nats a token on the GPU, {cpu:.1e} on the CPU");
        // The same codes for the input are as far off, give or take what is random.
        assert!(gpu <= 1.1 * cpu, "{quant:?}: {gpu} and {cpu}");
        let halves = [BackendKind::Gpu, BackendKind::Cpu].map(|backend| off(KvKind::F16, backend));
        println!("{quant:?}, keys and values in halves: {halves:?}");
        sums = [sums[0] + halves[0], sums[1] + halves[1]];
    }
    // Rounding keys and values to halves, which both do, is most of either: for one model it is one's or the other's.
    assert!(sums[0] <= sums[1], "{sums:?}");
    assert_eq!(TOLD.take(), Vec::<String>::new());
}

#[test]
fn products_are_computed_as_the_settings_say() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = quantized(folder.path(), Quant::Q8);
    let text = tokens(100, 10);
    let with = |matmul_variant, exact| {
        scores(
            &model,
            &InferenceSettings { matmul_variant, exact, kv: Some(KvKind::F32), ..on(BackendKind::Gpu) },
            &text,
        )
    };
    let [plain, dot4] = [MatmulVariant::Plain, MatmulVariant::Dot4].map(|variant| with(Some(variant), false));
    assert!(plain != dot4 && apart(&plain, &dot4) < 1e-2);
    // What is less exact than it should be is not used.
    assert_eq!(with(Some(MatmulVariant::Dot4), true), plain);
    assert_eq!(with(Some(MatmulVariant::F16), false), with(None, false));
    assert_eq!(TOLD.take(), Vec::<String>::new());
}

#[test]
fn embeddings_are_the_cpus() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), SHAPE, 512);
    for pooling in [Pooling::Mean, Pooling::Last] {
        // One token, a few, a batch, and more than one.
        for count in [1, 5, 64, 300] {
            let text = tokens(count, 12);
            let vector = |backend, batch| {
                let settings = InferenceSettings { batch: Some(batch), ..on(backend) };
                with_session(&model, &settings, |session| embed(session, &text, pooling).unwrap())
            };
            let expected = vector(BackendKind::Cpu, 192);
            for backend in [BackendKind::Gpu, BackendKind::GpuPrompts, BackendKind::GpuTokens] {
                for batch in [64, 512] {
                    let found = vector(backend, batch);
                    let off = found.iter().zip(&expected).fold(0.0f32, |off, (a, b)| off.max((a - b).abs()));
                    assert!(off < 1e-5, "{count} tokens, {backend}, {batch}, {pooling:?}: {off:e}");
                }
            }
        }
    }
    assert_eq!(TOLD.take(), Vec::<String>::new());
}

/// Resident bytes of this process, where the system tells.
fn resident() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

#[test]
fn memory_does_not_grow_with_the_tokens() {
    let Some(_alone) = adapter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), SHAPE, 512);
    // The host and the device draw in turns.
    let count = if cfg!(feature = "slow") { 10_000 } else { 2_000 };
    with_session(&model, &on(BackendKind::Gpu), |session| {
        let mut run = |count: usize| {
            let mut bias = &[(Token(0), 0.0)][..];
            for _ in 0..count / 400 {
                session.rewind(0).unwrap();
                session.prefill(&[Token(1)]).unwrap();
                drawn(session, WARM, bias, 400, &mut |_, _| {});
                bias = if bias.is_empty() { &[(Token(0), 0.0)] } else { &[] };
            }
            resident()
        };
        let (Some(before), Some(after)) = (run(800), run(count)) else { return };
        println!("resident: {before} bytes after 800 tokens, {after} after {count} more");
        assert!(after < before + (4 << 20), "{before} bytes, then {after}");
    });
}
