//! Runs items on one thread's session: log-likelihoods and generated answers.

use super::answer::{MAX_TOKENS, STOPS, ends_answer};
use super::error::{EvalError, Result};
use super::item::{Choices, Gold, Item, Question};
use super::passes::{Work, passes};
use super::task::Task;
use crate::request::{Request, RequestError, encode_prompt};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::{greedy, log_sum_exp};
use thimble_runtime::sequence::Sequence;
use thimble_runtime::session::Session;
use thimble_runtime::stop::StopMatcher;

/// The model's result for an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemOutcome {
    /// The task.
    pub task: Task,
    /// The item: row of the task's file, counted from 0.
    pub index: usize,
    /// The log-likelihood of each choice, to nine decimals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_likelihoods: Vec<f64>,
    /// Tokens of each choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<usize>,
    /// LAMBADA: whether every token was the greedy one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greedy: Option<bool>,
    /// GSM8K: the generated text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The work it took.
    pub work: Work,
    /// Seconds of one thread, generation excluded.
    pub seconds: f64,
    /// Seconds of generation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub decode_seconds: f64,
}

impl ItemOutcome {
    /// The result before anything ran.
    pub(crate) fn empty(task: Task, index: usize) -> ItemOutcome {
        ItemOutcome {
            task,
            index,
            log_likelihoods: Vec::new(),
            tokens: Vec::new(),
            greedy: None,
            text: None,
            work: Work::default(),
            seconds: 0.0,
            decode_seconds: 0.0,
        }
    }

    /// Whether the outcome is complete: a log-likelihood for each choice, or a text.
    pub(crate) fn answers(&self, item: &Item) -> bool {
        match &item.question {
            Question::Text { .. } => self.text.is_some(),
            Question::Choices(choices) => {
                let count = choices.continuations.len();
                let greedy = !matches!(choices.gold, Gold::Greedy) || self.greedy.is_some();
                self.log_likelihoods.len() == count && self.tokens.len() == count && greedy
            }
        }
    }
}

fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

/// A tokenized item.
pub(crate) enum TokenizedItem {
    /// Requests.
    Choices(Vec<Request>),
    /// A prompt.
    Text(Vec<Token>),
}

/// Positions that generation needs after its prompt: the last token is not run.
const GENERATED_POSITIONS: usize = MAX_TOKENS - 1;

/// Advice for an item that is too long for the model.
const REMEDY: &str = "omit this task, or use a model with a longer context";

impl TokenizedItem {
    /// Tokenizes `item` for a model with `context` positions.
    ///
    /// # Errors
    /// The inner error describes the row: a continuation without tokens, or with more than the context holds.
    pub(crate) fn new(
        file: &ModelFile<'_>,
        item: &Item,
        context: usize,
    ) -> Result<std::result::Result<TokenizedItem, String>> {
        match &item.question {
            Question::Text { prompt, .. } => {
                let mut tokens = encode_prompt(file, prompt).map_err(RequestError::from)?;
                if context <= MAX_TOKENS {
                    let reason = format!(
                        "{MAX_TOKENS} tokens are generated, but the context has {context} positions: {REMEDY}"
                    );
                    return Ok(Err(reason));
                }
                // As the harness: the prompt's beginning goes, so that the longest answer fits.
                tokens.drain(..tokens.len().saturating_sub(context - MAX_TOKENS));
                Ok(Ok(TokenizedItem::Text(tokens)))
            }
            Question::Choices(choices) => {
                let mut requests = Vec::with_capacity(choices.continuations.len());
                for (index, continuation) in choices.continuations.iter().enumerate() {
                    let request = Request::new(file, choices.context(index), continuation)?;
                    if request.continuation_len() == 0 {
                        let reason = format!(
                            "choice {} is empty: {continuation:?} has no tokens of its own",
                            index + 1
                        );
                        return Ok(Err(reason));
                    }
                    match request.fit(context) {
                        Ok(request) => requests.push(request),
                        Err(error) => return Ok(Err(format!("choice {}: {error}: {REMEDY}", index + 1))),
                    }
                }
                Ok(Ok(TokenizedItem::Choices(requests)))
            }
        }
    }

    /// The positions it needs in a session.
    pub(crate) fn positions(&self) -> usize {
        match self {
            TokenizedItem::Choices(requests) => {
                requests.iter().map(|r| r.tokens.len() - 1).max().unwrap_or(0)
            }
            TokenizedItem::Text(tokens) => tokens.len() + GENERATED_POSITIONS,
        }
    }

    /// The work on a session that holds `held`, generation excluded.
    pub(crate) fn work(&self, held: &[Token]) -> Work {
        match self {
            TokenizedItem::Choices(requests) => Work::sum(&passes(requests, held)),
            TokenizedItem::Text(tokens) => {
                let common = held.iter().zip(tokens).take_while(|(a, b)| a == b).count();
                let end = tokens.len();
                Work::of(&(common.min(end.saturating_sub(1))..end), end.saturating_sub(1))
            }
        }
    }

    /// The tokens that a session holds afterwards, at least up to where the choices differ.
    pub(crate) fn beginning(&self) -> &[Token] {
        match self {
            TokenizedItem::Choices(requests) => {
                let last = requests.iter().max_by(|a, b| a.tokens.cmp(&b.tokens));
                last.map_or(&[], |request| &request.tokens[..request.tokens.len() - 1])
            }
            TokenizedItem::Text(tokens) => tokens,
        }
    }
}

/// A session and its model.
pub(crate) struct ItemRunner<'f, S: Sequence> {
    pub(crate) file: ModelFile<'f>,
    pub(crate) session: Session<S>,
    /// The context to which requests are truncated.
    pub(crate) context: usize,
}

impl<S: Sequence> ItemRunner<'_, S> {
    /// Runs an item of `task`.
    pub(crate) fn answer(&mut self, task: Task, item: &Item) -> Result<ItemOutcome> {
        let begin = Instant::now();
        let mut outcome = ItemOutcome::empty(task, item.index);
        let asked = TokenizedItem::new(&self.file, item, self.context)?;
        let asked =
            asked.map_err(|reason| EvalError::Row { file: task.name().into(), line: item.line, reason })?;
        match (&asked, &item.question) {
            (TokenizedItem::Choices(requests), Question::Choices(choices)) => {
                self.choose(requests, choices, &mut outcome)?;
            }
            (TokenizedItem::Text(prompt), _) => self.continue_text(prompt, &mut outcome)?,
            (TokenizedItem::Choices(_), Question::Text { .. }) => {}
        }
        outcome.seconds = begin.elapsed().as_secs_f64() - outcome.decode_seconds;
        let broken = outcome.log_likelihoods.iter().find(|sum| !sum.is_finite());
        match broken {
            Some(&found) => Err(EvalError::NotFinite { task: task.name(), index: item.index, found }),
            None => Ok(outcome),
        }
    }

    fn choose(&mut self, requests: &[Request], choices: &Choices, outcome: &mut ItemOutcome) -> Result<()> {
        let passes = passes(requests, self.session.tokens());
        outcome.work = Work::sum(&passes);
        let mut sums = vec![0.0; requests.len()];
        let wants_greedy = choices.gold == Gold::Greedy;
        let mut all_greedy = true;
        for pass in &passes {
            let first = pass.run.start;
            self.session.rewind(first)?;
            let tokens = &requests[pass.request].tokens[pass.run.clone()];
            self.session.append(tokens, pass.ask - first, &mut |behind, logits| {
                let next = first + behind + 1;
                let total = log_sum_exp(logits);
                for &(sharer, shared) in &pass.sharers {
                    let Request { tokens, from } = &requests[sharer];
                    // It shares the tokens before `next`, and needs this one's log-probability.
                    if next <= shared && next >= *from && next < tokens.len() {
                        sums[sharer] += f64::from(logits[tokens[next].index()] - total);
                    }
                }
                if wants_greedy {
                    all_greedy &= greedy(logits) == requests[pass.request].tokens[next];
                }
            })?;
        }
        outcome.log_likelihoods = sums.into_iter().map(rounded).collect();
        outcome.tokens = requests.iter().map(Request::continuation_len).collect();
        outcome.greedy = wants_greedy.then_some(all_greedy);
        Ok(())
    }

    /// Generates greedily after `prompt`, up to a stop.
    fn continue_text(&mut self, prompt: &[Token], outcome: &mut ItemOutcome) -> Result<()> {
        let keep = self.session.reuse(prompt);
        outcome.work = Work::of(&(keep..prompt.len()), prompt.len() - 1);
        self.session.prefill(&prompt[keep..])?;
        let begin = Instant::now();
        let stops = STOPS.map(str::as_bytes);
        let mut held = [0; 16];
        let mut text = Vec::new();
        // The buffer is longer than the longest stop, and no stop is empty.
        let mut matcher = StopMatcher::new(&stops, &mut held).ok();
        for generated in 1..=MAX_TOKENS {
            let token = greedy(self.session.tokens_and_logits().1);
            outcome.work.decoded += 1;
            let Some(matcher) = &mut matcher else { break };
            if ends_answer(&self.file, token, matcher, &mut text) {
                break;
            }
            if generated < MAX_TOKENS {
                self.session.prefill(&[token])?;
            }
        }
        if let Some(matcher) = &mut matcher {
            matcher.finish(&mut |bytes| text.extend_from_slice(bytes));
        }
        outcome.text = Some(String::from_utf8_lossy(&text).into_owned());
        outcome.decode_seconds = begin.elapsed().as_secs_f64();
        Ok(())
    }
}

/// Rounds to nine decimals, far below the resolution of f32: results stay short.
fn rounded(sum: f64) -> f64 {
    (sum * 1e9).round() / 1e9
}
