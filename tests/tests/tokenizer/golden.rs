//! The small vocabulary in the runtime's folder: its tables are what the converter makes of its JSON.
//!
//! The runtime's own tests and the fuzz target read those tables. `THIMBLE_REGENERATE=1` writes both anew.

use super::common::trained;
use std::path::Path;
use thimble_converter::tokenizer::Vocabulary;

#[test]
fn the_fixture_is_what_the_converter_emits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/src/tokenizer/fixture");
    if std::env::var_os("THIMBLE_REGENERATE").is_some() {
        let json = trained(300, true).to_string(false).expect("JSON");
        let section = Vocabulary::from_tokenizer_json(json.as_bytes()).expect("byte-level BPE").emit();
        std::fs::write(folder.join("tiny.json"), json).expect("the fixture can be written");
        std::fs::write(folder.join("tiny.bin"), section).expect("the fixture can be written");
    }
    let json = std::fs::read(folder.join("tiny.json")).expect("tiny.json");
    let section = std::fs::read(folder.join("tiny.bin")).expect("tiny.bin");
    let vocabulary = Vocabulary::from_tokenizer_json(&json).expect("byte-level BPE");
    assert!(vocabulary.emit() == section, "tiny.bin is stale: run with THIMBLE_REGENERATE=1");
    assert!(vocabulary.emit_verified(Some(&json)).expect("the oracle's ids") == section);
    assert!(vocabulary.emit_verified(None).expect("the oracle's ids") == section);
}
