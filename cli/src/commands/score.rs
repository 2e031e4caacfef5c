//! `thimble score`: log-likelihoods of continuations, as lm-evaluation-harness defines them.

use crate::engine::{self, Bench, Mapped, Need};
use crate::failure::Failure;
use crate::flags::{MachineFlags, ScoreFlags};
use crate::model::Location;
use crate::{input, progress};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;
use thimble_host::Generator;
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::tokenizer::Specials;

/// Positions whose logits are computed together.
const ROWS: usize = 16;

/// Which model on which lines.
pub(crate) struct Job {
    location: Location,
    input: PathBuf,
    machine: MachineFlags,
}

/// One line, tokenized.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    tokens: Vec<Token>,
    /// Index of the continuation's first token.
    from: usize,
}

impl Job {
    /// Names the model.
    pub(crate) fn resolve(flags: ScoreFlags) -> Result<Job, Failure> {
        let location = Location::resolve(flags.model.model.as_deref())?;
        Ok(Job { location, input: flags.input, machine: flags.machine })
    }

    /// Each line again, with what was found out.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let text = input::file(&self.input)?;
        let mapped = Mapped::open(&self.location.fetch()?)?;
        let file = mapped.file()?;
        let need = Need { context: Some(file.config().context), logit_rows: Some(ROWS) };
        let plan = engine::plan(file.config(), &self.machine, need)?;
        let mut bench = Bench::new(&plan)?;
        let mut generator = bench.generator(&file, &plan)?;
        let end_of_text = engine::end_of_text(&file).ok();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let bar = progress::steps("scoring", lines.clone().count() as u64);
        for (index, line) in lines {
            let wrong =
                |reason| Failure::Line { input: self.input.display().to_string(), line: index + 1, reason };
            let mut object: Map<String, Value> = serde_json::from_str(line)
                .map_err(|error| wrong(format!("expected a JSON object: {error}")))?;
            let field = |name: &str| {
                let text = object.get(name).and_then(Value::as_str);
                text.ok_or_else(|| wrong(format!("expected a text in the field {name:?}")))
            };
            let request = request(&file, field("context")?, field("continuation")?, end_of_text)?;
            let request = request.fit(plan.context()).map_err(wrong)?;
            let (sum, greedy) = score(&mut generator, &request)?;
            object.insert("loglikelihood".to_string(), json!(sum));
            object.insert("tokens".to_string(), json!(request.tokens.len() - request.from));
            object.insert("greedy".to_string(), json!(greedy));
            serde_json::to_writer(&mut *stdout, &object).map_err(std::io::Error::from)?;
            writeln!(stdout)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// Cuts as the harness does: white space at the context's end belongs to the continuation, whose tokens are what
/// the whole has more than the context alone. `end_of_text` stands in for a context without tokens.
fn request(
    file: &ModelFile<'_>,
    context: &str,
    continuation: &str,
    end_of_text: Option<Token>,
) -> Result<Request, Failure> {
    let encode = |text: &str| engine::encode(&file.tokenizer(), text, Specials::Parse);
    let (context, continuation) = split(context, continuation);
    let mut tokens = encode(context)?;
    let whole = encode(&format!("{context}{continuation}"))?;
    let rest = whole.get(tokens.len()..).unwrap_or_default();
    if tokens.is_empty() {
        tokens.extend(end_of_text);
    }
    let from = tokens.len();
    tokens.extend(rest);
    if from == 0 {
        engine::end_of_text(file)?;
    }
    Ok(Request { tokens, from })
}

/// Moves white space (Python's idea of it) from the end of the context to the front of the continuation.
fn split<'a>(context: &'a str, continuation: &str) -> (&'a str, String) {
    let blank = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    let kept = context.trim_end_matches(blank);
    (kept, format!("{}{continuation}", &context[kept.len()..]))
}

impl Request {
    /// Drops tokens from the left until what has to be computed fits: all but the last one.
    fn fit(mut self, context: usize) -> Result<Request, String> {
        let surplus = self.tokens.len().saturating_sub(context + 1);
        if surplus >= self.from {
            let found = self.tokens.len() - self.from;
            return Err(format!("the continuation has {found} tokens, more than the context of {context}"));
        }
        self.tokens.drain(..surplus);
        self.from -= surplus;
        Ok(self)
    }
}

/// Sum of the continuation's log-probabilities, and whether each of its tokens was the likeliest.
fn score(generator: &mut Generator<'_>, request: &Request) -> Result<(f64, bool), Failure> {
    let Request { tokens, from } = request;
    if *from == tokens.len() {
        return Ok((0.0, true));
    }
    // Lines with the same context follow each other, usually.
    let reused = generator.reuse(&tokens[..*from]);
    let (mut sum, mut greedy) = (0.0, true);
    let mut each = |scored: thimble_runtime::session::Scored| {
        sum += scored.log_probability;
        greedy &= scored.greedy;
    };
    generator.score(&tokens[reused..], from - reused, &mut each).map_err(engine::engine)?;
    Ok((sum, greedy))
}

#[cfg(test)]
mod tests {
    use super::{Request, split};
    use thimble_runtime::Token;

    #[test]
    fn white_space_moves_to_the_continuation() {
        let cases = [
            ("a b", " c", "a b", " c"),
            ("a \n\t", "c", "a", " \n\tc"),
            (" ", "c", "", " c"),
            ("", "c", "", "c"),
            ("a\u{1f}\u{a0}", "c", "a", "\u{1f}\u{a0}c"),
        ];
        for (context, continuation, kept, moved) in cases {
            assert_eq!(split(context, continuation), (kept, moved.to_string()));
        }
    }

    #[test]
    fn too_long_drops_from_the_left() {
        let request = |length: u32, from| Request { tokens: (0..length).map(Token).collect(), from };
        assert_eq!(request(9, 5).fit(8).unwrap(), request(9, 5), "the last token is not computed");
        let cut = request(12, 8).fit(8).unwrap();
        assert_eq!((cut.tokens[0], cut.tokens.len(), cut.from), (Token(3), 9, 5));
        assert!(request(12, 3).fit(8).unwrap_err().contains("9 tokens"));
    }
}
