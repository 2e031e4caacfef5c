//! What becomes of a model's source: from a folder, and from the hub.

use super::hub::Hub;
use super::setup::setup;
use std::fs;

#[test]
fn a_folder_converted_without_a_choice_says_what_it_became() {
    let bench = setup("choice");
    let told = bench.run(&["convert", "hf", "-o", "m.thimble"], b"");
    told.succeeds();
    assert!(told.stderr.contains("stored as f32 (0."), "{}", told.stderr);
    assert!(told.stderr.contains("--quant q4 makes about 0."), "{}", told.stderr);
    for (source, more) in [("hf", &["--quant", "q8"][..]), ("m.thimble", &[])] {
        let told = bench.run(&[&["convert", source, "-o", "n.thimble"], more].concat(), b"");
        told.succeeds();
        assert!(!told.stderr.contains("stored as"), "{}", told.stderr);
    }
}

#[test]
fn pull_takes_the_files_that_declare_tokens() {
    let bench = setup("hub-tokens");
    let config = bench.path("hf/tokenizer_config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"eos_token\"", "\"old_eos\"")).unwrap();
    fs::write(bench.path("hf/special_tokens_map.json"), "{\"eos_token\": \"<|im_end|>\"}").unwrap();
    // The one row that is left.
    fs::write(bench.path("hf/added_tokens.json"), "{\"<tool>\": 259}").unwrap();
    let hub = Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &hub.endpoint())]).succeeds();
    let tokens = bench.run(&["tokens", "smollm2-70m"], b"<tool><|im_end|>");
    tokens.succeeds();
    assert_eq!(tokens.stdout.split_whitespace().collect::<Vec<_>>(), ["259", "258"]);
}

#[test]
fn errors_name_what_is_wrong_once() {
    let bench = setup("errors");
    let lines = b"{\"context\": \"a\", \"continuation\": \"b\"}\n\n{x";
    bench.run(&["score", "tiny.thimble", "--input", "-"], lines).fails(1, "error: stdin, line 3, column 2: ");
    bench
        .run(&["perplexity", "tiny.thimble", "--input", "-"], b"")
        .fails(1, "error: --input is empty: expected at least one window of");
    std::fs::create_dir(bench.path("empty")).unwrap();
    bench
        .run(&["export", "tiny.thimble", "-o", "empty"], b"")
        .fails(1, "error: cannot write empty: it exists already");
    bench.run(&["convert", "empty", "-o", "x"], b"").fails(1, "error: empty holds no model");
    let quant = ["convert", "hf", "-o", "x.gguf", "--quant", "q4"];
    bench.run(&quant, b"").fails(2, "--target-bits, --target-bytes and --merge");
    let inspected = bench.run(&["inspect", "tiny.thimble"], b"").stdout;
    assert!(inspected.contains("258 \"<|im_end|>\"") && !inspected.contains(" null\n"), "{inspected}");
}
