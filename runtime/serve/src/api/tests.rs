//! Requests as clients write them.

use super::chat::{ChatFields, CommonFields};
use super::response::base64;
use super::sampling::SamplingFields;
use super::{Input, Inputs, fields, object};
use serde_json::json;

#[test]
fn base64_is_that_of_rfc_4648() {
    let vectors = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];
    for (bytes, expected) in vectors {
        assert_eq!(base64(bytes.as_bytes()), expected);
    }
    assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
}

#[test]
fn inputs_have_four_forms() {
    let read = |value: serde_json::Value| serde_json::from_value::<Inputs>(value).map(Inputs::into_vec);
    let text = |text: &str| Input::Text(text.to_owned());
    assert_eq!(read(json!("a")).unwrap(), [text("a")]);
    assert_eq!(read(json!(["a", "b"])).unwrap(), [text("a"), text("b")]);
    assert_eq!(read(json!([1, 2])).unwrap(), [Input::Tokens(vec![1, 2])]);
    assert_eq!(read(json!([[1], [2, 3]])).unwrap(), [Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]);
    for wrong in [json!(1), json!([1, "a"]), json!([-1]), json!([1.5]), json!({}), json!(null)] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn fields_are_read_one_group_at_a_time() {
    let body = object(
        br#"{"model": "m", "messages": [], "n": 2, "temperature": 0.5, "seed": -1, "unknown": {"x": [1]}}"#,
    );
    let body = body.unwrap();
    let common: CommonFields = fields(&body).unwrap();
    assert_eq!(
        (common.model.as_deref(), common.choices().unwrap(), common.streams()),
        (Some("m"), 2, (false, false))
    );
    fields::<SamplingFields>(&body).unwrap();
    let chat: ChatFields = fields(&body).unwrap();
    assert_eq!(
        (chat.alternatives().unwrap(), chat.max_tokens().unwrap(), chat.thinking()),
        (None, None, None)
    );
    let body = json!({ "messages": [], "logprobs": true, "max_tokens": 3, "max_completion_tokens": 4, "reasoning_effort": "none" });
    let chat: ChatFields = fields(&body).unwrap();
    assert_eq!(
        (chat.alternatives().unwrap(), chat.max_tokens().unwrap(), chat.thinking()),
        (Some(0), Some(4), Some(false))
    );
    let wrong = fields::<SamplingFields>(&json!({ "logit_bias": { "1": "much" } })).unwrap_err();
    assert_eq!(wrong.to_json()["error"]["param"], "logit_bias.1");
    for (body, expected) in [
        (json!({ "n": "two" }), "expected a whole number"),
        (json!({ "stream": 1 }), "expected true or false"),
        (json!({ "stream_options": 3 }), "expected an object"),
    ] {
        let wrong = fields::<CommonFields>(&body).unwrap_err();
        let message = wrong.to_json()["error"]["message"].to_string();
        assert!(message.contains(expected) && !message.contains("struct"), "{message}");
    }
}
