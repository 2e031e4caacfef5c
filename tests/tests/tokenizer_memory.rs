//! Encoding and decoding allocate nothing: a counting allocator watches this program's one test.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{Specials, Tokenizer};

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

#[test]
fn encoding_and_decoding_allocate_nothing() {
    let section = include_bytes!("../../runtime/src/tokenizer/fixture/tiny.bin");
    let text = "Hello there, it's 1234 <|im_start|>! \u{4F60}\u{597D}".repeat(20) + &"x".repeat(10_000);
    let tokenizer = Tokenizer::parse(section, 512).expect("a good section");
    let mut scratch = vec![0; Tokenizer::scratch_bytes(tokenizer.longest_word(&text))];
    let mut out = vec![Token(0); text.len()];

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let tokenizer = Tokenizer::parse(section, 512).expect("a good section");
    let longest = tokenizer.longest_word(&text);
    let parsed = tokenizer.encode(&text, Specials::Parse, &mut scratch, &mut out).expect("enough room");
    let bytes: usize = out[..parsed].iter().map(|&token| tokenizer.token_bytes(token).len()).sum();
    let escaped = tokenizer.encode(&text, Specials::Escape, &mut scratch, &mut out).expect("enough room");
    let after = ALLOCATIONS.load(Ordering::Relaxed);

    assert_eq!(after - before, 0);
    assert!(longest >= 10_000 && bytes == text.len() && escaped > parsed);
}
