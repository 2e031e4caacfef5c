//! The divergence of a model's predictions from those of a reference.
//!
//! Both models run at the same time, each in its own thread and session. The reference sends its logits a few rows at a
//! time, so that memory does not grow with the text (except for one `f32` per position).

use serde::Serialize;
use std::sync::mpsc::{Receiver, Sender, channel};
use thimble_host::{
    BackendKind, GeneratorError, InferencePlan, InferenceSettings, PlanError, SpinPool, generator,
    set_adapters,
};
use thimble_runtime::Token;
use thimble_runtime::adapter::{AdapterError, WeightedAdapter};
use thimble_runtime::format::{Config, ModelFile};
use thimble_runtime::sampler::greedy;
use thimble_runtime::session::SessionError;
use thimble_runtime::tokenizer::Tokenizer;
use thiserror::Error;

/// Positions whose logits are computed in one pass.
const ROWS: usize = 16;
/// Rows of logits that the reference may be ahead of the model.
const MAX_ROWS_AHEAD: usize = 2 * ROWS;

/// A model and its reference.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'f> {
    /// The model to measure.
    pub model: ModelFile<'f>,
    /// The adapters of the model to measure.
    pub adapters: &'f [WeightedAdapter<'f>],
    /// The model it should match, which runs without adapters.
    pub reference: ModelFile<'f>,
}

/// The Kullback-Leibler divergence KL(reference || model) of a position, over all positions, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// Mean, summed in `f64`.
    pub mean: f64,
    /// Standard error of the mean, with positions taken as independent.
    pub standard_error: f64,
    /// Median.
    pub median: f64,
    /// 90th percentile, interpolated between positions.
    pub percentile_90: f64,
    /// 99th percentile.
    pub percentile_99: f64,
    /// Maximum.
    pub maximum: f64,
}

/// How far a model is from a reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// Positions compared: all of each window but the first.
    pub positions: usize,
    /// KL(reference || model).
    pub kl: Distribution,
    /// Fraction of positions at which both have the same most probable token.
    pub top_1_agreement: f64,
    /// Perplexity of the model.
    pub perplexity: f64,
    /// Perplexity of the reference.
    pub reference_perplexity: f64,
    /// Mean absolute difference of the log-probabilities of the text's tokens, in nats.
    pub log_probability_difference: f64,
}

/// Why two models cannot be compared.
#[derive(Debug, Error)]
pub enum DivergenceError {
    /// Vocabularies of different sizes.
    #[error("both models need the same vocabulary: the model has {model} entries, the reference {reference}")]
    VocabularySize {
        /// Entries of the model.
        model: usize,
        /// Entries of the reference.
        reference: usize,
    },
    /// Vocabularies with different tokens.
    #[error(
        "both models need the same vocabulary: token {id} is {model:?} in the model and {reference:?} in the reference"
    )]
    Vocabulary {
        /// The first id that differs.
        id: u32,
        /// Its text in the model.
        model: String,
        /// Its text in the reference.
        reference: String,
    },
    /// No windows, or windows of one token.
    #[error("there is nothing to compare: expected at least one window of at least 2 tokens")]
    NoWindows,
    /// Logits that are not finite.
    #[error(
        "the logits of the {side} are not finite in window {window}, token {index}: the file may be damaged \
         (`thimble verify` checks it)"
    )]
    NotFinite {
        /// `model` or `reference`.
        side: &'static str,
        /// The window, from 0.
        window: usize,
        /// The predicted token's place in it.
        index: usize,
    },
    /// Invalid settings.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A session cannot start.
    #[error(transparent)]
    Generator(#[from] GeneratorError),
    /// Adapters that the model cannot have.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Threads that cannot be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Compares a model with a reference on independent windows of tokens; every token but the first is predicted.
///
/// `settings` apply to the model; the windows determine its context and rows of logits. The reference always runs in
/// exact mode on the CPU. Both share the threads (at least two). `progress` gets the number of finished windows.
///
/// # Errors
/// Different vocabularies, windows of one token or longer than a model's context, logits that are not finite.
pub fn divergence(
    pair: Pair<'_>,
    windows: &[&[Token]],
    settings: &InferenceSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<Divergence, DivergenceError> {
    same_vocabulary(pair)?;
    let longest = windows.iter().map(|window| window.len()).max().unwrap_or(0);
    if windows.iter().any(|window| window.len() < 2) || longest < 2 {
        return Err(DivergenceError::NoWindows);
    }
    let threads = plan(pair.model.config(), settings, longest)?.threads();
    let half = |threads: usize| Some(threads.max(1));
    let adapter_rank = WeightedAdapter::largest_rank(pair.adapters);
    let model = InferenceSettings { threads: half(threads / 2), adapter_rank, ..*settings };
    let kernels = settings.kernels;
    let reference = InferenceSettings {
        threads: half(threads.div_ceil(2)),
        exact: true,
        kernels,
        backend: Some(BackendKind::Cpu),
        ..InferenceSettings::default()
    };
    let model = plan(pair.model.config(), &model, longest)?;
    let reference = plan(pair.reference.config(), &reference, longest)?;
    let (full, rows) = channel();
    let (back, empty) = channel();
    for _ in 0..MAX_ROWS_AHEAD {
        // The receiver lives as long as this function.
        let _ = back.send(Vec::new());
    }
    std::thread::scope(|scope| {
        let ahead =
            scope.spawn(move || send_reference_logits(&pair.reference, &reference, windows, (&full, &empty)));
        let compared = compare(&pair, &model, windows, (rows, back), progress);
        let handed = ahead.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // If the reference failed, its error is the cause.
        handed?;
        compared
    })
}

/// The inference plan of one of the two.
fn plan(config: &Config, settings: &InferenceSettings, context: usize) -> Result<InferencePlan, PlanError> {
    InferencePlan::new(
        config,
        &InferenceSettings { context: Some(context), logit_rows: Some(ROWS), ..*settings },
    )
}

/// Checks that both models have the same tokens.
fn same_vocabulary(pair: Pair<'_>) -> Result<(), DivergenceError> {
    let [vocab, expected] = [&pair.model, &pair.reference].map(|file| file.config().vocab);
    if vocab != expected {
        return Err(DivergenceError::VocabularySize { model: vocab, reference: expected });
    }
    let text =
        |tokenizer: Tokenizer<'_>, token| String::from_utf8_lossy(tokenizer.token_bytes(token)).into_owned();
    let (model, reference) = (pair.model.tokenizer(), pair.reference.tokenizer());
    // Padding rows of the embedding have no text.
    let mut ids = (0..vocab as u32).map(Token);
    match ids.find(|&token| model.token_bytes(token) != reference.token_bytes(token)) {
        None => Ok(()),
        Some(token) => Err(DivergenceError::Vocabulary {
            id: token.0,
            model: text(model, token),
            reference: text(reference, token),
        }),
    }
}

/// Runs `work` on a new session.
fn with_session<R>(
    (file, adapters): (&ModelFile<'_>, &[WeightedAdapter<'_>]),
    plan: &InferencePlan,
    work: impl FnOnce(&mut thimble_host::Generator<'_>) -> Result<R, DivergenceError>,
) -> Result<R, DivergenceError> {
    let threads = plan.threads();
    let pool = SpinPool::new(threads).map_err(|source| DivergenceError::Threads { threads, source })?;
    let mut memory = plan.allocate()?;
    let mut session = generator(file, plan, &mut memory, &pool)?;
    set_adapters(&mut session, adapters)?;
    work(&mut session)
}

/// Sends the reference's logits row by row, in vectors that are recycled.
fn send_reference_logits(
    file: &ModelFile<'_>,
    plan: &InferencePlan,
    windows: &[&[Token]],
    (full, empty): (&Sender<Vec<f32>>, &Receiver<Vec<f32>>),
) -> Result<(), DivergenceError> {
    with_session((file, &[]), plan, |session| {
        for window in windows {
            let mut closed = false;
            session.rewind(0)?;
            session.logits_of(window, 1, &mut |_, logits| {
                // The channels close if the comparison fails.
                let Ok(mut row) = empty.recv() else { return closed = true };
                row.clear();
                row.extend_from_slice(logits);
                closed |= full.send(row).is_err();
            })?;
            if closed {
                break;
            }
        }
        Ok(())
    })
}

/// Runs the model and compares each row of its logits with the reference's.
fn compare(
    pair: &Pair<'_>,
    plan: &InferencePlan,
    windows: &[&[Token]],
    (rows, back): (Receiver<Vec<f32>>, Sender<Vec<f32>>),
    progress: &mut dyn FnMut(usize),
) -> Result<Divergence, DivergenceError> {
    let mut sums = Sums::default();
    with_session((&pair.model, pair.adapters), plan, |session| {
        for (number, window) in windows.iter().enumerate() {
            let (mut wrong, mut alone) = (None, false);
            session.rewind(0)?;
            session.logits_of(window, 1, &mut |index, logits| {
                // The channel closes if the reference fails; that error is reported.
                let Ok(row) = rows.recv() else { return alone = true };
                match Position::of(&row, logits, window[index]) {
                    Some(position) => sums.add(position),
                    None => {
                        let reference = row.iter().any(|logit| !logit.is_finite());
                        wrong.get_or_insert((index, if reference { "reference" } else { "model" }));
                    }
                }
                let _ = back.send(row);
            })?;
            if let Some((index, side)) = wrong {
                return Err(DivergenceError::NotFinite { side, window: number, index });
            }
            if alone {
                break;
            }
            progress(number + 1);
        }
        Ok(())
    })?;
    Ok(sums.divergence())
}

/// The comparison at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Position {
    kl: f64,
    agree: bool,
    /// The token's log-probability in the reference and in the model.
    target: [f64; 2],
}

impl Position {
    /// Compares two rows of logits; `None` if they are not finite.
    ///
    /// `KL(p || q) = sum p (ln p - ln q)`, for logits x and y with largest X and Y:
    /// `sum e^(x-X) ((x-X) - (y-Y)) / sum e^(x-X) - ln sum e^(x-X) + ln sum e^(y-Y)`.
    fn of(reference: &[f32], model: &[f32], token: Token) -> Option<Position> {
        let best = [greedy(reference), greedy(model)];
        let most = |logits: &[f32], best: Token| logits.get(best.index()).copied().map(f64::from);
        let (x_most, y_most) = (most(reference, best[0])?, most(model, best[1])?);
        let (mut x_sum, mut y_sum, mut weighted) = (0.0, 0.0, 0.0);
        for (&x, &y) in reference.iter().zip(model) {
            let (x, y) = (f64::from(x) - x_most, f64::from(y) - y_most);
            let p = x.exp();
            x_sum += p;
            y_sum += y.exp();
            weighted += p * (x - y);
        }
        let kl = weighted / x_sum - x_sum.ln() + y_sum.ln();
        let of = |logits: &[f32], most: f64, sum: f64| {
            logits.get(token.index()).map(|&logit| f64::from(logit) - most - sum.ln())
        };
        let target = [of(reference, x_most, x_sum)?, of(model, y_most, y_sum)?];
        let finite = kl.is_finite() && target.iter().all(|t| t.is_finite());
        // Rounding can make the divergence of equal distributions negative.
        finite.then_some(Position { kl: kl.max(0.0), agree: best[0] == best[1], target })
    }
}

/// Sums over positions.
#[derive(Debug, Default)]
struct Sums {
    kl: Vec<f32>,
    sum: f64,
    squares: f64,
    agree: usize,
    target: [f64; 2],
    difference: f64,
}

impl Sums {
    fn add(&mut self, position: Position) {
        let Position { kl, agree, target } = position;
        self.kl.push(kl as f32);
        self.sum += kl;
        self.squares += kl * kl;
        self.agree += usize::from(agree);
        self.target[0] += target[0];
        self.target[1] += target[1];
        self.difference += (target[0] - target[1]).abs();
    }

    fn divergence(mut self) -> Divergence {
        self.kl.sort_unstable_by(f32::total_cmp);
        let positions = self.kl.len();
        let n = positions as f64;
        let mean = self.sum / n;
        let variance = (self.squares - self.sum * mean) / (n - 1.0).max(1.0);
        let percentile = |fraction: f64| percentile(&self.kl, fraction);
        Divergence {
            positions,
            kl: Distribution {
                mean,
                standard_error: (variance.max(0.0) / n).sqrt(),
                median: percentile(0.5),
                percentile_90: percentile(0.9),
                percentile_99: percentile(0.99),
                maximum: percentile(1.0),
            },
            top_1_agreement: self.agree as f64 / n,
            perplexity: (-self.target[1] / n).exp(),
            reference_perplexity: (-self.target[0] / n).exp(),
            log_probability_difference: self.difference / n,
        }
    }
}

/// The percentile of sorted numbers, interpolated as NumPy does.
fn percentile(sorted: &[f32], fraction: f64) -> f64 {
    let place = fraction * sorted.len().saturating_sub(1) as f64;
    let at = |index: usize| sorted.get(index).map_or(0.0, |&number| f64::from(number));
    let (low, high) = (at(place as usize), at(place.ceil() as usize));
    low + (high - low) * place.fract()
}

#[cfg(test)]
#[path = "divergence_tests.rs"]
mod tests;
