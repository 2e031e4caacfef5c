//! The shapes of preference rows in the wild, recognized by their fields.

use crate::data::conversations::{
    ConversationExample, ShapeResult, TrainingMessage, kind, messages, text, with_system,
};
use serde_json::{Map, Value};
use thimble_runtime::chat::Role;

/// The markers of transcripts, as in Anthropic's `hh-rlhf`.
const SPEAKERS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];

/// Two answers to the same messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceExample {
    /// What is answered; the last message is not the assistant's.
    pub prompt: Vec<TrainingMessage>,
    /// The better answer: a message of the assistant, and further turns if there are any.
    pub chosen: Vec<TrainingMessage>,
    /// The worse answer.
    pub rejected: Vec<TrainingMessage>,
}

impl PreferenceExample {
    /// The pair in a row with `chosen` and `rejected`, each an answer (a string, a message or messages) or a whole
    /// conversation.
    ///
    /// Answers need a `prompt` (a string or messages) or its relatives: `conversations`, `question`, or `instruction` with
    /// `input`. The beginning that whole conversations share is the prompt; a `prompt` beside them must repeat a part of
    /// it. Transcripts of `Human:` and `Assistant:` are whole conversations. `system` comes first.
    ///
    /// # Errors
    /// The row has none of these shapes, or a wrong value in one.
    pub fn of_row(row: &Value) -> ShapeResult<PreferenceExample> {
        let fields = row.as_object().ok_or_else(|| format!("expected a JSON object, found {}", kind(row)))?;
        let (chosen, rejected) = (answer(fields, "chosen")?, answer(fields, "rejected")?);
        let given = prompt(fields)?;
        let example = match (is_whole(&chosen), is_whole(&rejected)) {
            (false, false) => match given {
                Some(prompt) => PreferenceExample { prompt, chosen, rejected },
                None => {
                    return Err(format!(
                        "expected a prompt (prompt, question, instruction or conversations), or whole conversations in \
                         chosen and rejected; found the fields {}",
                        names(fields)
                    ));
                }
            },
            (true, true) => shared_beginning(chosen, rejected, given)?,
            (whole, _) => {
                let [one, other] = if whole { ["chosen", "rejected"] } else { ["rejected", "chosen"] };
                return Err(format!(
                    "expected chosen and rejected in the same shape; {one} is a whole conversation, {other} an answer"
                ));
            }
        };
        example.checked(fields)
    }

    /// The prompt with an answer behind it.
    pub fn conversation(&self, answer: &[TrainingMessage]) -> ConversationExample {
        let messages = [&self.prompt, answer].concat();
        ConversationExample::Messages { messages, taught_from: self.prompt.len() }
    }

    fn checked(self, fields: &Map<String, Value>) -> ShapeResult<PreferenceExample> {
        for (name, answer) in [("chosen", &self.chosen), ("rejected", &self.rejected)] {
            if answer.last().is_none_or(|last| last.role != Role::Assistant) {
                return Err(format!("{name}: expected its last message to be the assistant's"));
            }
        }
        if self.prompt.last().is_none_or(|last| last.role == Role::Assistant) {
            return Err("expected a prompt that ends with a message of the user".to_owned());
        }
        Ok(PreferenceExample { prompt: with_system(fields, self.prompt)?, ..self })
    }
}

fn answer(fields: &Map<String, Value>, name: &str) -> ShapeResult<Vec<TrainingMessage>> {
    match fields.get(name) {
        None | Some(Value::Null) => Err(format!(
            "expected chosen and rejected, found {}; single conversations are for `thimble-train finetune`",
            names(fields)
        )),
        Some(Value::String(text)) => {
            Ok(transcript(text).unwrap_or_else(|| vec![TrainingMessage::new(Role::Assistant, text.clone())]))
        }
        Some(message @ Value::Object(_)) => messages(&Value::Array(vec![message.clone()]), name),
        Some(list) => messages(list, name),
    }
}

/// The prompt that the row gives apart from the answers.
fn prompt(fields: &Map<String, Value>) -> ShapeResult<Option<Vec<TrainingMessage>>> {
    for name in ["prompt", "question", "conversations", "messages"] {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(list @ Value::Array(_)) => return messages(list, name).map(Some),
            Some(value) => {
                let text = text(value, name)?;
                let message = || vec![TrainingMessage::new(Role::User, text.clone())];
                return Ok(Some(transcript(&text).map(without_open_turn).unwrap_or_else(message)));
            }
        }
    }
    let Some(instruction) = fields.get("instruction").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    // As in a row of instructions, whose answer does not matter here.
    let mut row = Map::from_iter([("instruction".to_owned(), instruction.clone())]);
    row.extend(fields.get("input").map(|input| ("input".to_owned(), input.clone())));
    row.insert("output".to_owned(), Value::String(String::new()));
    let examples = ConversationExample::of_row(&Value::Object(row))?;
    Ok(examples.into_iter().find_map(|example| match example {
        ConversationExample::Messages { mut messages, .. } => {
            messages.pop();
            Some(messages)
        }
        ConversationExample::Completion { .. } => None,
    }))
}

fn names(fields: &Map<String, Value>) -> String {
    if fields.is_empty() {
        return "an empty object".to_owned();
    }
    fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Whether messages are a whole conversation, not an answer alone.
fn is_whole(messages: &[TrainingMessage]) -> bool {
    messages.first().is_some_and(|first| first.role != Role::Assistant)
}

/// Splits two whole conversations behind their shared beginning, where both continue with the assistant.
fn shared_beginning(
    mut chosen: Vec<TrainingMessage>,
    mut rejected: Vec<TrainingMessage>,
    given: Option<Vec<TrainingMessage>>,
) -> ShapeResult<PreferenceExample> {
    let same = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
    let answers =
        |at: usize, all: &[TrainingMessage]| all.get(at).is_some_and(|next| next.role == Role::Assistant);
    let at = (1..=same).rev().find(|&at| answers(at, &chosen) && answers(at, &rejected));
    let at = at.ok_or(
        "expected chosen and rejected to begin with the same messages, followed by two answers of the assistant; found \
         no such beginning",
    )?;
    let (chosen, rejected, mut prompt) = (chosen.split_off(at), rejected.split_off(at), rejected);
    let Some(given) = given else { return Ok(PreferenceExample { prompt, chosen, rejected }) };
    let repeats = |prompt: &[TrainingMessage]| prompt.starts_with(&given) || prompt.ends_with(&given);
    let behind_system = prompt.iter().position(|message| message.role != Role::System).unwrap_or(0);
    if !repeats(&prompt) && !repeats(&prompt[behind_system..]) {
        if given.iter().any(|message| message.role != Role::System) || behind_system > 0 {
            return Err(
                "expected a prompt that chosen and rejected repeat, as both are whole conversations; found another"
                    .to_owned(),
            );
        }
        prompt.splice(0..0, given);
    }
    Ok(PreferenceExample { prompt, chosen, rejected })
}

/// The messages of a transcript; none for other text.
fn transcript(text: &str) -> Option<Vec<TrainingMessage>> {
    let text = format!("\n\n{}", text.trim_start());
    if !text.starts_with(SPEAKERS[0].0) {
        return None;
    }
    let marker = |from: usize| {
        let places = SPEAKERS
            .iter()
            .filter_map(|&(marker, role)| Some((from + text[from..].find(marker)?, marker, role)));
        places.min_by_key(|&(at, ..)| at)
    };
    let mut messages = Vec::new();
    let mut next = marker(0);
    while let Some((at, speaker, role)) = next {
        let from = at + speaker.len();
        next = marker(from);
        let end = next.map_or(text.len(), |(at, ..)| at);
        messages.push(TrainingMessage::new(role, text[from..end].trim()));
    }
    messages.iter().any(|message| message.role == Role::Assistant).then_some(messages)
}

/// A transcript that is a prompt may end with the marker of the answer.
fn without_open_turn(mut messages: Vec<TrainingMessage>) -> Vec<TrainingMessage> {
    messages.pop_if(|last| last.role == Role::Assistant && last.text.is_empty());
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use thimble_runtime::chat::Role::{Assistant, System, User};

    fn said(turns: &[(Role, &str)]) -> Vec<TrainingMessage> {
        turns.iter().map(|&(role, text)| TrainingMessage::new(role, text)).collect()
    }

    fn pair(prompt: &[(Role, &str)]) -> Result<PreferenceExample, String> {
        let [chosen, rejected] = ["good", "bad"].map(|text| said(&[(Assistant, text)]));
        Ok(PreferenceExample { prompt: said(prompt), chosen, rejected })
    }

    #[test]
    fn every_shape_gives_the_same_pair() {
        let user = |text: &str| json!({"role": "user", "content": text});
        let answer = |text: &str| json!({"role": "assistant", "content": text});
        let (good, bad) = (answer("good"), answer("bad"));
        for row in [
            json!({"prompt": "q", "chosen": "good", "rejected": "bad"}),
            json!({"prompt": [user("q")], "chosen": "good", "rejected": "bad"}),
            json!({"prompt": "q", "chosen": [good], "rejected": [bad]}),
            json!({"prompt": [user("q")], "chosen": good, "rejected": bad}),
            json!({"chosen": [user("q"), good], "rejected": [user("q"), bad]}),
            json!({"prompt": null, "chosen": [user("q"), good], "rejected": [user("q"), bad]}),
            json!({"prompt": "q", "chosen": [user("q"), good], "rejected": [user("q"), bad], "score": 3}),
            json!({"prompt": [user("q")], "chosen": [user("q"), good], "rejected": [user("q"), bad]}),
            json!({"question": "q", "chosen": "good", "rejected": "bad", "system": ""}),
            json!({"instruction": "q", "input": "", "output": "x", "chosen": "good", "rejected": "bad"}),
            json!({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}}),
            json!({"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"}),
            json!({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "good", "rejected": "bad"}),
        ] {
            assert_eq!(PreferenceExample::of_row(&row), pair(&[(User, "q")]), "{row}");
        }
        let system = json!({"role": "system", "content": "s"});
        for row in [
            json!({"system": "s", "question": "q", "chosen": "good", "rejected": "bad"}),
            json!({"system": "s", "prompt": "q", "chosen": [user("q"), good], "rejected": [user("q"), bad]}),
            json!({"prompt": "q", "chosen": [system, user("q"), good], "rejected": [system, user("q"), bad]}),
            json!({"prompt": [system], "chosen": [user("q"), good], "rejected": [user("q"), bad]}),
        ] {
            assert_eq!(PreferenceExample::of_row(&row), pair(&[(System, "s"), (User, "q")]), "{row}");
        }
        let row = json!({"instruction": "q", "input": "i", "chosen": "good", "rejected": "bad"});
        assert_eq!(PreferenceExample::of_row(&row), pair(&[(User, "q\n\ni")]));
    }

    #[test]
    fn longer_conversations_split_where_the_answers_differ() {
        let turns = |texts: &[&str]| -> Value {
            let message = |(index, text): (usize, &&str)| json!({"role": if index % 2 == 0 { "user" } else { "assistant" }, "content": text});
            texts.iter().enumerate().map(message).collect()
        };
        let row =
            json!({"chosen": turns(&["q", "a", "r", "good"]), "rejected": turns(&["q", "a", "r", "bad"])});
        assert_eq!(PreferenceExample::of_row(&row), pair(&[(User, "q"), (Assistant, "a"), (User, "r")]));
        // They differ in a question: the answers begin with the assistant before it.
        let row =
            json!({"chosen": turns(&["q", "a", "r", "good"]), "rejected": turns(&["q", "a", "s", "bad"])});
        let found = PreferenceExample::of_row(&row).unwrap();
        assert_eq!(found.prompt, said(&[(User, "q")]));
        assert_eq!(found.chosen, said(&[(Assistant, "a"), (User, "r"), (Assistant, "good")]));
        // Equal answers are a pair, which the set leaves out.
        let same = turns(&["q", "a"]);
        let found = PreferenceExample::of_row(&json!({"chosen": same, "rejected": same})).unwrap();
        assert_eq!(found.chosen, found.rejected);
    }

    #[test]
    fn a_wrong_row_says_what_was_expected_and_found() {
        let user = json!([{"role": "user", "content": "q"}]);
        let other = json!([{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]);
        let whole = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
        for (row, expected) in [
            (json!([1]), "expected a JSON object, found a list"),
            (
                json!({"prompt": "q", "completion": "a"}),
                "expected chosen and rejected, found prompt, completion",
            ),
            (json!({"prompt": "q", "chosen": "a"}), "expected chosen and rejected"),
            (json!({"chosen": "a", "rejected": "b"}), "expected a prompt"),
            (
                json!({"prompt": 3, "chosen": "a", "rejected": "b"}),
                "prompt: expected a string, found a number",
            ),
            (
                json!({"prompt": "q", "chosen": 3, "rejected": "b"}),
                "chosen: expected a list of messages, found a number",
            ),
            (json!({"prompt": "q", "chosen": [], "rejected": "b"}), "chosen: expected at least one message"),
            (
                json!({"prompt": "q", "chosen": whole, "rejected": "b"}),
                "in the same shape; chosen is a whole",
            ),
            (json!({"chosen": whole, "rejected": other}), "to begin with the same messages"),
            (json!({"chosen": user, "rejected": user}), "to begin with the same messages"),
            (json!({"prompt": "p", "chosen": whole, "rejected": whole}), "found another"),
            (json!({"prompt": whole, "chosen": "a", "rejected": "b"}), "ends with a message of the user"),
        ] {
            let found = PreferenceExample::of_row(&row).unwrap_err();
            assert!(found.contains(expected), "{row}: {found}");
        }
    }
}
