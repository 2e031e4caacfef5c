//! The benchmarks: every prompt as the harness's own task files render it.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use conformance::shared;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use thimble_eval::{Question, Selection, Source, Task};

/// Of every item of every task the contexts and continuations: see `golden/prompts.py`.
#[test]
fn all_prompts_are_the_harness_s() {
    let Some(shared) = shared() else { return };
    let golden: BTreeMap<String, (usize, String)> =
        serde_json::from_str(include_str!("../golden/prompts.json")).unwrap();
    assert_eq!(golden.len(), Task::ALL.len());
    let source = Source::Folder(shared.join("data/eval"));
    for task in Task::ALL {
        let data = source.load(task, Selection::default()).unwrap();
        let mut digest = Sha256::new();
        for item in &data.items {
            match &item.question {
                Question::Text { prompt, .. } => digest.update(format!("{prompt}\0")),
                Question::Choices(choices) => {
                    for (index, continuation) in choices.continuations.iter().enumerate() {
                        digest.update(format!("{}\0{continuation}\0", choices.context(index)));
                    }
                }
            }
            digest.update("\n");
        }
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((data.rows, digest), golden[task.name()], "{}", task.name());
    }
}
