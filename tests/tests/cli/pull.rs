//! `thimble pull`: what it says to the hub, and what it keeps.

use crate::hub;
use crate::setup::setup;
use std::fs;

#[test]
fn pull_gives_the_hub_its_token() {
    let bench = setup("hub-token");
    let hub = hub::Hub::gated(&bench.path("hf"), "codelion/SmolLM2-70M", "hf_good");
    let endpoint = hub.endpoint();
    let pull = |more: &[(&str, &str)]| {
        bench.run_with(&["pull", "smollm2-70m"], &[&[("HF_ENDPOINT", endpoint.as_str())], more].concat())
    };
    let refused = pull(&[]);
    refused.fails(1, "set HF_TOKEN");
    assert!(refused.stderr.contains("401") && !refused.stderr.contains("internet"), "{}", refused.stderr);
    let refused = pull(&[("HF_TOKEN", "hf_wrong")]);
    refused.fails(1, "the token from HF_TOKEN is not valid");
    assert!(!refused.stderr.contains("hf_wrong"), "{}", refused.stderr);
    pull(&[("HF_TOKEN", "hf_ good")]).fails(1, "HF_TOKEN: expected a token");
    pull(&[("HF_ENDPOINT", "localhost")]).fails(1, "HF_ENDPOINT: expected an address");
    // Each of the three places, in the order in which they count; a blank variable is none.
    let fetched = |more: &[(&str, &str)]| {
        for folder in ["home", "hub-cache/hub"] {
            let _ = fs::remove_dir_all(bench.path(folder));
        }
        pull(more).succeeds();
    };
    fetched(&[("HF_TOKEN", " hf_good\n")]);
    fs::create_dir_all(bench.path("hub-cache")).unwrap();
    fs::write(bench.path("hub-cache/token"), "hf_good\r\n").unwrap();
    fetched(&[("HF_TOKEN", "")]);
    fs::rename(bench.path("hub-cache/token"), bench.path("elsewhere")).unwrap();
    fs::write(bench.path("hub-cache/token"), "hf_wrong").unwrap();
    let elsewhere = bench.path("elsewhere");
    fetched(&[("HF_TOKEN_PATH", elsewhere.to_str().unwrap())]);
    // What is there needs no hub.
    pull(&[("HF_TOKEN", "hf_wrong")]).succeeds();
    let first = [("HF_TOKEN", "hf_wrong"), ("HF_TOKEN_PATH", elsewhere.to_str().unwrap())];
    fs::remove_dir_all(bench.path("home")).unwrap();
    fs::remove_dir_all(bench.path("hub-cache/hub")).unwrap();
    pull(&first).fails(1, "the token from HF_TOKEN is not valid");
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let bench = setup("hub-cut");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    hub.cut();
    bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &hub.endpoint())]).succeeds();
    assert!(hub.downloads("model.safetensors") > 2);
    bench.run(&["verify", "smollm2-70m"], b"").succeeds();
}

#[test]
fn a_model_of_a_later_format_is_kept() {
    let bench = setup("hub-newer");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    bench.install("smollm2-70m");
    let path = bench.path("home/models/smollm2-70m.thimble");
    let mut newer = fs::read(&path).unwrap();
    newer[8] = thimble_runtime::format::VERSION as u8 + 1;
    fs::write(&path, &newer).unwrap();
    let pull = |more: &[&str]| {
        bench.run_with(&[&["pull", "smollm2-70m"], more].concat(), &[("HF_ENDPOINT", &hub.endpoint())])
    };
    for more in [&[][..], &["--quant", "q4"]] {
        pull(more).fails(1, "needs a newer thimble");
        assert!(fs::read(&path).unwrap() == newer);
    }
    assert_eq!(hub.requests(), 0);
    pull(&["--force"]).succeeds();
    bench.run(&["verify", "smollm2-70m"], b"").succeeds();
}

#[test]
fn a_file_in_another_encoding_is_not_replaced_in_silence() {
    let bench = setup("hub-encoding");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    let pull = |quant: &str| {
        let pulled = bench.run_with(
            &["pull", "smollm2-70m", "--quant", quant],
            &[("HF_ENDPOINT", hub.endpoint().as_str())],
        );
        pulled.succeeds();
        pulled.stderr
    };
    assert!(!pull("q8").contains("replaced"));
    assert!(!pull("q8").contains("replaced"));
    let said = pull("f32");
    assert!(said.contains("replaced the q8 and q8row file of smollm2-70m"), "{said}");
}

#[test]
fn a_damaged_model_is_fetched_again() {
    let bench = setup("heal-model");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    bench.install("smollm2-70m");
    let path = bench.path("home/models/smollm2-70m.thimble");
    let whole = fs::read(&path).unwrap();
    for length in [whole.len() / 2, 0] {
        fs::write(&path, &whole[..length]).unwrap();
        bench.run(&["verify", "smollm2-70m"], b"").fails(1, "thimble pull smollm2-70m --force");
        bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &hub.endpoint())]).succeeds();
        bench.run(&["verify", "smollm2-70m"], b"").succeeds();
    }
}

#[test]
fn a_damaged_file_in_the_hubs_cache_is_fetched_again() {
    let bench = setup("heal-cache");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    let endpoint = hub.endpoint();
    let pull = |more: &[&str]| {
        bench.run_with(&[&["pull", "smollm2-70m"], more].concat(), &[("HF_ENDPOINT", &endpoint)])
    };
    pull(&[]).succeeds();
    // Cut off, and another one that is still JSON: only a new download helps against that.
    let repository = bench.path("hub-cache/hub/models--codelion--SmolLM2-70M");
    let snapshot = fs::read_dir(repository.join("snapshots")).unwrap().next().unwrap().unwrap().path();
    fs::write(snapshot.join("tokenizer.json"), "{\"version\":").unwrap();
    pull(&["--quant", "f32"]).succeeds();
    assert_eq!(hub.downloads("tokenizer.json"), 2);
    fs::write(snapshot.join("config.json"), "{}").unwrap();
    pull(&["--quant", "f32"]).fails(1, "--force");
    pull(&["--force"]).succeeds();
    assert_eq!(hub.downloads("model.safetensors"), 1, "weights that match their checksum are kept");
}

#[test]
fn list_shows_what_is_there() {
    let bench = setup("list");
    let rows = bench.json(&["list", "--json"]);
    assert!(rows.as_array().unwrap().iter().all(|row| row["path"].is_null()));
    bench.install("smollm2-70m");
    let rows = bench.json(&["list", "--json"]);
    assert_eq!(rows[0]["name"], "smollm2-70m");
    assert!(rows[0]["bytes"].as_u64().unwrap() > 0);
    bench.run(&["verify", "smollm2-70m"], b"").succeeds();
    bench.run(&["list"], b"").succeeds();
}

#[cfg(unix)]
#[test]
fn a_home_that_cannot_be_written_is_named() {
    let bench = setup("read-only");
    fs::write(bench.path("home"), "a file where the folder should be").unwrap();
    bench.run(&["pull", "smollm2-70m"], b"").fails(1, "home");
}

#[test]
fn pull_takes_a_model_from_the_hub() {
    let bench = setup("hub");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    let pulled = bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &hub.endpoint())]);
    pulled.succeeds();
    assert!(fs::metadata(pulled.stdout.trim()).unwrap().len() > 0);
    bench.run(&["verify", "smollm2-70m"], b"").succeeds();
    let provenance = bench.json(&["inspect", "smollm2-70m", "--json"])["provenance"].clone();
    assert_eq!(provenance["source"], "codelion/SmolLM2-70M");
    // It is there now: the hub is not asked again, and neither is it for a conversion from its cache.
    let before = hub.requests();
    bench.run(&["pull", "smollm2-70m"], b"").succeeds();
    assert_eq!(hub.requests(), before);
    assert_eq!(bench.staging(), 0, "nothing is left behind");
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let bench = setup("hub-twice");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    let endpoint = hub.endpoint();
    let pull = || bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &endpoint)]);
    let outputs =
        std::thread::scope(|scope| [scope.spawn(pull), scope.spawn(pull)].map(|t| t.join().unwrap()));
    for out in &outputs {
        out.succeeds();
    }
    assert_eq!(hub.downloads("model.safetensors"), 1);
}

#[test]
fn pull_takes_any_repository_of_a_known_family() {
    let bench = setup("hub-repository");
    let hub = hub::Hub::serve(&bench.path("hf"), "some-one/Tiny_1.5");
    let endpoint = hub.endpoint();
    let pulled = bench.run_with(&["pull", "some-one/Tiny_1.5"], &[("HF_ENDPOINT", &endpoint)]);
    pulled.succeeds();
    assert!(pulled.stdout.trim().ends_with("some-one--Tiny_1.5.thimble"), "{}", pulled.stdout);
    // From here on it has a name like those of the catalogue, and needs no hub.
    bench.run(&["verify", "some-one/Tiny_1.5"], b"").succeeds();
    bench.run(&["run", "some-one/Tiny_1.5", "--prompt", "a", "--tokens", "2"], b"").succeeds();
    bench.run(&["run", "some-one/Tiny_1.5", "--tokens", "2"], b"a").succeeds();
    assert!(bench.run(&["chat", "some-one/Tiny_1.5", "--max-tokens", "2"], b"hello\n").code == Some(0));
    let rows = bench.json(&["list", "--json"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "some-one/Tiny_1.5").unwrap();
    assert!(row["repository"] == "some-one/Tiny_1.5" && row["instruct"] == true, "{row}");
    // A file that this version cannot read is still there.
    let path = bench.path("home/models/some-one--Tiny_1.5.thimble");
    fs::write(&path, b"damaged").unwrap();
    let rows = bench.json(&["list", "--json"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "some-one/Tiny_1.5").unwrap();
    assert!(row["parameters"].is_null() && row["bytes"] == 7, "{row}");
    assert!(bench.run(&["list"], b"").stdout.contains("some-one/Tiny_1.5"));
    bench.run(&["remove", "some-one/Tiny_1.5"], b"").succeeds();
    bench.run(&["run", "some-one/Tiny_1.5", "--prompt", "a"], b"").fails(2, "thimble pull some-one/Tiny_1.5");
    bench.run(&["pull", "some-one/../x"], b"").fails(2, "no model is called");
    let missing = bench.run_with(&["pull", "some-one/other"], &[("HF_ENDPOINT", &endpoint)]);
    missing.fails(1, "there is no such file, revision or repository");
}

#[test]
fn a_repository_of_the_catalogue_is_that_entry() {
    let bench = setup("hub-catalogue");
    let hub = hub::Hub::serve(&bench.path("hf"), "Qwen/Qwen3-0.6B");
    let pulled = bench.run_with(&["pull", "Qwen/Qwen3-0.6B"], &[("HF_ENDPOINT", &hub.endpoint())]);
    pulled.succeeds();
    assert!(pulled.stdout.trim().ends_with("models/qwen3-0.6b.thimble"), "{}", pulled.stdout);
    for name in ["qwen3-0.6b", "Qwen/Qwen3-0.6B"] {
        bench.run(&["verify", name], b"").succeeds();
    }
}

#[test]
fn an_unknown_family_is_refused_before_its_weights_are_downloaded() {
    let bench = setup("hub-family");
    let config = fs::read_to_string(bench.path("hf/config.json")).unwrap();
    let other = config.replace("LlamaForCausalLM", "MambaForCausalLM").replace("\"llama\"", "\"mamba\"");
    fs::write(bench.path("hf/config.json"), other).unwrap();
    let hub = hub::Hub::serve(&bench.path("hf"), "state-spaces/mamba-tiny");
    let pulled = bench.run_with(&["pull", "state-spaces/mamba-tiny"], &[("HF_ENDPOINT", &hub.endpoint())]);
    pulled.fails(1, "state-spaces/mamba-tiny cannot be used");
    assert!(pulled.stderr.to_lowercase().contains("mamba"), "{}", pulled.stderr);
    assert_eq!((hub.downloads("model.safetensors"), hub.downloads("tokenizer.json")), (0, 0));
    assert_eq!(bench.staging(), 0);
}

#[test]
fn a_tokenizer_or_a_template_that_cannot_be_used_is_refused_before_the_weights_are_downloaded() {
    let bench = setup("hub-tokenizer");
    let tokenizer = fs::read_to_string(bench.path("hf/tokenizer.json")).unwrap();
    let template = "{% for message in messages %}{{ message.content | nonsense }}{% endfor %}";
    let wrong = [
        ("tokenizer.json", tokenizer.replace("\"BPE\"", "\"Unigram\""), "Unigram"),
        ("chat_template.jinja", template.to_string(), "nonsense"),
    ];
    for (file, text, named) in wrong {
        let path = bench.path("hf").join(file);
        let before = fs::read(&path);
        fs::write(&path, text).unwrap();
        let repository = format!("some-one/without-{named}");
        let hub = hub::Hub::serve(&bench.path("hf"), &repository);
        let pulled = bench.run_with(&["pull", &repository], &[("HF_ENDPOINT", &hub.endpoint())]);
        pulled.fails(1, "nothing of its weights was downloaded");
        let reason = pulled.stderr.split("cannot be used").nth(1).unwrap_or_default();
        assert!(reason.contains(named), "{}", pulled.stderr);
        assert_eq!((hub.downloads("model.safetensors"), bench.staging()), (0, 0));
        match before {
            Ok(before) => fs::write(&path, before).unwrap(),
            Err(_) => fs::remove_file(&path).unwrap(),
        }
    }
}

#[test]
fn pull_takes_weights_in_shards() {
    let bench = setup("hub-shards");
    bench.run(&["convert", "hf", "-o", "whole.thimble", "--quant", "q8"], b"").succeeds();
    bench.shard();
    let hub = hub::Hub::serve(&bench.path("hf"), "some-one/sharded");
    let pulled = bench.run_with(&["pull", "some-one/sharded"], &[("HF_ENDPOINT", &hub.endpoint())]);
    pulled.succeeds();
    assert_eq!(hub.downloads("model-00002-of-00002.safetensors"), 1);
    let ids = |model: &str| {
        bench.json(&["run", model, "--prompt", "hello", "--temperature", "0", "--tokens", "9", "--json"])["ids"].clone()
    };
    assert_eq!(ids("some-one/sharded"), ids("whole.thimble"));
    // The folder itself, by path, too.
    assert_eq!(ids("hf"), ids("whole.thimble"));
}

#[test]
fn a_gated_repository_says_how_to_get_access() {
    let bench = setup("hub-gated");
    let hub = hub::Hub::gated(&bench.path("hf"), "meta-llama/Llama-3.2-1B-Instruct", "hf_good");
    let endpoint = hub.endpoint();
    let refused = bench.run_with(&["pull", "llama-3.2-1b-instruct"], &[("HF_ENDPOINT", &endpoint)]);
    refused.fails(1, "accept its licence at");
    for part in ["meta-llama/Llama-3.2-1B-Instruct", "HF_TOKEN", "settings/tokens"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    let granted = [("HF_ENDPOINT", endpoint.as_str()), ("HF_TOKEN", "hf_good")];
    bench.run_with(&["pull", "llama-3.2-1b-instruct"], &granted).succeeds();
}

#[test]
fn damage_on_the_way_is_found() {
    let bench = setup("hub-damage");
    let hub = hub::Hub::serve(&bench.path("hf"), "codelion/SmolLM2-70M");
    hub.damage();
    let pulled = bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", &hub.endpoint())]);
    pulled.fails(1, "damaged");
    assert_eq!(bench.staging(), 0);
}

#[test]
fn offline_is_one_clear_sentence() {
    let bench = setup("offline");
    // A port where nobody listens.
    let pulled = bench.run_with(&["pull", "smollm2-70m"], &[("HF_ENDPOINT", "http://127.0.0.1:9")]);
    pulled.fails(1, "cannot be reached");
    assert_eq!(pulled.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1);
    assert!(pulled.stderr.contains("HF_ENDPOINT"), "{}", pulled.stderr);
}
