//! Rows, shapes and encoding. Against TRL and transformers: `trainer/tests/conversations.rs`.

use super::*;
use serde_json::{Value, json};
use thimble_runtime::chat::Role;

fn said(row: Value) -> Result<Vec<Vec<(Role, String)>>, String> {
    let flat = |example: ConversationExample| match example {
        ConversationExample::Messages { messages, .. } => {
            messages.into_iter().map(|message| (message.role, message.text)).collect()
        }
        ConversationExample::Completion { prompt, completion } => {
            vec![(Role::User, prompt), (Role::Assistant, completion)]
        }
    };
    Ok(ConversationExample::of_row(&row)?.into_iter().map(flat).collect())
}

fn chat(turns: &[(Role, &str)]) -> Vec<(Role, String)> {
    turns.iter().map(|&(role, text)| (role, text.to_owned())).collect()
}

#[test]
fn every_shape_is_recognized_by_its_fields() {
    use Role::{Assistant, System, User};
    let two = chat(&[(User, "q"), (Assistant, "a")]);
    let three = chat(&[(System, "s"), (User, "q"), (Assistant, "a")]);
    for row in [
        json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "assistant", "content": "a"}]}),
        json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
        json!({"instruction": "q", "input": "", "output": "a"}),
        json!({"instruction": "q", "response": "a", "context": null}),
        json!({"prompt": "q", "completion": "a"}),
        json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}),
        json!({"instruction": "q", "instances": [{"input": "", "output": "a"}]}),
    ] {
        assert_eq!(said(row.clone()), Ok(vec![two.clone()]), "{row}");
    }
    for row in [
        json!({"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
        json!({"system": "s", "instruction": "q", "output": "a"}),
        json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "system": "t"}),
    ] {
        assert_eq!(said(row.clone()), Ok(vec![three.clone()]), "{row}");
    }
    let instances = json!({"instruction": "q", "instances": [{"input": "x", "output": "a"}, {"input": "y", "output": "b"}]});
    let expected =
        vec![chat(&[(User, "q\n\nx"), (Assistant, "a")]), chat(&[(User, "q\n\ny"), (Assistant, "b")])];
    assert_eq!(said(instances), Ok(expected));
    let given = json!({"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]});
    let examples = ConversationExample::of_row(&given).unwrap();
    assert!(
        matches!(&examples[..], [ConversationExample::Messages { taught_from: 2, messages }] if messages.len() == 3)
    );
}

#[test]
fn a_wrong_row_says_what_was_expected_and_found() {
    for (row, expected) in [
        (json!([1]), "expected a JSON object, found a list"),
        (json!({}), "found the fields of an empty object"),
        (json!({"text": "x"}), "found the fields text; plain text is for"),
        (json!({"prompt": "x", "chosen": "a", "rejected": "b"}), "preference pairs are for"),
        (json!({"messages": "x"}), "messages: expected a list of messages, found a string"),
        (json!({"messages": []}), "messages: expected at least one message"),
        (
            json!({"messages": [{"role": "user", "content": null}]}),
            "messages[0].content: expected a string, found null",
        ),
        (json!({"messages": [{"content": "x"}]}), "messages[0]: expected role or from, found content"),
        (json!({"messages": [{"role": "judge", "content": "x"}]}), "messages[0].role: expected system, user"),
        (json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}), "expected parts of text"),
        (json!({"instruction": "x", "input": "y"}), "expected output or response beside instruction"),
        (json!({"instruction": 1, "output": "y"}), "instruction: expected a string, found a number"),
        (
            json!({"instruction": "x", "instances": [{"output": 1}]}),
            "instances[0]: output: expected a string",
        ),
        (
            json!({"prompt": "x", "completion": []}),
            "both strings or both lists of messages, found a string and a list",
        ),
    ] {
        let error = said(row.clone()).unwrap_err();
        assert!(error.contains(expected), "{row}: {error}");
    }
}
