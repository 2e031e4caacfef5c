//! Models of other formats by path: converted once, found again, converted anew when they change, and removed.

use super::setup::{Bench, Output, setup};
use std::fs;

/// The line that says a model is being converted.
const SAID: &str = "(once; kept in";

/// Runs a greedy completion and returns the ids, with the rest of the output.
fn ids(bench: &Bench, model: &str) -> (String, Output) {
    let run = ["run", model, "--prompt", "hello", "--temperature", "0", "--tokens", "9", "--json"];
    let output = bench.run(&run, b"");
    output.succeeds();
    let parsed: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    (parsed["ids"].to_string(), output)
}

/// The names of the converted files.
fn files(bench: &Bench) -> Vec<String> {
    let Ok(entries) = fs::read_dir(bench.path("home/converted")) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "index.json").collect();
    names.sort();
    names
}

#[test]
fn a_folder_is_converted_once_and_then_found() {
    let bench = setup("converted");
    bench.run(&["convert", "hf", "-o", "q8.thimble", "--quant", "q8"], b"").succeeds();
    let chat = |model: &str| {
        let told = bench.run(&["chat", model, "--max-tokens", "4", "--temperature", "0"], b"hello\n");
        told.succeeds();
        told
    };
    let first = chat("hf");
    assert!(first.stderr.contains(SAID) && first.stderr.contains("to q8"), "{}", first.stderr);
    let [file] = &files(&bench)[..] else { panic!("{:?}", files(&bench)) };
    let written = fs::metadata(bench.path("home/converted").join(file)).unwrap().modified().unwrap();
    let second = chat("hf");
    assert!(!second.stderr.contains(SAID), "{}", second.stderr);
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(second.stdout, chat("q8.thimble").stdout, "the encoding that pull uses");
    assert_eq!(fs::metadata(bench.path("home/converted").join(file)).unwrap().modified().unwrap(), written);
    // The same content elsewhere, and touched: it is hashed again and found.
    bench.run(&["export", "tiny.thimble", "-o", "out"], b"").succeeds();
    fs::create_dir(bench.path("copy")).unwrap();
    for entry in fs::read_dir(bench.path("hf")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), bench.path("copy").join(entry.file_name())).unwrap();
    }
    assert!(!chat("./copy").stderr.contains(SAID));
    assert_eq!(files(&bench).len(), 1);
    chat("out");
    assert_eq!(files(&bench).len(), 2);
}

#[test]
fn every_command_takes_a_source() {
    let bench = setup("converted-commands");
    bench.run(&["convert", "hf", "-o", "m.gguf", "--type", "q8_0"], b"").succeeds();
    bench.run(&["convert", "m.gguf", "-o", "m.thimble"], b"").succeeds();
    let (expected, _) = ids(&bench, "m.thimble");
    let (found, output) = ids(&bench, "m.gguf");
    assert_eq!((found, output.stderr.as_str()), (expected, ""), "--json says nothing");
    fs::write(bench.path("text"), "the cat sat on the mat and looked at the dog. ".repeat(4)).unwrap();
    for arguments in [
        &["inspect", "m.gguf", "--json"][..],
        &["tokens", "m.gguf", "--json"],
        &["perplexity", "hf", "--input", "text", "--window", "32", "--json"],
        &["bench", "m.gguf", "--test", "decode", "--depth", "0", "--rounds", "1", "--json"],
        &["run", "hf/model.safetensors", "--prompt", "a", "--tokens", "2"],
        &["run", "hf", "--prompt", "a", "--tokens", "2"],
    ] {
        bench.run(arguments, b"a").succeeds();
    }
    let line = b"{\"context\": \"a\", \"continuation\": \"b\"}\n";
    bench.run(&["score", "m.gguf", "--input", "-"], line).succeeds();
    // From stdin, with the folder as the only argument.
    bench.run(&["run", "hf", "--tokens", "2"], b"a").succeeds();
    bench.run(&["verify", "m.gguf"], b"").fails(1, "thimble convert m.gguf");
    assert_eq!(files(&bench).len(), 2, "{:?}", files(&bench));
}

#[test]
fn a_source_that_changes_is_converted_anew() {
    let bench = setup("converted-changes");
    for quant in ["q8_0", "q4_0"] {
        bench.run(&["convert", "hf", "-o", &format!("{quant}.gguf"), "--type", quant], b"").succeeds();
    }
    fs::copy(bench.path("q8_0.gguf"), bench.path("m.gguf")).unwrap();
    let (before, _) = ids(&bench, "m.gguf");
    let old = files(&bench);
    fs::copy(bench.path("q4_0.gguf"), bench.path("m.gguf")).unwrap();
    let told = bench.run(&["tokens", "m.gguf"], b"a");
    assert!(told.stderr.contains(SAID), "{}", told.stderr);
    let (after, _) = ids(&bench, "m.gguf");
    assert_ne!(before, after);
    let new = files(&bench);
    assert!(new.len() == 1 && new != old, "{new:?}");
    // A template beside the weights counts, too.
    bench.run(&["tokens", "hf"], b"a").succeeds();
    fs::write(bench.path("hf/chat_template.jinja"), "{{ messages[0].content }}{{ 'x' }}").unwrap();
    assert!(bench.run(&["tokens", "hf"], b"a").stderr.contains(SAID));
    // What is damaged in the cache is made again.
    let path = bench.path("home/converted").join(&new[0]);
    fs::write(&path, b"").unwrap();
    assert!(bench.run(&["tokens", "m.gguf"], b"a").stderr.contains(SAID));
    bench.run(&["verify", path.to_str().unwrap()], b"").succeeds();
    fs::write(bench.path("home/converted/index.json"), b"{").unwrap();
    bench.run(&["tokens", "m.gguf"], b"a").succeeds();
}

#[test]
fn two_processes_at_once_convert_once() {
    let bench = setup("converted-twice");
    let run = || bench.run(&["tokens", "hf"], b"a");
    let outputs =
        std::thread::scope(|scope| [scope.spawn(run), scope.spawn(run)].map(|thread| thread.join().unwrap()));
    for output in &outputs {
        output.succeeds();
    }
    assert_eq!(outputs.iter().filter(|output| output.stderr.contains(SAID)).count(), 1);
    assert_eq!(files(&bench).len(), 1);
}

#[test]
fn an_interrupted_conversion_leaves_nothing_that_looks_complete() {
    let bench = setup("converted-cut");
    // As a killed process leaves it.
    let unfinished = bench.path("home/converted/.unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("half.thimble"), b"half").unwrap();
    fs::create_dir(bench.path("home/converted/.unfinished-1")).unwrap();
    assert!(bench.run(&["tokens", "hf"], b"a").stderr.contains(SAID));
    assert_eq!(files(&bench).len(), 1, "{:?}", files(&bench));
}

#[test]
fn conversions_are_listed_and_removed() {
    let bench = setup("converted-list");
    bench.run(&["convert", "hf", "-o", "m.gguf", "--type", "q8_0"], b"").succeeds();
    let all = || {
        let rows = bench.json(&["list", "--json"]);
        let rows = rows.as_array().unwrap().iter().filter(|row| !row["source"].is_null()).cloned();
        rows.collect::<Vec<_>>()
    };
    assert_eq!(all().len(), 0);
    for source in ["hf", "m.gguf"] {
        bench.run(&["tokens", source], b"a").succeeds();
    }
    let rows = all();
    assert_eq!(rows.len(), 2);
    assert!(rows[0]["source"].as_str().unwrap().ends_with("hf") && rows[0]["bytes"].as_u64().unwrap() > 0);
    let name = rows[0]["name"].as_str().unwrap();
    assert!(bench.run(&["list"], b"").stdout.contains(name));
    bench.run(&["remove", "nothing"], b"").fails(2, "nothing");
    bench.run(&["remove"], b"").fails(2, "NAME");
    bench.run(&["remove", name], b"").succeeds();
    assert_eq!(all().len(), 1);
    bench.run(&["remove", "m.gguf"], b"").succeeds();
    assert_eq!((all().len(), files(&bench).len()), (0, 0));
    bench.run(&["tokens", "hf"], b"a").succeeds();
    // Nothing names the file any more.
    fs::write(bench.path("home/converted/index.json"), b"{").unwrap();
    let removed = bench.run(&["remove", "--converted"], b"");
    removed.succeeds();
    assert!(removed.stderr.contains("belongs to no source"), "{}", removed.stderr);
    assert_eq!(files(&bench).len(), 0);
    bench.run(&["tokens", "hf"], b"a").succeeds();
    bench.run(&["remove", "--converted"], b"").succeeds();
    assert_eq!(files(&bench).len(), 0);
    bench.install("smollm2-70m");
    bench.run(&["remove", "smollm2-70m"], b"").succeeds();
    bench.run(&["remove", "smollm2-70m"], b"").fails(1, "not on this machine");
    // A source that is gone is still listed.
    bench.run(&["tokens", "m.gguf"], b"a").succeeds();
    fs::remove_file(bench.path("m.gguf")).unwrap();
    assert!(bench.run(&["list"], b"").stdout.contains("m.gguf (gone)"));
}

#[test]
fn what_cannot_be_converted_is_named() {
    let bench = setup("converted-wrong");
    fs::create_dir(bench.path("empty")).unwrap();
    bench.run(&["chat", "empty"], b"hello\n").fails(1, "empty is a folder without a config.json");
    fs::write(bench.path("m.gguf"), b"GGUF\x03\0\0\0").unwrap();
    bench.run(&["chat", "m.gguf"], b"hello\n").fails(1, "m.gguf");
    let config = fs::read_to_string(bench.path("hf/config.json")).unwrap();
    let other = config.replace("LlamaForCausalLM", "MambaForCausalLM").replace("\"llama\"", "\"mamba\"");
    fs::write(bench.path("hf/config.json"), other).unwrap();
    let told = bench.run(&["chat", "hf"], b"hello\n");
    told.fails(1, "hf");
    assert!(told.stderr.to_lowercase().contains("mamba") && !told.stderr.contains(SAID), "{}", told.stderr);
    assert_eq!(files(&bench).len(), 0);
    // A home that is a file: the way out is named.
    fs::write(bench.path("hf/config.json"), config).unwrap();
    fs::remove_dir_all(bench.path("home")).unwrap();
    fs::write(bench.path("home"), "a file").unwrap();
    bench.run(&["chat", "hf"], b"hello\n").fails(1, "THIMBLE_HOME");
    assert!(bench.run(&["chat", "hf"], b"hello\n").stderr.contains("thimble convert"));
}

/// A full disk: Linux can limit the size of a process's files.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let bench = setup("converted-full");
    let told = bench.run_limited(&["tokens", "hf"], 20);
    told.fails(1, "cannot be kept");
    assert!(told.stderr.contains("free some space") && told.stderr.contains("thimble convert"), "{told:?}");
    assert_eq!(files(&bench).len(), 0, "{:?}", files(&bench));
}
