//! What an answer may be.

use crate::failure::Failure;
use clap::Args;
use std::path::PathBuf;
use thimble_chat::{TokenConstraint, Toolset};
use thimble_runtime::format::ModelFile;

/// The shape of an answer; at most one flag.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Shape of the answer (one of these; stdout has the value alone)")]
pub(crate) struct GrammarFlags {
    /// Answer with JSON that this JSON Schema allows; `-` reads it from stdin
    #[arg(long, value_name = "FILE|-", group = "shape")]
    pub(crate) schema: Option<PathBuf>,
    /// Answer with one of these texts, separated by commas; a JSON list has texts with commas or spaces around them
    #[arg(long, value_name = "A,B", group = "shape", value_parser = choices, allow_hyphen_values = true)]
    choices: Option<Choices>,
    /// Answer with a text that this regular expression matches as a whole
    #[arg(long, value_name = "R", group = "shape", allow_hyphen_values = true)]
    regex: Option<String>,
    /// Answer with a text of this grammar, a .lark or a .gbnf file
    #[arg(long, value_name = "FILE", group = "shape")]
    grammar: Option<PathBuf>,
}

/// The texts of `--choices`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choices(Vec<String>);

fn choices(text: &str) -> Result<Choices, String> {
    if text.trim_start().starts_with('[') {
        let texts = serde_json::from_str(text);
        return texts.map(Choices).map_err(|error| format!("expected a JSON list of texts: {error}"));
    }
    Ok(Choices(text.split(',').map(|choice| choice.trim().to_owned()).collect()))
}

impl GrammarFlags {
    /// The flag that was given.
    pub(crate) fn flag(&self) -> Option<&'static str> {
        let given = [
            (self.schema.is_some(), "--schema"),
            (self.choices.is_some(), "--choices"),
            (self.regex.is_some(), "--regex"),
            (self.grammar.is_some(), "--grammar"),
        ];
        given.into_iter().find_map(|(given, flag)| given.then_some(flag))
    }

    /// Refuses what this build lacks, before any work.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.flag() {
            Some(what) if cfg!(not(feature = "grammar")) => {
                Err(Failure::NotBuilt { what, feature: "grammar" })
            }
            _ => Ok(()),
        }
    }
}

/// A compiled grammar, for any number of answers.
#[cfg(feature = "grammar")]
#[derive(Clone)]
pub(crate) struct AnswerGrammar(thimble_grammar::Grammar);

#[cfg(feature = "grammar")]
impl GrammarFlags {
    /// The grammar for the tokens of `file`; `None` without a flag.
    pub(crate) fn compile(&self, file: &ModelFile<'_>) -> Result<Option<AnswerGrammar>, Failure> {
        use thimble_grammar::{Grammar, GrammarLimits, Vocabulary};
        let (Some(source), Some(flag)) = (self.source()?, self.flag()) else { return Ok(None) };
        let refused = |error| Failure::Usage(format!("{flag}: {error}"));
        let vocabulary = Vocabulary::of(file).map_err(Failure::other)?;
        let grammar = Grammar::compile(&vocabulary, &source, &GrammarLimits::default()).map_err(refused)?;
        Ok(Some(AnswerGrammar(grammar)))
    }

    fn source(&self) -> Result<Option<thimble_grammar::GrammarSource>, Failure> {
        use crate::input;
        use thimble_grammar::GrammarSource;
        if let Some(path) = &self.schema {
            return Ok(Some(GrammarSource::JsonSchema(input::file(path)?)));
        }
        if let Some(path) = &self.grammar {
            let source = match path.extension().and_then(|extension| extension.to_str()) {
                Some("lark") => GrammarSource::Lark,
                Some("gbnf") => GrammarSource::Gbnf,
                _ => {
                    let path = path.display();
                    return Err(Failure::Usage(format!(
                        "--grammar: expected a .lark or a .gbnf file, found {path}"
                    )));
                }
            };
            return Ok(Some(source(input::file(path)?)));
        }
        let choices = self.choices.clone().map(|Choices(texts)| GrammarSource::Choices(texts));
        Ok(choices.or_else(|| self.regex.clone().map(GrammarSource::Regex)))
    }
}

#[cfg(feature = "grammar")]
impl AnswerGrammar {
    /// The grammar of answers that call `tools`; `None` if they may not.
    pub(crate) fn of_tools(file: &ModelFile<'_>, tools: &Toolset) -> Result<Option<AnswerGrammar>, Failure> {
        use thimble_grammar::{Grammar, GrammarLimits, Vocabulary, tool_grammar};
        let refused = |error| Failure::Usage(format!("--tools: {error}"));
        let Some(source) = tool_grammar(tools).map_err(refused)? else { return Ok(None) };
        let vocabulary = Vocabulary::of(file).map_err(Failure::other)?;
        let grammar = Grammar::compile(&vocabulary, &source, &GrammarLimits::default()).map_err(refused)?;
        Ok(Some(AnswerGrammar(grammar)))
    }

    /// A constraint for the next answer.
    pub(crate) fn constraint(&self) -> Result<Box<dyn TokenConstraint>, Failure> {
        let constraint = self.0.constraint().map_err(Failure::other)?;
        Ok(Box::new(constraint))
    }
}

/// A grammar that this build cannot compile.
#[cfg(not(feature = "grammar"))]
#[derive(Clone)]
pub(crate) enum AnswerGrammar {}

#[cfg(not(feature = "grammar"))]
impl GrammarFlags {
    /// None: [`GrammarFlags::check`] has refused the flags.
    pub(crate) fn compile(&self, _file: &ModelFile<'_>) -> Result<Option<AnswerGrammar>, Failure> {
        self.check().map(|()| None)
    }
}

#[cfg(not(feature = "grammar"))]
impl AnswerGrammar {
    /// None: without the feature, calls are only parsed.
    pub(crate) fn of_tools(_: &ModelFile<'_>, _: &Toolset) -> Result<Option<AnswerGrammar>, Failure> {
        Ok(None)
    }

    /// There is no such grammar.
    pub(crate) fn constraint(&self) -> Result<Box<dyn TokenConstraint>, Failure> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_a_list_with_commas_or_json() {
        let of = |text: &str| choices(text).map(|Choices(texts)| texts);
        assert_eq!(of("good, bad").unwrap(), ["good", "bad"]);
        assert_eq!(of("-1,+1").unwrap(), ["-1", "+1"]);
        assert_eq!(of(r#" ["yes, sure", " no"]"#).unwrap(), ["yes, sure", " no"]);
        assert!(of(r#"["a", 3]"#).unwrap_err().starts_with("expected a JSON list of texts"));
    }
}
