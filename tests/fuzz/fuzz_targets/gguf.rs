//! A GGUF head: arbitrary bytes never cause a panic or an allocation that they do not justify, and what parses
//! lies inside the file; whatever blocks are there, encoding them gives an error or a panel.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz gguf -- -rss_limit_mb=512`

#![no_main]

use libfuzzer_sys::fuzz_target;
use thimble_converter::quantize::{Rows, encode_panel};
use thimble_converter::read::Gguf;
use thimble_runtime::format::Encoding;

fuzz_target!(|data: &[u8]| {
    // Half of the inputs begin behind the magic and the version, which are hard to guess.
    let bytes = match data.split_first() {
        Some((first, rest)) if first % 2 == 0 => [b"GGUF\x03\0\0\0", rest].concat(),
        _ => data.to_vec(),
    };
    let Ok(gguf) = Gguf::parse(&bytes[..], bytes.len() as u64) else { return };
    for tensor in &gguf.tensors {
        let end = tensor.offset.checked_add(tensor.length).expect("checked by the parser");
        let stored = &bytes[tensor.offset as usize..end as usize];
        let columns = tensor.dimensions[0] as usize;
        let row = tensor.kind.row_bytes(columns).expect("checked by the parser");
        let rows = Rows { kind: tensor.kind, bytes: &stored[..row.min(stored.len())], columns };
        for encoding in Encoding::ALL.into_iter().skip(1) {
            let mut panel = vec![0; encoding.panel_bytes(columns).expect("inside the file")];
            let _ = encode_panel(encoding, rows, &mut panel);
        }
    }
});
