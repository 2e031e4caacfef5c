//! `thimble run`: which word is the model, which the prompt, and what comes from stdin.

use crate::setup::setup;
use serde_json::{Value, json};

#[test]
fn the_prompt_may_come_from_stdin_and_may_be_empty() {
    let bench = setup("run-stdin");
    let ids = |arguments: &[&str], stdin: &[u8]| {
        let out = bench.run(&[arguments, &["--tokens", "1", "--json"]].concat(), stdin);
        out.succeeds();
        serde_json::from_str::<Value>(&out.stdout).unwrap()["prompt_ids"].clone()
    };
    assert_eq!(ids(&["run", "tiny.thimble", "--prompt", "-"], b"hi\n"), json!([104, 105]));
    // One line end belongs to `echo`; any more, and those of a typed prompt, to the text.
    assert_eq!(ids(&["run", "tiny.thimble"], b"hi\n\r\n"), json!([104, 105, 10]));
    assert_eq!(ids(&["run", "tiny.thimble", "--prompt", "hi\n"], b""), json!([104, 105, 10]));
    assert_eq!(ids(&["run", "tiny.thimble"], b"hi"), json!([104, 105]));
    // Nothing at all: the end-of-text token stands in.
    assert_eq!(ids(&["run", "tiny.thimble", "--prompt", ""], b""), json!([256]));
    assert_eq!(ids(&["run", "tiny.thimble", ""], b""), json!([256]));
    bench.run(&["run", "tiny.thimble", "--prompt", "-"], b"a\xff").fails(1, "invalid byte at offset 1");
    for words in
        [&["run", "tiny.thimble"][..], &["run", "tiny.thimble", "-"], &["run", "tiny.thimble", "--chat"]]
    {
        for empty in ["", " \n"] {
            bench.run(words, empty.as_bytes()).fails(1, "stdin has no text");
        }
    }
}

#[test]
fn a_model_and_a_prompt_may_be_plain_words() {
    let bench = setup("run-words");
    bench.install("smollm2-135m-instruct");
    let ids = |words: &[&str]| {
        let out = bench.run(&[&["run"], words, &["--tokens", "1", "--json"]].concat(), b"");
        out.succeeds();
        serde_json::from_str::<Value>(&out.stdout).unwrap()["prompt_ids"].clone()
    };
    let hi = json!([104, 105]);
    assert_eq!(ids(&["tiny.thimble", "hi"]), hi);
    assert_eq!(ids(&["tiny.thimble", "--prompt", "hi"]), hi);
    assert_eq!(ids(&["smollm2-135m-instruct", "hi"]), hi);
    assert_eq!(ids(&["hi"]), hi, "the default model");
    assert_eq!(ids(&["--prompt", "tiny.thimble"]).as_array().unwrap().len(), 12);
    let run = |words: &[&str]| bench.run(&[&["run"], words].concat(), b"");
    // A Hugging Face folder is a model; another folder is none, nor is any other file.
    assert_eq!(ids(&["hf", "hi"]), hi);
    std::fs::create_dir(bench.path("hg")).unwrap();
    assert_eq!(ids(&["hg"]), json!([104, 103]));
    std::fs::write(bench.path("hi"), "notes").unwrap();
    assert_eq!(ids(&["hi"]), hi);
    run(&["./hf"]).fails(1, "stdin has no text");
    run(&["./hg"]).fails(2, "./hg is a folder without a config.json");
    // Not stdin is to blame.
    std::fs::write(bench.path("notes.thimble"), "notes").unwrap();
    run(&["notes.thimble"]).fails(1, "notes.thimble cannot be used");
    run(&["smolm2-135m-instruct"]).fails(2, "did you mean smollm2-135m-instruct?");
    run(&["tinny.thimble"]).fails(2, "--prompt \"tinny.thimble\"");
    run(&["the", "tide", "comes", "in"]).fails(2, "in quotes");
    run(&["the", "tide"]).fails(2, "in quotes");
    run(&["hello there", "tiny.thimble"]).fails(2, "thimble run tiny.thimble \"hello there\"");
    run(&["tiny.thimble", "hi", "--prompt", "ho"]).fails(2, "twice");
}
