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
    newer[8] += 1;
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
