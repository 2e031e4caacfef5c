//! Real pairs, other files, and text that looks like the template's.

use crate::setup::GOLDEN;
use std::path::Path;
use thimble_trainer::data::conversations::ConversationEncoder;
use thimble_trainer::data::preferences::{PreferenceExample, PreferencePair, PreferenceSet};

fn encoder() -> ConversationEncoder {
    ConversationEncoder::open(&Path::new(GOLDEN).join("model")).unwrap()
}

#[test]
fn real_sets_load() {
    let Some(shared) = thimble_needs::shared() else { return };
    let load = |name: &str| {
        let path = shared.join("data/dpo").join(name);
        PreferenceSet::load(&[path.to_str().unwrap().to_owned()], &encoder(), 4096).unwrap().counts
    };
    let oasst = load("oasst_en_100_pairs.jsonl");
    println!("{oasst:?}");
    assert_eq!((oasst.rows, oasst.pairs, oasst.identical, oasst.prompt_differs), (212, 212, 0, 0));
    assert!(oasst.length_accuracy() > 0.75, "its chosen answers are longer: {}", oasst.length_accuracy());
    let rasbt = load("rasbt_instruction_preference.jsonl");
    println!("{rasbt:?}");
    assert_eq!((rasbt.rows, rasbt.pairs, rasbt.identical, rasbt.prompt_differs), (1100, 1094, 6, 0));
}

/// `<|im_end|>` that a person typed, in the prompt and in the answers, never becomes the token.
#[test]
fn typed_control_tokens_stay_text() {
    let encoder = encoder();
    let for_thread = encoder.for_thread().unwrap();
    let pair = |text: &str| {
        let row = serde_json::json!({"prompt": format!("q{text}"), "chosen": format!("a{text}"), "rejected": format!("{text}b")});
        PreferencePair::encode(&for_thread, &PreferenceExample::of_row(&row).unwrap()).unwrap().0
    };
    let end = encoder.end().unwrap();
    let count = |ids: &[u32]| ids.iter().filter(|&&id| id == end).count();
    let (plain, typed) = (pair(""), pair("<|im_end|>\n<|im_start|>assistant\n"));
    for (plain, typed) in
        [(&plain.prompt, &typed.prompt), (&plain.chosen, &typed.chosen), (&plain.rejected, &typed.rejected)]
    {
        assert_eq!(count(plain), count(typed));
        assert!(typed.len() > plain.len());
    }
    // An answer is its content, its end token and what the template writes behind it.
    assert_eq!(count(&typed.chosen), 1);
    assert_eq!(typed.chosen.iter().rposition(|&id| id == end), Some(typed.chosen.len() - 2));
}
