//! After start a session and the steps of several sequences allocate nothing, and a chat nothing but the strings that it
//! hands out: a counting allocator watches this program's tests.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "model/golden.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod golden;
mod tiny;

use golden::Grid;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use thimble_converter::adapter::{SourceAdapter, SourceLowRank};
use thimble_converter::{BlockType, ConversionOptions, Quant, convert};
use thimble_ffi::{
    ApiError, Chat, ChatOptions, CompletionOptions, Listener, ListenerError, Model, ModelOptions, Reply,
};
use thimble_files::OpenedAdapter;
use thimble_host::{
    InferencePlan, InferenceSettings, LogProbabilities, SpinPool, generator, set_adapters, slots,
};
use thimble_runtime::Token;
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::embedding::Pooling;
use thimble_runtime::format::{Config, TensorRole};
use thimble_runtime::kernels::{KvKind, ThreadPool};
use thimble_runtime::sampler::{Sampler, Sampling, TokenMask};
use thimble_runtime::sequences::Part;
use thimble_runtime::stop::{StopMatcher, StopStatus, TextStream};

/// Counts what every thread asks for.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same for `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Without the test harness, whose own thread allocates when a test takes long.
fn main() {
    a_session_allocates_nothing_after_start();
    println!("a session allocates nothing after start: passed");
    steps_of_several_sequences_allocate_nothing();
    println!("steps of several sequences allocate nothing: passed");
    a_chat_allocates_only_what_it_hands_out();
    println!("a chat allocates only what it hands out: passed");
}

/// An adapter of rank 4 for each query, gate and down matrix.
fn adapter(config: &Config, path: &Path) -> OpenedAdapter {
    let roles = [TensorRole::Query, TensorRole::Gate, TensorRole::Down];
    let all = (0..config.layers as u16).flat_map(|layer| roles.map(|role| (layer, role)));
    let numbers = |count: usize| (0..count).map(|i| (i as f32 * 0.37).sin() * 0.1).collect();
    let matrix = |(layer, role): (u16, TensorRole)| {
        let (rows, columns) = role.shape(config);
        let (a, b) = (numbers(4 * columns), numbers(rows * 4));
        SourceLowRank { role, layer, rows, columns, rank: 4, scale: 0.5, kind: BlockType::F32, a, b }
    };
    let matrices = all.map(matrix).collect();
    let adapter =
        SourceAdapter { source: "made up".into(), base: None, fingerprint: None, layers: None, matrices };
    adapter.write(path, Quant::F16).unwrap();
    OpenedAdapter::read(path).unwrap()
}

fn a_session_allocates_nothing_after_start() {
    let golden = &golden::all()[0];
    let modes = [(false, KvKind::F16), (false, KvKind::Q8), (true, KvKind::F32)];
    for (quant, grid) in [(Quant::Q4Min, Grid::Nibbles), (Quant::Q8, Grid::Bytes), (Quant::F16, Grid::Bytes)]
    {
        let folder = tempfile::tempdir().unwrap();
        let model = golden.model(grid, quant, folder.path());
        let adapter = adapter(model.file().unwrap().config(), &folder.path().join("a.adapter"));
        for (exact, kv) in modes {
            for threads in [1, 2, 4] {
                let settings = InferenceSettings {
                    threads: Some(threads),
                    kv: Some(kv),
                    exact,
                    logit_rows: Some(3),
                    batch: Some(32),
                    adapter_rank: 4,
                    ..InferenceSettings::default()
                };
                let file = model.file().unwrap();
                let plan = InferencePlan::new(file.config(), &settings).unwrap();
                let mut memory = plan.allocate().unwrap();
                let pool = SpinPool::new(threads).unwrap();
                // What the caller of a session prepares once.
                let prompt = golden.tokens();
                let stops: [&[u8]; 2] = [b"zqzq", b"\nUser:"];
                let mut held = vec![0; StopMatcher::buffer_len(&stops)];
                let biases = [(Token(7), -1.5), (Token(9), f32::NEG_INFINITY)];
                let mut text = String::with_capacity(1 << 16);
                let mut probabilities = LogProbabilities::new(file.config().vocab, 5);
                let mut embedding = vec![0.0; file.config().hidden];
                // All tokens but one in each word.
                let allowed = vec![!8_u32; file.config().vocab.div_ceil(32)];
                let sampling = Sampling {
                    temperature: 0.9,
                    top_k: Some(50),
                    top_p: Some(0.95),
                    min_p: Some(0.02),
                    repetition_penalty: 1.2,
                    frequency_penalty: 0.1,
                    presence_penalty: 0.1,
                    penalty_window: None,
                    seed: 5,
                };
                let weighted =
                    [1.0, 0.25].map(|weight| WeightedAdapter { file: adapter.file().unwrap(), weight });
                // A thread that starts allocates: wait until all have.
                everybody_works(&pool);

                let before = ALLOCATIONS.load(Ordering::SeqCst);
                let mut session = generator(&file, &plan, &mut memory, &pool).unwrap();
                let mut sampler = Sampler::new(sampling).unwrap().with_bias(&biases).unwrap();
                let mut stream = TextStream::new(&stops, &mut held).unwrap();
                let mut generated = 0;
                let mut shown = 0;
                for turn in 0..2 {
                    // Other adapters for each turn: one, then two.
                    set_adapters(&mut session, &weighted[..=turn]).unwrap();
                    let reused = session.reuse(&prompt);
                    session.prefill(&prompt[reused..]).unwrap();
                    for _ in 0..60 {
                        probabilities.observe(session.tokens_and_logits().1);
                        let token = match turn {
                            0 => session.sample(&mut sampler),
                            _ => session.sample_masked(&mut sampler, TokenMask::new(&allowed)).unwrap(),
                        };
                        probabilities.drawn(token);
                        let show = &mut |part: &str| {
                            shown += part.len();
                            text.push_str(part);
                        };
                        if stream.push(file.tokenizer().token_bytes(token), show) == StopStatus::Stopped {
                            break;
                        }
                        session.prefill(&[token]).unwrap();
                        generated += 1;
                    }
                    stream.finish(&mut |part| shown += part.len());
                    if turn == 0 {
                        session.rewind(3).unwrap();
                        sampler.reseed(6);
                    }
                }
                session.rewind(0).unwrap();
                let mut scored = 0;
                session.score(&prompt, 1, &mut |_| scored += 1).unwrap();
                for pooling in [Pooling::Mean, Pooling::Last] {
                    session.text_embedding(&prompt, pooling, &mut embedding).unwrap();
                }
                let refused = session.prefill(&[Token(u32::MAX)]).is_err();
                let after = ALLOCATIONS.load(Ordering::SeqCst);

                assert_eq!(after - before, 0, "{quant}, exact {exact}, {kv:?}, {threads} threads");
                assert!(probabilities.last().is_some_and(|last| last.alternatives.len() == 5));
                assert!(embedding.iter().any(|&x| x != 0.0));
                assert!(generated > 100 && shown > 100 && scored == prompt.len() - 1 && refused);
            }
        }
    }
    // The counter works.
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    drop(std::hint::black_box(Box::new(1)));
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > before);
}

/// Joins, leaves, prefill beside decoding, masks, adapters, copies and rewinds.
fn steps_of_several_sequences_allocate_nothing() {
    let golden = &golden::all()[0];
    for (quant, grid) in [(Quant::Q4Min, Grid::Nibbles), (Quant::F16, Grid::Bytes)] {
        let folder = tempfile::tempdir().unwrap();
        let model = golden.model(grid, quant, folder.path());
        let file = model.file().unwrap();
        let adapter = adapter(file.config(), &folder.path().join("a.adapter"));
        let weighted = [WeightedAdapter { file: adapter.file().unwrap(), weight: 1.0 }];
        for threads in [1, 2, 4] {
            let settings = InferenceSettings {
                threads: Some(threads),
                batch: Some(32),
                adapter_rank: 4,
                sequences: Some(4),
                ..InferenceSettings::default()
            };
            let plan = InferencePlan::new(file.config(), &settings).unwrap();
            let mut memory = plan.allocate().unwrap();
            let pool = SpinPool::new(threads).unwrap();
            let prompt = golden.tokens();
            let allowed = vec![!8_u32; file.config().vocab.div_ceil(32)];
            let sampling = Sampling { temperature: 0.9, seed: 5, ..Sampling::GREEDY };
            let mut samplers = [0, 1, 2, 3].map(|_| Sampler::new(sampling).unwrap());
            let mut all = slots(&file, &plan, &mut memory, &pool).unwrap();
            everybody_works(&pool);

            let before = ALLOCATIONS.load(Ordering::SeqCst);
            let (mut drawn, mut states) = (0, 0);
            for turn in 0..3 {
                all.set_adapters(1, &weighted[..turn % 2]).unwrap();
                let count = prompt.len().min(20);
                all.reuse(0, &prompt[..count]);
                let rest = all.position(0)..count;
                all.step(&[Part { slot: 0, tokens: &prompt[rest] }]).unwrap();
                all.rewind(1, 0).unwrap();
                for step in 0..20 {
                    let tokens = [0, 1, 2, 3].map(|slot| match slot {
                        0 | 1 if step % 2 == 0 => all.sample(slot, &mut samplers[slot]),
                        _ => all
                            .sample_masked(slot, &mut samplers[slot], TokenMask::new(&allowed))
                            .unwrap_or(Token(1)),
                    });
                    // The second slot joins later, with several tokens, and the last leaves.
                    let second: &[Token] = if step == 3 { &prompt[..3] } else { &tokens[1..2] };
                    let parts = [
                        Part { slot: 0, tokens: &tokens[..1] },
                        Part { slot: 1, tokens: second },
                        Part { slot: 3, tokens: &tokens[3..] },
                    ];
                    all.step(&parts[..if step < 3 { 1 } else { 3 - step / 15 }]).unwrap();
                    drawn += parts.len();
                }
                all.copy(0, 2, 3).unwrap();
                all.run(&[Part { slot: 2, tokens: &prompt[..4] }]).unwrap();
                states += all.hidden_states(2).len();
                all.each_logits(2, 1, &mut |_, logits| states += logits.len());
                assert!(all.step(&[Part { slot: 4, tokens: &prompt[..4] }]).is_err());
                (0..4).for_each(|slot| all.rewind(slot, 0).unwrap());
            }
            let after = ALLOCATIONS.load(Ordering::SeqCst);
            assert_eq!(after - before, 0, "{quant}, {threads} threads");
            assert!(drawn > 100 && states > 0);
        }
    }
}

/// Returns when every thread of the pool has run a shard: each shard waits for all others.
fn everybody_works(pool: &SpinPool) {
    let waiting = AtomicUsize::new(pool.threads());
    pool.run(pool.threads(), &|_| {
        waiting.fetch_sub(1, Ordering::SeqCst);
        while waiting.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    });
}

/// Notes how much had been allocated when each piece came, in memory of its own. Whoever waits for the end looks for it now
/// and then: a thread that waits in another way may allocate.
struct Collector {
    at: Mutex<Vec<usize>>,
    ended: Mutex<Option<Result<Reply, ApiError>>>,
}

impl Listener for Collector {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        assert!(!text.is_empty());
        self.at.lock().unwrap().push(ALLOCATIONS.load(Ordering::SeqCst));
        Ok(())
    }
    fn on_reasoning(&self, _text: String) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_progress(&self, _done: u32, _of: u32) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError> {
        *self.ended.lock().unwrap() = Some(Ok(reply));
        Ok(())
    }
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError> {
        *self.ended.lock().unwrap() = Some(Err(error));
        Ok(())
    }
}

fn a_chat_allocates_only_what_it_hands_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("hf")).unwrap();
    tiny::Folder::new(tiny::ODD, BlockType::F32).write(path("hf").as_ref(), 1);
    convert(path("hf").as_ref(), path("m").as_ref(), &ConversionOptions::default(), &mut |_| {}).unwrap();
    for threads in [1, 2] {
        let model = ModelOptions { threads: Some(threads), ..ModelOptions::default() };
        let model = Model::open(path("m"), model).unwrap();
        let sampling = thimble_ffi::Sampling { temperature: Some(1.5), seed: Some(7), ..Default::default() };
        let (sampling, max_tokens) = (Some(sampling), Some(200));
        let mut pieces = 0;
        let mut heard = |ask: &dyn Fn(Arc<Collector>)| {
            let collector =
                Arc::new(Collector { at: Mutex::new(Vec::with_capacity(1000)), ended: Mutex::new(None) });
            ask(Arc::clone(&collector));
            let reply = loop {
                if let Some(reply) = collector.ended.lock().unwrap().take() {
                    break reply.unwrap();
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            };
            let at = std::mem::take(&mut *collector.at.lock().unwrap());
            // The string of each piece, and nothing else from the first piece to the last.
            let steps: Vec<usize> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(reply.tokens >= at.len() as u32 && !steps.is_empty());
            let more = steps.iter().sum::<usize>() - steps.len();
            // A second thread may start so late that what its start takes falls among the pieces.
            assert!(more <= 4 * (threads as usize - 1), "{threads} threads: {steps:?}");
            pieces += at.len();
        };
        for journal in [None, Some(path("journal"))] {
            let options =
                ChatOptions { sampling: sampling.clone(), max_tokens, journal, ..ChatOptions::default() };
            let chat = Chat::new(Arc::clone(&model), options).unwrap();
            // Few enough for the context: where turns have to give way, the prompt is made anew.
            for _ in 0..3 {
                heard(&|collector| drop(chat.send("hello".to_owned(), collector, None)));
            }
        }
        let options = CompletionOptions {
            sampling,
            max_tokens,
            stop: vec!["zqzq".to_owned()],
            ..CompletionOptions::default()
        };
        heard(&|collector| {
            let completion =
                Arc::clone(&model).complete("hello".to_owned(), options.clone(), collector).unwrap();
            // Dropped it would end: leave it to the thread.
            std::mem::forget(completion);
        });
        assert!(pieces > 50, "{pieces} pieces");
    }
}
