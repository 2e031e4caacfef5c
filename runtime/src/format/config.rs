//! The hyperparameters of a model.

use super::{FormatError, SectionKind, read_f32, read_u32};
use crate::Token;

/// Hyperparameters of a Llama-family model. Those read from a file have passed [`Config::check`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; a divisor of `heads`.
    pub kv_heads: usize,
    /// Head dimension; even.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub ffn: usize,
    /// Vocabulary size: rows of the embedding.
    pub vocab: usize,
    /// Longest context, tokens.
    pub context: usize,
    /// Base of RoPE.
    pub rope_theta: f32,
    /// Epsilon of the RMS norms.
    pub norm_eps: f32,
    /// Whether the head shares the embedding's weights.
    pub tied: bool,
    /// Begin-of-text token, if any.
    pub bos: Option<Token>,
    /// Stop tokens; unused entries are `None`.
    pub stop: [Option<Token>; Config::MAX_STOP_TOKENS],
}

/// Largest head dimension that the kernels have buffers for.
pub const MAX_HEAD_DIM: usize = 256;

const NONE: u32 = u32::MAX;
const TIED: u32 = 1;

impl Config {
    /// Size of the configuration section, bytes.
    pub const LEN: usize = 128;
    /// Most stop tokens.
    pub const MAX_STOP_TOKENS: usize = 8;

    /// Total width of the query heads.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Total width of the key heads, and of the value heads.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads per key-value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Whether `token` is a stop token.
    pub fn is_stop(&self, token: Token) -> bool {
        self.stop.contains(&Some(token))
    }

    /// Number of parameters; shared weights count once.
    pub fn parameters(&self) -> u64 {
        let [hidden, ffn, vocab] = [self.hidden as u64, self.ffn as u64, self.vocab as u64];
        let attention = hidden * (2 * self.q_dim() as u64 + 2 * self.kv_dim() as u64);
        let layer = attention + 3 * hidden * ffn + 2 * hidden;
        let heads = if self.tied { 1 } else { 2 };
        self.layers as u64 * layer + heads * vocab * hidden + hidden
    }

    /// Checks that the runtime supports the value of every field.
    ///
    /// # Errors
    /// [`FormatError::Config`].
    pub fn check(&self) -> Result<(), FormatError> {
        let range = |field, value: usize, limit: usize, expected| {
            let fits = (1..=limit).contains(&value);
            fits.then_some(()).ok_or(FormatError::Config { field, expected, found: value as u64 })
        };
        range("hidden size", self.hidden, 1 << 16, "1 to 65,536")?;
        range("layer count", self.layers, 1 << 10, "1 to 1,024")?;
        range("head count", self.heads, 1 << 10, "1 to 1,024")?;
        range("key-value head count", self.kv_heads, 1 << 10, "1 to 1,024")?;
        range("head dimension", self.head_dim, MAX_HEAD_DIM, "1 to 256")?;
        range("feed-forward size", self.ffn, 1 << 18, "1 to 262,144")?;
        range("vocabulary size", self.vocab, 1 << 22, "1 to 4,194,304")?;
        range("context length", self.context, 1 << 20, "1 to 1,048,576")?;
        let fail = |field, expected, found| Err(FormatError::Config { field, expected, found });
        if !self.heads.is_multiple_of(self.kv_heads) {
            return fail("head count", "a multiple of the key-value head count", self.heads as u64);
        }
        if !self.head_dim.is_multiple_of(2) {
            return fail("head dimension", "even, for the rotary embedding", self.head_dim as u64);
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return fail(
                "RoPE theta (as bits)",
                "finite and at least 1",
                u64::from(self.rope_theta.to_bits()),
            );
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return fail("norm epsilon (as bits)", "between 0 and 1", u64::from(self.norm_eps.to_bits()));
        }
        for token in self.stop.iter().chain([&self.bos]).flatten() {
            if token.index() >= self.vocab {
                return fail("special token", "below the vocabulary size", u64::from(token.0));
            }
        }
        Ok(())
    }

    /// Parses and checks the configuration section.
    ///
    /// # Errors
    /// [`FormatError::SectionLength`], [`FormatError::Reserved`], and those of [`Config::check`].
    pub fn parse(bytes: &[u8]) -> Result<Config, FormatError> {
        let kind = SectionKind::Config;
        if bytes.len() != Self::LEN {
            let [expected, found] = [Self::LEN as u64, bytes.len() as u64];
            return Err(FormatError::SectionLength { kind, expected, found });
        }
        let word = |index: usize| read_u32(bytes, index * 4).unwrap_or(0);
        let size = |index: usize| word(index) as usize;
        let token = |index: usize| Some(word(index)).filter(|&id| id != NONE).map(Token);
        let flags = word(10);
        if flags & !TIED != 0 || bytes[80..].iter().any(|&b| b != 0) {
            return Err(FormatError::Reserved { kind });
        }
        let config = Config {
            hidden: size(0),
            layers: size(1),
            heads: size(2),
            kv_heads: size(3),
            head_dim: size(4),
            ffn: size(5),
            vocab: size(6),
            context: size(7),
            rope_theta: read_f32(bytes, 32).unwrap_or(0.0),
            norm_eps: read_f32(bytes, 36).unwrap_or(0.0),
            tied: flags & TIED != 0,
            bos: token(11),
            stop: core::array::from_fn(|i| token(12 + i)),
        };
        config.check()?;
        Ok(config)
    }

    /// The section that [`Config::parse`] reads.
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let mut put = |index: usize, word: u32| out[index * 4..][..4].copy_from_slice(&word.to_le_bytes());
        let sizes = [self.hidden, self.layers, self.heads, self.kv_heads, self.head_dim];
        let sizes = sizes.into_iter().chain([self.ffn, self.vocab, self.context]);
        for (index, size) in sizes.enumerate() {
            put(index, size as u32);
        }
        put(8, self.rope_theta.to_bits());
        put(9, self.norm_eps.to_bits());
        put(10, if self.tied { TIED } else { 0 });
        put(11, self.bos.map_or(NONE, |t| t.0));
        for (index, stop) in self.stop.iter().enumerate() {
            put(12 + index, stop.map_or(NONE, |t| t.0));
        }
        out
    }
}
