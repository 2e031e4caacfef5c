//! From the form of an answer to what keeps it: a compiled grammar, which the model's vocabulary keeps for later answers.

use crate::{AnswerFormat, ApiError};
#[cfg(feature = "grammar")]
use std::sync::{Arc, OnceLock};
#[cfg(not(feature = "grammar"))]
use thimble_chat::tools::ToolChoice;
use thimble_chat::{TokenConstraint, Toolset};
#[cfg(feature = "grammar")]
use thimble_grammar::{Grammar, GrammarLimits, GrammarSource, Vocabulary};
use thimble_runtime::format::ModelFile;

/// The vocabulary of a model as grammars need it, made with the first answer that has a form.
#[derive(Default)]
pub(crate) struct Grammars {
    #[cfg(feature = "grammar")]
    vocabulary: OnceLock<Arc<Vocabulary>>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grammars")
    }
}

#[cfg(feature = "grammar")]
impl From<&AnswerFormat> for GrammarSource {
    fn from(format: &AnswerFormat) -> GrammarSource {
        match format.clone() {
            AnswerFormat::JsonSchema { schema } => GrammarSource::JsonSchema(schema),
            AnswerFormat::Regex { pattern } => GrammarSource::Regex(pattern),
            AnswerFormat::Choices { choices } => GrammarSource::Choices(choices),
            AnswerFormat::Lark { grammar } => GrammarSource::Lark(grammar),
            AnswerFormat::Gbnf { grammar } => GrammarSource::Gbnf(grammar),
        }
    }
}

impl Grammars {
    /// A constraint that keeps an answer in a form.
    ///
    /// # Errors
    /// The form is not supported or too complex, or this library was built without grammars.
    #[cfg(feature = "grammar")]
    pub(crate) fn constraint(
        &self,
        file: &ModelFile<'_>,
        format: &AnswerFormat,
    ) -> Result<Box<dyn TokenConstraint>, ApiError> {
        self.compiled(file, &format.into())
    }

    #[cfg(feature = "grammar")]
    fn compiled(
        &self,
        file: &ModelFile<'_>,
        source: &GrammarSource,
    ) -> Result<Box<dyn TokenConstraint>, ApiError> {
        let vocabulary = match self.vocabulary.get() {
            Some(vocabulary) => vocabulary,
            None => {
                let made = Vocabulary::of(file).map_err(ApiError::other)?;
                self.vocabulary.get_or_init(|| made)
            }
        };
        let grammar = Grammar::compile(vocabulary, source, &GrammarLimits::default());
        let constraint = grammar.map_err(ApiError::other)?.constraint().map_err(ApiError::other)?;
        Ok(Box::new(constraint))
    }

    /// A constraint that keeps an answer in a form.
    ///
    /// # Errors
    /// This library was built without grammars.
    #[cfg(not(feature = "grammar"))]
    pub(crate) fn constraint(
        &self,
        _file: &ModelFile<'_>,
        _format: &AnswerFormat,
    ) -> Result<Box<dyn TokenConstraint>, ApiError> {
        Err(ApiError::other(
            "this library was built without the feature `grammar`, which forms of answers need",
        ))
    }

    /// A constraint that keeps calls of tools valid, if an answer may have some.
    ///
    /// # Errors
    /// A tool's parameters are not supported or too complex.
    #[cfg(feature = "grammar")]
    pub(crate) fn calls(
        &self,
        file: &ModelFile<'_>,
        tools: &Toolset,
    ) -> Result<Option<Box<dyn TokenConstraint>>, ApiError> {
        let source = thimble_grammar::tool_grammar(tools).map_err(ApiError::other)?;
        source.map(|source| self.compiled(file, &source)).transpose()
    }

    /// Nothing: calls are read, and reported as text if they are not valid.
    ///
    /// # Errors
    /// A call is required, which takes a grammar.
    #[cfg(not(feature = "grammar"))]
    pub(crate) fn calls(
        &self,
        _file: &ModelFile<'_>,
        tools: &Toolset,
    ) -> Result<Option<Box<dyn TokenConstraint>>, ApiError> {
        match tools.choice() {
            ToolChoice::Auto | ToolChoice::None => Ok(None),
            ToolChoice::Required | ToolChoice::Named(_) => Err(ApiError::other(
                "this library was built without the feature `grammar`, which required calls need",
            )),
        }
    }
}
