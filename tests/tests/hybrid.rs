//! A session on two processors at once, of which the second may fail: here another CPU plays its part, so that every bit
//! has to be the same as on the CPU alone.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "hybrid/fake.rs"]
mod fake;
#[path = "model/golden.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod golden;
mod tiny;
#[path = "hybrid/windows.rs"]
mod windows;

use fake::{Fake, Habits};
use golden::Grid;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use thimble_converter::Quant;
use thimble_files::MappedModel;
use thimble_host::{Accelerator, BackendKind, Hybrid, KernelKind, KvFile};
use thimble_runtime::Token;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::ModelFile;
use thimble_runtime::kernels::{CHUNK, KvKind, SingleThread};
use thimble_runtime::lookup::PromptLookup;
use thimble_runtime::memory::{ALIGN, MemoryPlan, PlanOptions};
use thimble_runtime::model::Weights;
use thimble_runtime::sampler::{Sampler, Sampling, TokenMask, greedy};
use thimble_runtime::sequence::Sequence;
use thimble_runtime::session::Session;
use tiny::Random;

const KINDS: [BackendKind; 3] = [BackendKind::Gpu, BackendKind::GpuPrompts, BackendKind::GpuTokens];

thread_local! {
    /// What this test was told.
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn tell(line: &str) {
    TOLD.with_borrow_mut(|told| told.push(line.to_owned()));
}

fn told() -> Vec<String> {
    TOLD.take()
}

/// Memory for three processors.
struct Bench {
    bytes: [Vec<u8>; 3],
    plan: MemoryPlan,
}

impl Bench {
    fn new(file: &ModelFile<'_>, kv: KvKind) -> Bench {
        Bench::with_context(file, kv, 300)
    }

    fn with_context(file: &ModelFile<'_>, kv: KvKind, context: usize) -> Bench {
        let options = PlanOptions {
            context,
            batch: 70,
            logit_rows: 5,
            kv,
            exact: kv == KvKind::F32,
            adapter_rank: 0,
            sequences: 1,
        };
        let kernels = KernelKind::detect().unwrap();
        let plan = MemoryPlan::new(file.config(), &options, &kernels).unwrap();
        // Old bytes are no numbers, as f32 and as f16.
        Bench { bytes: [(); 3].map(|()| vec![0xff; plan.bytes() + ALIGN]), plan }
    }

    /// A sequence on the CPU alone, or with an accelerator.
    fn hybrid<'a>(
        &'a mut self,
        file: &ModelFile<'a>,
        accelerator: Option<(BackendKind, Habits)>,
    ) -> Hybrid<'a, SingleThread> {
        let (hybrid, [fake, _]) = self.processors(file);
        match accelerator {
            Some((kind, habits)) => hybrid.with_accelerator(fake(habits), kind, tell),
            None => hybrid,
        }
    }

    /// A sequence on the CPU alone, and what makes two accelerators for it.
    #[expect(clippy::type_complexity, reason = "it is what it is once")]
    fn processors<'a>(
        &'a mut self,
        file: &ModelFile<'a>,
    ) -> (Hybrid<'a, SingleThread>, [impl FnOnce(Habits) -> Box<dyn Accelerator + 'a>; 2]) {
        let weights = Weights::new(file).unwrap();
        let plan = self.plan;
        let [mut first, mut second, mut third] = self.bytes.each_mut().map(|bytes| {
            let start = bytes.as_ptr().align_offset(ALIGN);
            Some(&mut bytes[start..][..plan.bytes()])
        });
        let cpu = |memory: &mut Option<&'a mut [u8]>| {
            let kernels = KernelKind::detect().unwrap();
            Cpu::new(weights, &plan, kernels, &SingleThread, memory.take().unwrap()).unwrap()
        };
        let fakes = [cpu(&mut second), cpu(&mut third)].map(|cpu| {
            move |habits| -> Box<dyn Accelerator + 'a> {
                Box::new(Fake { cpu, habits, heads: 0, changed: Vec::new(), end: 0, drawn: None })
            }
        });
        (Hybrid::new(cpu(&mut first)), fakes)
    }
}

/// A float, an 8-bit and a 4-bit model.
fn models() -> Vec<(tempfile::TempDir, MappedModel)> {
    let all = golden::all();
    let recipes = [(Grid::Bytes, Quant::F16), (Grid::Bytes, Quant::Q8), (Grid::Nibbles, Quant::Q4Min)];
    let make = |(golden, (grid, quant)): (&golden::Golden, _)| {
        let folder = tempfile::tempdir().unwrap();
        let model = golden.model(grid, quant, folder.path());
        (folder, model)
    };
    [&all[0], &all[3], &all[6]].into_iter().zip(recipes).map(make).collect()
}

/// Prompts of all lengths, decoding with and without drafts, scores, rewinds, draws (some of them masked), keys and values kept in a file: every
/// logit that was shown.
fn wander(file: &ModelFile<'_>, hybrid: Hybrid<'_, SingleThread>, seed: u64) -> Vec<u32> {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = KvFile::new(&folder.path().join("kept"));
    let (mut random, mut shown) = (Random(seed), Vec::new());
    let sampling = Sampling { temperature: 1.0, seed: 3, repetition_penalty: 1.2, ..Sampling::default() };
    let mut sampler = Sampler::new(sampling).unwrap();
    let vocab = hybrid.limits().vocab;
    // Every other token.
    let allowed = vec![0x5555_5555; vocab.div_ceil(32)];
    let mask = TokenMask::new(&allowed);
    let mut session = Session::new(hybrid).with_lookup(PromptLookup::new(4));
    let tokens = |random: &mut Random, count: usize| -> Vec<Token> {
        (0..count).map(|_| Token(random.below(vocab.min(20)) as u32)).collect()
    };
    for _ in 0..40 {
        let room = session.context() - session.position();
        match random.below(7) {
            0 => {
                let to = random.below(session.position() + 1);
                session.rewind(to).unwrap();
            }
            6 => kept.save(file, &mut session).unwrap(),
            1 | 2 if room > 150 => {
                let count = 1 + random.below(150);
                session.prefill(&tokens(&mut random, count)).unwrap();
                shown.extend(session.tokens_and_logits().1.iter().map(|x| x.to_bits()));
            }
            3 if room > 100 => {
                let count = 2 + random.below(90);
                let text = tokens(&mut random, count);
                session
                    .logits_of(&text, 1, &mut |_, row| shown.extend(row.iter().map(|x| x.to_bits())))
                    .unwrap();
            }
            _ if room > 12 => {
                session.prefill(&tokens(&mut random, 1)).unwrap();
                for _ in 0..random.below(10) {
                    let token = match random.below(3) {
                        0 => session.sample_masked(&mut sampler, mask).unwrap(),
                        _ => session.sample(&mut sampler),
                    };
                    shown.push(token.0);
                    session.prefill(&[token]).unwrap();
                }
                shown.extend(session.tokens_and_logits().1.iter().map(|x| x.to_bits()));
            }
            _ => session.rewind(0).unwrap(),
        }
    }
    shown
}

#[test]
fn an_accelerator_does_not_change_a_bit() {
    for (_folder, model) in models() {
        let file = model.file().unwrap();
        for kv in [KvKind::F32, KvKind::F16, KvKind::Q8] {
            let mut bench = Bench::new(&file, kv);
            for seed in 0..4 {
                let expected = wander(&file, bench.hybrid(&file, None), seed);
                assert!(expected.len() > 1000);
                for kind in KINDS {
                    for (opaque, draws) in [(false, false), (true, false), (false, true)] {
                        let habits = Habits { opaque, draws, ..Habits::default() };
                        let hybrid = bench.hybrid(&file, Some((kind, habits.clone())));
                        assert!(
                            wander(&file, hybrid, seed) == expected,
                            "{kv:?}, seed {seed}, {kind}, {opaque}, {draws}"
                        );
                        let drew = habits.drew.load(Ordering::Relaxed) > 0;
                        assert_eq!(drew, draws && kind != BackendKind::GpuPrompts);
                        assert!(habits.ran.load(Ordering::Relaxed) > 0, "{kind} leaves it nothing to do");
                        let moved = habits.moved.each_ref().map(|count| count.load(Ordering::Relaxed));
                        let mixed = kind != BackendKind::Gpu && !opaque;
                        assert_eq!(
                            moved.iter().all(|&count| count > 0),
                            mixed,
                            "{moved:?} blocks of {CHUNK}"
                        );
                        assert_eq!(told(), Vec::<String>::new());
                    }
                }
            }
        }
    }
}

#[test]
fn a_session_survives_its_accelerator() {
    let mut lost = 0;
    for (_folder, model) in models() {
        let file = model.file().unwrap();
        for kv in [KvKind::F16, KvKind::Q8] {
            let mut bench = Bench::new(&file, kv);
            let expected = wander(&file, bench.hybrid(&file, None), 9);
            for kind in KINDS {
                for at in [0, 1, 2, 5, 9, 14, 30] {
                    for (nonsense, draws) in [(false, false), (true, false), (false, true), (true, true)] {
                        let (lost_at, nonsense_at) =
                            if nonsense { (None, Some(at)) } else { (Some(at), None) };
                        let habits = Habits { lost_at, nonsense_at, draws, ..Habits::default() };
                        let hybrid = bench.hybrid(&file, Some((kind, habits)));
                        assert!(wander(&file, hybrid, 9) == expected, "{kv:?}, {kind}, from head {at} on");
                        let told = told();
                        assert!(told.len() <= 1, "one line: {told:?}");
                        if let Some(line) = told.first() {
                            let why = if nonsense { "not finite" } else { "the fake was lost" };
                            assert!(line.contains(why) && line.ends_with("continuing on the CPU"), "{line}");
                            lost += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(lost > 150, "{lost} accelerators were missed");
}

#[test]
fn a_wrong_accelerator_is_rejected_before_it_is_used() {
    for (_folder, model) in models() {
        let file = model.file().unwrap();
        let weights = Weights::new(&file).unwrap();
        for kv in [KvKind::F32, KvKind::F16, KvKind::Q8] {
            let mut bench = Bench::new(&file, kv);
            let expected = wander(&file, bench.hybrid(&file, None), 1);
            let sound = (false, None);
            for (first, second) in [
                (sound, Some(sound)),
                ((true, None), None),
                ((false, Some(0)), None),
                ((true, None), Some(sound)),
                ((true, None), Some((true, None))),
                ((false, Some(0)), Some((true, None))),
            ] {
                let (hybrid, [make, make_other]) = bench.processors(&file);
                let habits = |(wrong, lost_at)| Habits { wrong, lost_at, ..Habits::default() };
                let accelerators =
                    [Some(make(habits(first))), second.map(|second| make_other(habits(second)))];
                let accelerators = accelerators.into_iter().flatten().map(Ok);
                let mut hybrid = hybrid.with_first_verified(&weights, accelerators, BackendKind::Gpu, tell);
                assert!(hybrid.history_and_logits().1.is_empty(), "no logits of the test's");
                let (told, good) = (told(), first == sound || second == Some(sound));
                assert_eq!(hybrid.kind(), if good { BackendKind::Gpu } else { BackendKind::Cpu });
                let expected_line = match (first == sound, good) {
                    (true, _) => None,
                    (false, true) => Some("continuing with the GPU's simplest kernels"),
                    (false, false) => Some("continuing on the CPU"),
                };
                assert_eq!(told.len(), usize::from(expected_line.is_some()), "one line: {told:?}");
                assert!(
                    told.iter().all(|line| expected_line.is_some_and(|end| line.ends_with(end))),
                    "{told:?}"
                );
                // The test leaves nothing behind.
                assert!(wander(&file, hybrid, 1) == expected);
            }
        }
    }
}

#[test]
fn hidden_states_survive_their_accelerator() {
    let mut lost = 0;
    for (_folder, model) in models() {
        let file = model.file().unwrap();
        let mut bench = Bench::new(&file, KvKind::F16);
        // A text that is no whole number of batches, before and after decoding, which the accelerator may run ahead.
        let mut states = |accelerator| {
            let mut session = Session::new(bench.hybrid(&file, accelerator));
            let mut sampler = Sampler::new(Sampling::GREEDY).unwrap();
            let tokens = |count: u32, step: u32| (0..count).map(|i| Token(i * step % 50)).collect::<Vec<_>>();
            let mut shown = Vec::new();
            for (count, step) in [(100, 1), (7, 3), (40, 7)] {
                let each = &mut |_: usize, state: &[f32]| shown.extend(state.iter().map(|x| x.to_bits()));
                session.hidden_states(&tokens(count, step), 2, each).unwrap();
                session.prefill(&tokens(1, 1)).unwrap();
                for _ in 0..3 {
                    let token = session.sample(&mut sampler);
                    shown.push(token.0);
                    session.prefill(&[token]).unwrap();
                    // The states of a batch that the accelerator may be past, and its logits after that.
                    let state = session.sequence_mut().hidden_states(0..1);
                    shown.extend(state.iter().map(|x| x.to_bits()));
                }
                shown.extend(session.tokens_and_logits().1.iter().map(|x| x.to_bits()));
            }
            (shown, session.sequence().kind())
        };
        let (expected, _) = states(None);
        for kind in KINDS {
            for at in [None, Some(0), Some(1), Some(3), Some(6), Some(9), Some(14)] {
                for (nonsense, draws) in [(false, false), (true, false), (false, true), (true, true)] {
                    let (lost_at, nonsense_at) = if nonsense { (None, at) } else { (at, None) };
                    let habits = Habits { lost_at, nonsense_at, draws, ..Habits::default() };
                    let (found, now) = states(Some((kind, habits)));
                    assert!(found == expected, "{kind}, from {at:?} on, {nonsense}, {draws}");
                    assert_eq!(told().len(), usize::from(now == BackendKind::Cpu));
                    lost += usize::from(now == BackendKind::Cpu);
                }
            }
        }
    }
    assert!(lost > 100, "{lost} accelerators were missed");
}

#[test]
fn greedy_text_continues_where_the_accelerator_was_lost() {
    let (_folder, model) = models().remove(1);
    let file = model.file().unwrap();
    let mut bench = Bench::new(&file, KvKind::F16);
    let mut reply = |accelerator| {
        let mut session = Session::new(bench.hybrid(&file, accelerator));
        session.prefill(&(0..100).map(|id| Token(id % 50)).collect::<Vec<_>>()).unwrap();
        let mut ids = Vec::new();
        for _ in 0..30 {
            let token = greedy(session.tokens_and_logits().1);
            ids.push(token.0);
            session.prefill(&[token]).unwrap();
        }
        (ids, session.sequence().kind())
    };
    let (expected, _) = reply(None);
    let habits = Habits { lost_at: Some(11), ..Habits::default() };
    let (found, kind) = reply(Some((BackendKind::Gpu, habits)));
    assert_eq!((found, kind), (expected, BackendKind::Cpu));
    assert_eq!(told(), ["the fake was lost; continuing on the CPU"]);
}
