//! What hostile grammars hold: an allocator that counts bytes watches this program's one test.

use serde_json::{Map, Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thimble_grammar::{Grammar, GrammarLimits, GrammarSource, Vocabulary};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same for `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System.alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Peak and remaining bytes of compiling all of these, above what was held before.
fn cost(vocabulary: &Arc<Vocabulary>, sources: impl Iterator<Item = GrammarSource>) -> (usize, usize) {
    // Enough for a busy machine: what a limit of time would end, this test would not see.
    let limits = GrammarLimits { compile_time: Duration::from_secs(120), ..GrammarLimits::default() };
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    for source in sources {
        drop(Grammar::compile(vocabulary, &source, &limits));
    }
    (PEAK.load(Ordering::Relaxed) - before, HELD.load(Ordering::Relaxed).saturating_sub(before))
}

#[test]
fn hostile_grammars_hold_a_bounded_amount() {
    const MB: usize = 1 << 20;
    let vocabulary = Vocabulary::of_bytes().expect("256 bytes");
    let schema = |schema: Value| std::iter::once(GrammarSource::JsonSchema(schema.to_string()));

    // Each definition refers to an anchor, which any definition might have.
    let names = (0..5_000).map(|i| (format!("d{i}"), json!({ "$ref": "#z" })));
    let definitions: Map<String, Value> = names.collect();
    let (peak, _) = cost(&vocabulary, schema(json!({ "$defs": definitions, "$ref": "#z" })));
    assert!(peak < 64 * MB, "anchors: {} MB", peak / MB);

    // The place of each alternative repeats the name.
    let alternatives = vec![json!({}); 20_000];
    let properties = json!({ "properties": { "n".repeat(500_000): { "anyOf": alternatives } } });
    let (peak, _) = cost(&vocabulary, schema(properties));
    assert!(peak < 128 * MB, "a long name: {} MB", peak / MB);

    // All beginnings are forced, letter by letter.
    let repeated = ('a'..='f').map(|letter| GrammarSource::Regex(format!("({letter}{{900}}){{1000}}")));
    let (peak, kept) = cost(&vocabulary, repeated);
    assert!(peak < 400 * MB && kept < 16 * MB, "repetitions: {} MB, {} MB kept", peak / MB, kept / MB);

    // What is not refused is kept within a limit.
    let long = (0..40).map(|at| GrammarSource::Regex(format!("x{{{}}}", 15_000 + at)));
    let (_, kept) = cost(&vocabulary, long);
    assert!(kept < 128 * MB, "long texts: {} MB kept", kept / MB);
}
