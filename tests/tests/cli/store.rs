//! Models in the store (`show`, `cp`, `rm`), completion scripts and manual pages.

use crate::setup::setup;
use std::fs;

#[test]
fn a_model_gets_another_name_and_loses_it() {
    let bench = setup("store-cp");
    let run = |arguments: &[&str]| bench.run(arguments, b"");
    run(&["cp", "tiny.thimble", "mine"]).succeeds();
    assert!(run(&["list"]).stdout.contains("\nmine "));
    run(&["run", "mine", "--prompt", "hi", "--tokens", "2"]).succeeds();
    run(&["cp", "mine", "again"]).succeeds();
    // A folder is converted first.
    run(&["cp", "hf", "converted.q8"]).succeeds();
    run(&["cp", "tiny.thimble", "mine"]).fails(2, "--force");
    run(&["cp", "tiny.thimble", "mine", "--force"]).succeeds();
    run(&["rm", "mine"]).succeeds();
    run(&["remove", "again", "converted.q8"]).succeeds();
    run(&["rm", "mine"]).fails(2, "no model or conversion is called \"mine\"");
    run(&["show", "mine"]).fails(2, "no model is called");
    for (to, said) in
        [("smollm2-70m", "a name of the catalogue"), ("a/b", "cannot name"), ("..", "cannot name")]
    {
        run(&["cp", "tiny.thimble", to]).fails(2, said);
    }
    run(&["cp", "none.thimble", "x"]).fails(2, "there is no file none.thimble");
    fs::write(bench.path("broken.thimble"), "no model").unwrap();
    run(&["cp", "broken.thimble", "x"]).fails(1, "broken.thimble cannot be used");
    assert_eq!(bench.staging(), 0);
}

#[test]
fn show_answers_what_a_person_asks() {
    let bench = setup("store-show");
    let card = "---\nlicense: apache-2.0\n---\n";
    fs::write(bench.path("hf/README.md"), card).unwrap();
    fs::write(bench.path("hf/generation_config.json"), r#"{"temperature": 0.6, "top_k": 20}"#).unwrap();
    bench.run(&["convert", "hf", "-o", "told.thimble", "--quant", "q4"], b"").succeeds();
    let out = bench.json(&["show", "told.thimble", "--json"]);
    assert_eq!(
        (&out["context"], &out["layers"], &out["chat"]),
        (&256.into(), &2.into(), &true.into()),
        "{out}"
    );
    assert_eq!((&out["licence"], &out["sampling"]["top_k"]), (&"apache-2.0".into(), &20.into()), "{out}");
    assert!(out["encodings"].as_array().unwrap().iter().any(|name| name == "q4nl"), "{out}");
    assert_eq!(out["bytes"].as_u64().unwrap(), fs::metadata(bench.path("told.thimble")).unwrap().len());
    let table = bench.run(&["show", "told.thimble"], b"");
    table.succeeds();
    for expected in ["context        256 tokens", "temperature 0.6, top_k 20", "apache-2.0", "none merged"] {
        assert!(table.stdout.contains(expected), "{expected}: {}", table.stdout);
    }
    assert!(bench.run(&["show", "tiny.thimble"], b"").stdout.contains("no recommendation"));
    bench.run(&["show", "smollm2-70m"], b"").fails(1, "thimble pull smollm2-70m");
}

#[test]
fn shells_and_man_read_about_every_command() {
    let bench = setup("store-man");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = bench.run(&["completions", shell], b"");
        script.succeeds();
        for word in ["chats", "perplexity", "top-p"] {
            assert!(script.stdout.contains(word), "{shell}: {word}");
        }
    }
    bench.run(&["completions", "tcsh"], b"").fails(2, "tcsh");
    bench.run(&["man", "pages"], b"").succeeds();
    let page = |name: &str| fs::read_to_string(bench.path("pages").join(name)).unwrap();
    assert!(page("thimble.1").contains("thimble\\-chat(1)"));
    assert!(
        page("thimble-chat.1").contains("\\-\\-continue") && page("thimble-chats-rm.1").contains("Delete")
    );
    fs::write(bench.path("file"), "").unwrap();
    bench.run(&["man", "file"], b"").fails(1, "file");
}
