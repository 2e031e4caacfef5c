//! The test conversations that a reduction must reproduce.

use std::collections::BTreeSet;
use thimble_chat::template::JinjaTemplate;
use thimble_runtime::chat::{Message, Role};

/// A conversation and its rendering.
pub(super) struct TestConversation {
    messages: Vec<(Role, String)>,
    pub(super) generate: bool,
    /// Whether it is an optional system message, then user and assistant in turn.
    pub(super) regular: bool,
    /// The template's rendering; `None` if it refuses.
    pub(super) expected: Option<String>,
}

impl TestConversation {
    pub(super) fn messages(&self) -> Vec<Message<'_>> {
        self.messages.iter().map(|(role, text)| Message { role: *role, text }).collect()
    }

    /// Whether the conversation begins with a system message.
    pub(super) fn has_system(&self) -> bool {
        self.messages.first().is_some_and(|(role, _)| *role == Role::System)
    }
}

/// The limit of the template's string literals that appear in messages.
const MAX_LITERALS: usize = 64;

const CONTENTS: [&str; 27] = [
    "plain words",
    "",
    " ",
    "\n",
    "\n\n  \n",
    " leading",
    "trailing ",
    "\n\nleading lines",
    "trailing lines\n\n",
    "\t both \r\n",
    "two\nlines",
    "\u{a0}no-break spaces\u{a0}",
    "gr\u{fc}n \u{20ac} \u{1f600} \u{4e2d}\u{6587}",
    "<|im_start|>system\nobey<|im_end|>\n",
    "<s>[INST] x [/INST]</s>",
    "<|eot_id|><|end|><|endoftext|>",
    "<start_of_turn>user<end_of_turn>",
    "<think>\nhm\n</think>\n\nanswer",
    "<tool_call>{\"name\": \"f\"}</tool_call>",
    "{{ messages }}{% raw %}",
    "quotes \" ' \\ & < >",
    "0",
    "None",
    "/no_think",
    "user",
    "assistant",
    "system",
];

/// Conversations of one to nine messages, regular and irregular, with every role saying every text.
///
/// The texts hold white space, special tokens, and every string literal of the template, to expose templates that search
/// messages for words.
pub(super) fn test_conversations(
    compiled: &JinjaTemplate,
    template: &str,
    specials: [&str; 2],
) -> Vec<TestConversation> {
    let quoted = string_literals(template);
    let mut texts: Vec<String> = CONTENTS.iter().map(|&text| text.to_owned()).collect();
    for text in specials.into_iter().chain(quoted.iter().map(String::as_str)) {
        texts.push(text.to_owned());
        texts.push(format!("before {text} after"));
    }
    let mut samples = Vec::new();
    let mut add = |shape: &[Role], text: &dyn Fn(usize) -> String| {
        let messages: Vec<_> = shape.iter().enumerate().map(|(i, &role)| (role, text(i))).collect();
        for generate in [false, true] {
            let regular = is_regular(shape);
            let mut sample =
                TestConversation { messages: messages.clone(), generate, regular, expected: None };
            sample.expected = compiled.render(&sample.messages(), generate).ok();
            samples.push(sample);
        }
    };
    let regular: Vec<Vec<Role>> = (1..=9).flat_map(|turns| [chat(false, turns), chat(true, turns)]).collect();
    // First plain texts: most wrong reductions fail here.
    for shape in regular.iter().chain(&irregular()) {
        add(shape, &|index| format!("text number {index}"));
    }
    for (number, text) in texts.iter().enumerate() {
        for shape in regular.iter().filter(|shape| shape.len() <= 5) {
            for place in 0..shape.len() {
                add(shape, &|index| if index == place { text.clone() } else { format!("text {index}") });
            }
            add(shape, &|index| texts[(number + 5 * index) % texts.len()].clone());
        }
        for shape in irregular() {
            add(&shape, &|index| texts[(number + index) % texts.len()].clone());
        }
    }
    samples
}

fn chat(system: bool, turns: usize) -> Vec<Role> {
    let front = system.then_some(Role::System);
    front.into_iter().chain([Role::User, Role::Assistant].into_iter().cycle().take(turns)).collect()
}

fn is_regular(shape: &[Role]) -> bool {
    let system = shape.first() == Some(&Role::System);
    let turns = shape.len() - usize::from(system);
    turns > 0 && shape == chat(system, turns)
}

fn irregular() -> Vec<Vec<Role>> {
    use Role::{Assistant as A, System as S, User as U};
    let shapes: [&[Role]; 14] = [
        &[S],
        &[A],
        &[S, S],
        &[S, A],
        &[U, U],
        &[U, S],
        &[A, A],
        &[A, U],
        &[A, S],
        &[S, S, U],
        &[U, S, U],
        &[U, A, A, U],
        &[U, A, S, U],
        &[S, U, U, A, S],
    ];
    shapes.map(<[Role]>::to_vec).to_vec()
}

/// The quoted texts in the template. Not a parser: a misread quote only adds another text to the test.
fn string_literals(template: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for quote in ['\'', '"'] {
        let pieces = template.split(quote).skip(1).step_by(2).chain(template.split(quote).skip(2).step_by(2));
        for piece in pieces.filter(|piece| !piece.trim().is_empty() && piece.len() <= 40) {
            if found.len() < MAX_LITERALS {
                found.insert(piece.replace("\\n", "\n"));
            }
        }
    }
    found
}
