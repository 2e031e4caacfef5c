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
