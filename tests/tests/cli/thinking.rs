//! `--thinking`: what the chat template is told, and what is shown.

use super::setup::setup;
use std::fs;

/// ChatML; `enable_thinking` decides how an answer begins.
const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + \
    '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}\
    {% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}\
    {% elif enable_thinking is defined %}{{ '<think>\n' }}{% endif %}{% endif %}";

#[test]
fn the_template_is_told_and_reasoning_can_be_left_out() {
    let bench = setup("thinking");
    let run = |model: &str, more: &[&str]| {
        let run =
            ["run", model, "--chat", "--prompt", "hello", "--temperature", "0", "--tokens", "8", "--json"];
        bench.run(&[&run[..], more].concat(), b"")
    };
    let ids = |model: &str, more: &[&str]| {
        let out = run(model, more);
        out.succeeds();
        let out: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
        let ids = out["prompt_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap());
        ids.collect::<Vec<_>>()
    };
    let plain = ids("tiny.thimble", &[]);
    let told = run("tiny.thimble", &["--thinking", "off"]);
    told.succeeds();
    assert!(told.stderr.contains("no setting for thinking"), "{}", told.stderr);
    assert_eq!(ids("tiny.thimble", &["--thinking", "off"]), plain);
    fs::write(bench.path("hf/chat_template.jinja"), TEMPLATE).unwrap();
    bench.run(&["convert", "hf", "-o", "thinks.thimble", "--quant", "f32"], b"").succeeds();
    let default = ids("thinks.thimble", &[]);
    assert_eq!((&default, ids("thinks.thimble", &["--thinking", "hide"])), (&plain, default.clone()));
    let text = |ids: &[u64]| ids.iter().map(|&id| id as u8 as char).collect::<String>();
    for (mode, tail) in [("on", "<think>\n"), ("off", "<think>\n\n</think>\n\n")] {
        let found = ids("thinks.thimble", &["--thinking", mode]);
        assert!(found.starts_with(&plain));
        assert_eq!(text(&found[plain.len()..]), tail);
    }
    let chat = |mode: &str| {
        let chat = ["chat", "thinks.thimble", "--temperature", "0", "--max-tokens", "8", "--thinking", mode];
        let told = bench.run(&chat, b"hello\n");
        told.succeeds();
        told
    };
    // What the prompt opened is shown as if the model had written it; a pipe gets the tags.
    assert!(chat("on").stdout.starts_with("<think>\n"), "{:?}", chat("on"));
    assert!(!chat("off").stdout.contains("<think>"));
    run("thinks.thimble", &["--thinking", "perhaps"]).fails(2, "[possible values: on, off, hide]");
    bench.run(&["run", "thinks.thimble", "--thinking", "on", "--prompt", "a"], b"").fails(2, "--chat");
}
