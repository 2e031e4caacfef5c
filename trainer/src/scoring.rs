//! A `.thimble` model that looks at documents: their embeddings for a score, and the digit it would answer with.

use crate::error::{Error, Result};
use std::path::Path;
use thimble_chat::{ChatPrompt, encode, encode_chat, encode_text};
use thimble_curate::source::{Compression, SourceFile, SourceKind, TextSource};
use thimble_files::MappedModel;
use thimble_host::{Generator, InferencePlan, InferenceSettings, SpinPool, embed, generator};
use thimble_runtime::Token;
use thimble_runtime::chat::{Message, Role};
use thimble_runtime::embedding::Pooling;
use thimble_runtime::format::ModelFile;
use thimble_runtime::tokenizer::Specials;

/// Where a prompt has the document.
pub const TEXT_SLOT: &str = "{text}";

/// The digits of a score.
const DIGITS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];

/// A model with a limit on how much of a document it reads.
pub struct ScoringModel {
    model: MappedModel,
    plan: InferencePlan,
    tokens: usize,
}

/// What a model thinks of a document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Annotation {
    /// The most probable digit.
    pub score: usize,
    /// The mean of the digits, weighted by their probabilities.
    pub mean: f64,
}

/// A model at work.
pub struct Scorer<'m, 's> {
    file: ModelFile<'m>,
    session: &'s mut Generator<'m>,
    tokens: usize,
}

impl ScoringModel {
    /// Reads a model. Documents are cut to `tokens`, and prompts have `prompt` tokens beside; both fit into the context.
    ///
    /// # Errors
    /// No model, too little memory, or a context with less room.
    pub fn open(path: &Path, threads: usize, tokens: usize, prompt: usize) -> Result<ScoringModel> {
        let invalid = |error: &dyn std::fmt::Display| Error::Invalid(format!("{}: {error}", path.display()));
        let model = MappedModel::read(path).map_err(|error| Error::Invalid(error.to_string()))?;
        let plan = {
            let file = model.file().map_err(|error| invalid(&error))?;
            let (room, context) = (file.config().context, tokens.saturating_add(prompt));
            if context > room {
                return Err(Error::Usage(format!(
                    "expected at most {} tokens of a document, found {tokens}: the context of {} has {room} in all; lower \
                     --tokens",
                    room.saturating_sub(prompt),
                    path.display()
                )));
            }
            let settings = InferenceSettings {
                context: Some(context),
                threads: Some(threads),
                ..InferenceSettings::default()
            };
            InferencePlan::new(file.config(), &settings).map_err(|error| invalid(&error))?
        };
        Ok(ScoringModel { model, plan, tokens })
    }

    /// What identifies the model's file.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn identity(&self) -> Result<SourceFile> {
        let path = self.model.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (path, kind) = (path.to_path_buf(), SourceKind::Text);
        Ok(TextSource { path, name, kind, compression: Compression::Plain }.file()?)
    }

    /// Runs `work` with the model in memory.
    ///
    /// # Errors
    /// Memory or threads that cannot be had, and what `work` returns.
    pub fn run<R>(&self, work: impl FnOnce(&mut Scorer<'_, '_>) -> Result<R>) -> Result<R> {
        let invalid = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        let pool = SpinPool::new(self.plan.threads()).map_err(|error| invalid(&error))?;
        let mut memory = self.plan.allocate().map_err(|error| invalid(&error))?;
        let file = self.model.file().map_err(|error| invalid(&error))?;
        let mut session =
            generator(&file, &self.plan, &mut memory, &pool).map_err(|error| invalid(&error))?;
        work(&mut Scorer { file, session: &mut session, tokens: self.tokens })
    }
}

impl Scorer<'_, '_> {
    /// The beginning of a document, as many tokens as are read.
    fn beginning(&self, text: &str) -> Result<Vec<Token>> {
        // A token is at most some bytes long: the rest of a long document need not be encoded.
        let most = self.tokens.saturating_mul(MOST_TOKEN_BYTES);
        let end = text.floor_char_boundary(most.min(text.len()));
        let tokens = encode_text(&self.file.tokenizer(), self.file.config(), &text[..end], Specials::Escape);
        let mut tokens = tokens.map_err(|error| Error::Invalid(error.to_string()))?;
        tokens.truncate(self.tokens);
        Ok(tokens)
    }

    /// The mean of the hidden states of a document's beginning, of length 1; zeros for an empty document.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    pub fn embedding(&mut self, text: &str) -> Result<Vec<f32>> {
        let tokens = self.beginning(text)?;
        if tokens.is_empty() {
            return Ok(vec![0.0; self.session.hidden()]);
        }
        embed(self.session, &tokens, Pooling::Mean).map_err(|error| Error::Invalid(error.to_string()))
    }

    /// The digit from 0 to 5 with which the model would begin its answer to `prompt`, in which [`TEXT_SLOT`] stands for the
    /// document. Only digits are compared, so every answer is one.
    ///
    /// # Errors
    /// A model without a chat template, or whose digits are no tokens; a prompt that is too long.
    pub fn annotate(&mut self, prompt: &str, text: &str) -> Result<Annotation> {
        let invalid = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        let tokenizer = self.file.tokenizer();
        let beginning = thimble_chat::decode(&tokenizer, &self.beginning(text)?).unwrap_or_default();
        let content = prompt.replace(TEXT_SLOT, &beginning);
        let message = Message { role: Role::User, text: &content };
        let tokens =
            encode_chat(&self.file, &ChatPrompt::new(&[message], None)).map_err(|error| invalid(&error))?;
        // Prompts begin alike, and what they share is computed once. At least the last token is run again.
        let known = self.session.reuse(&tokens).min(tokens.len().saturating_sub(1));
        self.session.rewind(known).map_err(|error| invalid(&error))?;
        self.session.prefill(&tokens[known..]).map_err(|error| invalid(&error))?;
        let mut digits = [Token::default(); DIGITS.len()];
        for (token, digit) in digits.iter_mut().zip(DIGITS) {
            match encode(&tokenizer, digit, Specials::Escape).map_err(|error| invalid(&error))?[..] {
                [single] => *token = single,
                _ => {
                    return Err(Error::Invalid(format!(
                        "expected a model with a token for {digit}, found several"
                    )));
                }
            }
        }
        let (_, logits) = self.session.tokens_and_logits();
        let scores = digits.map(|token| f64::from(logits[token.index()]));
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = scores.map(|score| (score - most).exp());
        let mean = weights.iter().zip(0u8..).map(|(weight, digit)| weight * f64::from(digit)).sum::<f64>();
        let score = scores.iter().position(|&score| score == most).unwrap_or_default();
        Ok(Annotation { score, mean: mean / weights.iter().sum::<f64>() })
    }
}

/// More bytes than the tokens of prose have on average.
const MOST_TOKEN_BYTES: usize = 32;
