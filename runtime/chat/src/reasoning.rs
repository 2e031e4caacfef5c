//! Tells a model's reasoning, `<think>...</think>` at the beginning of an answer, from the answer itself.

use thimble_runtime::Token;

/// Begins the reasoning.
pub(crate) const THINK: &str = "<think>";
/// Ends the reasoning.
const END: &str = "</think>";

/// A piece of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerPiece<'a> {
    /// Reasoning, without the tags.
    Reasoning(&'a str),
    /// The answer itself.
    Text(&'a str),
}

/// Splits an answer that arrives in pieces. Tags and the white space beside them belong to neither part.
#[derive(Debug)]
pub struct ReasoningSplitter {
    state: State,
    /// What may be the beginning of a tag, with white space before it.
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first character of the answer.
    #[default]
    Start,
    /// After `<think>`, before the first character of the reasoning.
    Opened,
    /// Inside the reasoning.
    Inside,
    /// After `</think>`, before the first character of the answer.
    Closed,
    /// In the answer.
    Text,
}

/// Bytes reserved for what may be a tag, so that ordinary answers allocate nothing later.
const HELD: usize = 64;

impl Default for ReasoningSplitter {
    fn default() -> ReasoningSplitter {
        ReasoningSplitter { state: State::Start, held: String::with_capacity(HELD) }
    }
}

/// Whether a prompt ends with `<think>`, as templates of models that always think have it: then the answer has no such tag
/// of its own. `bytes` are those of a token.
pub fn opens_reasoning<'t>(prompt: &[Token], bytes: impl Fn(Token) -> &'t [u8]) -> bool {
    let last = &prompt[prompt.len().saturating_sub(2 * THINK.len())..];
    let end: Vec<u8> = last.iter().flat_map(|&token| bytes(token)).copied().collect();
    end.trim_ascii_end().ends_with(THINK.as_bytes())
}

impl ReasoningSplitter {
    /// A splitter for the answer to `prompt`, which may end with `<think>`; `bytes` are those of a token.
    pub fn after<'t>(prompt: &[Token], bytes: impl Fn(Token) -> &'t [u8]) -> ReasoningSplitter {
        let state = if opens_reasoning(prompt, bytes) { State::Opened } else { State::Start };
        ReasoningSplitter { state, ..ReasoningSplitter::default() }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str, emit: &mut dyn FnMut(AnswerPiece<'_>)) {
        if self.state == State::Text {
            return emit_text(piece, emit);
        }
        self.held.push_str(piece);
        // Each state ends with an empty `held`, or with text that a later piece decides on.
        if self.state == State::Start {
            let begun = self.held.trim_start();
            if let Some(rest) = begun.strip_prefix(THINK) {
                self.held.drain(..self.held.len() - rest.len());
                self.state = State::Opened;
            } else if THINK.starts_with(begun) {
                return;
            } else {
                self.state = State::Text;
                emit_text(&self.held, emit);
                return self.held.clear();
            }
        }
        if self.state == State::Opened && !self.skip_space(State::Inside) {
            return;
        }
        if self.state == State::Inside {
            match self.held.find(END) {
                Some(at) => {
                    emit_reasoning(self.held[..at].trim_end(), emit);
                    self.held.drain(..at + END.len());
                    self.state = State::Closed;
                }
                None => {
                    let kept = undecided(&self.held);
                    emit_reasoning(&self.held[..kept], emit);
                    self.held.drain(..kept);
                    return;
                }
            }
        }
        if self.state == State::Closed && self.skip_space(State::Text) {
            emit_text(&self.held, emit);
            self.held.clear();
        }
    }

    /// Ends the answer; a partial tag is ordinary text.
    pub fn finish(&mut self, emit: &mut dyn FnMut(AnswerPiece<'_>)) {
        match self.state {
            State::Start => emit_text(&self.held, emit),
            State::Inside => emit_reasoning(self.held.trim_end(), emit),
            State::Opened | State::Closed | State::Text => {}
        }
        self.held.clear();
        self.state = State::Text;
    }

    /// Skips white space; true, in the next state, if something follows.
    fn skip_space(&mut self, next: State) -> bool {
        let space = self.held.len() - self.held.trim_start().len();
        self.held.drain(..space);
        if !self.held.is_empty() {
            self.state = next;
        }
        !self.held.is_empty()
    }
}

/// An answer with its reasoning as models write them; [`split_reasoning`] splits it again.
pub fn join_reasoning(reasoning: &str, text: &str) -> String {
    format!("{THINK}\n{reasoning}\n{END}\n\n{text}")
}

/// The reasoning and the answer of a whole text.
pub fn split_reasoning(answer: &str) -> (String, String) {
    let (mut reasoning, mut text) = (String::new(), String::new());
    let mut emit = |piece: AnswerPiece<'_>| match piece {
        AnswerPiece::Reasoning(piece) => reasoning.push_str(piece),
        AnswerPiece::Text(piece) => text.push_str(piece),
    };
    let mut splitter = ReasoningSplitter::default();
    splitter.push(answer, &mut emit);
    splitter.finish(&mut emit);
    (reasoning, text)
}

fn emit_text(text: &str, emit: &mut dyn FnMut(AnswerPiece<'_>)) {
    if !text.is_empty() {
        emit(AnswerPiece::Text(text));
    }
}

fn emit_reasoning(text: &str, emit: &mut dyn FnMut(AnswerPiece<'_>)) {
    if !text.is_empty() {
        emit(AnswerPiece::Reasoning(text));
    }
}

/// Where white space begins that `</think>` or its beginning may follow.
fn undecided(text: &str) -> usize {
    let partial = (1..END.len()).rev().find(|&length| text.ends_with(&END[..length])).unwrap_or(0);
    text[..text.len() - partial].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::{AnswerPiece, ReasoningSplitter, split_reasoning};

    /// Splits the text in pieces of every length; asserts that they do not matter.
    #[track_caller]
    fn split(text: &str) -> (String, String) {
        let whole = split_reasoning(text);
        let characters: Vec<char> = text.chars().collect();
        for length in 1..=characters.len() {
            let mut splitter = ReasoningSplitter::default();
            let (mut reasoning, mut answer) = (String::new(), String::new());
            let mut emit = |piece: AnswerPiece<'_>| match piece {
                AnswerPiece::Reasoning(piece) => reasoning.push_str(piece),
                AnswerPiece::Text(piece) => answer.push_str(piece),
            };
            for piece in characters.chunks(length) {
                splitter.push(&piece.iter().collect::<String>(), &mut emit);
            }
            splitter.finish(&mut emit);
            assert_eq!((reasoning, answer), whole, "pieces of {length}");
        }
        whole
    }

    #[test]
    fn reasoning_and_answer_are_told_apart() {
        let cases = [
            ("", "", ""),
            ("Yes.", "", "Yes."),
            ("  indented\n", "", "  indented\n"),
            ("<think>\nhm, <b>\n\nwell\n</think>\n\nYes.\n", "hm, <b>\n\nwell", "Yes.\n"),
            ("\n<think>hm</think>Yes.", "hm", "Yes."),
            ("<think>\n\n</think>\n\nYes.", "", "Yes."),
            ("<think>", "", ""),
            ("<think>\nhalf a thou", "half a thou", ""),
            ("<think>a </thin b</think>c", "a </thin b", "c"),
            ("<think>a </thin", "a </thin", ""),
            ("<thi", "", "<thi"),
            ("<thin> is a tag", "", "<thin> is a tag"),
            // Only at the beginning.
            ("The tag <think>a</think> is one.", "", "The tag <think>a</think> is one."),
            ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
            ("<think>ä🙂</think>ö", "ä🙂", "ö"),
        ];
        for (text, reasoning, answer) in cases {
            assert_eq!(split(text), (reasoning.to_string(), answer.to_string()), "{text:?}");
        }
    }
}
