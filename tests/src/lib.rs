//! What the conformance tests share: where the files beside the checkout are, and sessions on a model.
//!
//! Tests of the real model need two things that the repository does not hold, and skip themselves where one is missing
//! (see [`thimble_needs`]): the folder `shared` beside the checkout (elsewhere: `THIMBLE_SHARED`) and
//! SmolLM2-135M-Instruct.Q4_1.gguf, which `THIMBLE_GGUF` names. `THIMBLE_KERNELS` forces the kernels of
//! every session here, as it does in the command, and so does `THIMBLE_BACKEND` the processors: the tests hold on a GPU.

use std::path::Path;
use thimble_converter::{ConversionOptions, ConversionSummary, Quant, convert};
use thimble_files::MappedModel;
use thimble_host::{Generator, InferencePlan, InferenceSettings, SpinPool, generator};
pub use thimble_needs::{Need, find_gguf, find_shared, gguf, shared, skip};
use thimble_runtime::Token;
use thimble_runtime::session::{Scored, SessionError};
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// Whether `THIMBLE_BACKEND` leaves work to a GPU, in every session whose settings name no backend.
pub fn on_gpu() -> bool {
    std::env::var("THIMBLE_BACKEND").is_ok_and(|name| name.contains("gpu"))
}

/// Converts `source` to `destination` and maps the result.
///
/// # Panics
/// Where that fails: a test cannot go on.
pub fn converted(source: &Path, destination: &Path, quant: Quant) -> (MappedModel, ConversionSummary) {
    let options = ConversionOptions { quant, ..ConversionOptions::default() };
    let summary = convert(source, destination, &options, &mut |_| {}).expect("the source converts");
    (MappedModel::read(destination).expect("what was just converted opens"), summary)
}

/// Runs `work` on a new session on `model`.
///
/// # Panics
/// Where the settings cannot be met.
pub fn with_session<R>(
    model: &MappedModel,
    settings: &InferenceSettings,
    work: impl FnOnce(&mut Generator<'_>) -> R,
) -> R {
    let file = model.file().expect("a file that was opened before");
    let plan = InferencePlan::new(file.config(), settings).expect("settings that fit the model");
    let mut memory = plan.allocate().expect("memory for the session");
    let pool = SpinPool::new(plan.threads()).expect("threads for the session");
    let mut session = generator(&file, &plan, &mut memory, &pool).expect("a session");
    let is_there = |session: &Generator<'_>| {
        assert!(
            !(on_gpu() && settings.backend.is_none()) || session.sequence().kind().has_gpu(),
            "the GPU was given up: nothing would be tested"
        );
    };
    is_there(&session);
    let result = work(&mut session);
    is_there(&session);
    result
}

/// The ids of `text`, special tokens parsed.
///
/// # Panics
/// Where the tokenizer's tables are damaged.
pub fn encode(tokenizer: &Tokenizer<'_>, text: &str) -> Vec<Token> {
    let mut scratch = vec![0; tokenizer.scratch_for(text)];
    let mut tokens = vec![Token::default(); tokenizer.most_tokens(text)];
    let count = tokenizer.encode(text, Specials::Parse, &mut scratch, &mut tokens).expect("enough room");
    tokens.truncate(count);
    tokens
}

/// Log-probabilities of all of `tokens` but the first, which the session then holds up to the last but one.
///
/// # Errors
/// Those of [`thimble_runtime::session::Session::score`].
pub fn score(session: &mut Generator<'_>, tokens: &[Token]) -> Result<Vec<f64>, SessionError> {
    let mut scores = Vec::with_capacity(tokens.len());
    session.score(tokens, 1, &mut |scored: Scored| scores.push(scored.log_probability))?;
    Ok(scores)
}

/// The largest difference of logits, as a share of the largest logit expected.
///
/// # Panics
/// There are more or fewer than expected, or one is not finite.
pub fn logit_difference(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |most, logit| most.max(logit.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
    differences.fold(0.0, |most, difference| {
        assert!(difference.is_finite());
        difference.max(most)
    }) / largest
}
