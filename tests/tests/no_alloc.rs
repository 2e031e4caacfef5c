//! After start a session allocates nothing: a counting allocator watches this program's one test.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "model/golden.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod golden;
mod tiny;

use golden::Grid;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use thimble_converter::Quant;
use thimble_host::{Plan, Pool, Settings, generator};
use thimble_runtime::Token;
use thimble_runtime::kernels::{KvKind, Team};
use thimble_runtime::sampler::{Sampler, Sampling};
use thimble_runtime::stop::{Progress, StopMatcher, TextStream};

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
    println!("a session allocates nothing after start: 1 passed, 0 failed");
}

fn a_session_allocates_nothing_after_start() {
    let golden = &golden::all()[0];
    let modes = [(false, KvKind::F16), (false, KvKind::Q8), (true, KvKind::F32)];
    for (quant, grid) in [(Quant::Q4Min, Grid::Nibbles), (Quant::Q8, Grid::Bytes), (Quant::F16, Grid::Bytes)]
    {
        let folder = tempfile::tempdir().unwrap();
        let model = golden.model(grid, quant, folder.path());
        for (exact, kv) in modes {
            for threads in [1, 2, 4] {
                let settings = Settings {
                    threads: Some(threads),
                    kv: Some(kv),
                    exact,
                    logit_rows: Some(3),
                    batch: Some(32),
                    ..Settings::default()
                };
                let file = model.file().unwrap();
                let plan = Plan::new(file.config(), &settings).unwrap();
                let mut memory = plan.allocate().unwrap();
                let pool = Pool::new(threads).unwrap();
                // What the caller of a session prepares once.
                let prompt = golden.tokens();
                let stops: [&[u8]; 2] = [b"zqzq", b"\nUser:"];
                let mut held = vec![0; StopMatcher::buffer_len(&stops)];
                let biases = [(Token(7), -1.5), (Token(9), f32::NEG_INFINITY)];
                let mut text = String::with_capacity(1 << 16);
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
                // A thread that starts allocates: wait until all have.
                everybody_works(&pool);

                let before = ALLOCATIONS.load(Ordering::SeqCst);
                let mut session = generator(&file, &plan, &mut memory, &pool).unwrap();
                let mut sampler = Sampler::new(sampling).unwrap().with_bias(&biases).unwrap();
                let mut stream = TextStream::new(&stops, &mut held).unwrap();
                let mut generated = 0;
                let mut shown = 0;
                for turn in 0..2 {
                    let reused = session.reuse(&prompt);
                    session.prefill(&prompt[reused..]).unwrap();
                    for _ in 0..60 {
                        let token = session.sample(&mut sampler);
                        let show = &mut |part: &str| {
                            shown += part.len();
                            text.push_str(part);
                        };
                        if stream.push(file.tokenizer().token_bytes(token), show) == Progress::Stopped {
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
                let refused = session.prefill(&[Token(u32::MAX)]).is_err();
                let after = ALLOCATIONS.load(Ordering::SeqCst);

                assert_eq!(after - before, 0, "{quant}, exact {exact}, {kv:?}, {threads} threads");
                assert!(generated > 100 && shown > 100 && scored == prompt.len() - 1 && refused);
            }
        }
    }
    // The counter works.
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    drop(std::hint::black_box(Box::new(1)));
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > before);
}

/// Returns when every thread of the pool has run a shard: each shard waits for all others.
fn everybody_works(pool: &Pool) {
    let waiting = AtomicUsize::new(pool.threads());
    pool.run(pool.threads(), &|_| {
        waiting.fetch_sub(1, Ordering::SeqCst);
        while waiting.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    });
}
