//! The hyperparameters of a model.

use super::{FormatError, LayerOptions, LayerPattern, RopeParameters, SectionKind, read_f32, read_u32};
use crate::Token;

/// Hyperparameters of a Llama-family model: shape, RoPE, options of all layers and of some. Those read from a file have
/// passed [`Config::check`].
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
    /// RoPE's base and scaling.
    pub rope: RopeParameters,
    /// Epsilon of the RMS norms.
    pub norm_eps: f32,
    /// Whether the head shares the embedding's weights.
    pub tied: bool,
    /// Whether query, key and value projections have biases (Qwen2).
    pub qkv_bias: bool,
    /// Whether each query and key head has an RMS norm, before RoPE (Qwen3).
    pub qk_norm: bool,
    /// Positions that a token attends to in layers with a sliding window, itself included; 0 if there is no such layer.
    pub window: usize,
    /// The layers without RoPE, and those with a sliding window.
    pub pattern: LayerPattern,
    /// Begin-of-text token, if any.
    pub bos: Option<Token>,
    /// Stop tokens; unused entries are `None`.
    pub stop: [Option<Token>; Config::MAX_STOP_TOKENS],
}

/// Largest head dimension that the kernels have buffers for.
pub const MAX_HEAD_DIM: usize = 256;

/// Most layers.
const MAX_LAYERS: usize = 1 << 10;
const NONE: u32 = u32::MAX;
const TIED: u32 = 1;
const QKV_BIAS: u32 = 2;
const QK_NORM: u32 = 4;
/// First word of those that are zero for a plain Llama.
const OPTIONS: usize = 20;

impl Config {
    /// Size of the configuration section, bytes.
    pub const LEN: usize = 128;
    /// Most stop tokens.
    pub const MAX_STOP_TOKENS: usize = 8;
    /// The smallest plain Llama, for struct update syntax: `Config { hidden: 64, ..Config::PLAIN }`.
    pub const PLAIN: Config = Config {
        hidden: 1,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        ffn: 1,
        vocab: 1,
        context: 1,
        rope: RopeParameters::new(10_000.0),
        norm_eps: 1e-5,
        tied: true,
        qkv_bias: false,
        qk_norm: false,
        window: 0,
        pattern: LayerPattern::PLAIN,
        bos: None,
        stop: [None; Config::MAX_STOP_TOKENS],
    };

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
        let biases = if self.qkv_bias { (self.q_dim() + 2 * self.kv_dim()) as u64 } else { 0 };
        let norms = 2 * hidden + if self.qk_norm { 2 * self.head_dim as u64 } else { 0 };
        let layer = attention + biases + 3 * hidden * ffn + norms;
        let heads = if self.tied { 1 } else { 2 };
        self.layers as u64 * layer + heads * vocab * hidden + hidden
    }

    /// The options of layer `index`.
    pub fn layer(&self, index: usize) -> LayerOptions {
        let window = self.pattern.is_sliding(index).then_some(self.window);
        LayerOptions { rope: self.pattern.has_rope(index), window }
    }

    /// The lowest format version that describes the configuration: 1 for a plain Llama.
    pub fn version(&self) -> u32 {
        let options = self.emit()[OPTIONS * 4..].iter().any(|&byte| byte != 0);
        if options || self.qkv_bias || self.qk_norm { 2 } else { 1 }
    }

    /// Checks that the runtime supports the value of every field.
    ///
    /// # Errors
    /// [`FormatError::Config`], [`FormatError::ConfigNumber`].
    pub fn check(&self) -> Result<(), FormatError> {
        let range = |field, value: usize, limit: usize, expected| {
            let fits = (1..=limit).contains(&value);
            fits.then_some(()).ok_or(FormatError::Config { field, expected, found: value as u64 })
        };
        range("hidden size", self.hidden, 1 << 16, "1 to 65,536")?;
        range("layer count", self.layers, MAX_LAYERS, "1 to 1,024")?;
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
        self.rope.check()?;
        if self.window > 1 << 20 || self.pattern.any_sliding() != (self.window > 0) {
            let expected = "1 to 1,048,576 if layers have a sliding window, else 0";
            return fail("sliding window", expected, self.window as u64);
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            let (field, expected) = ("norm epsilon", "between 0 and 1");
            return Err(FormatError::ConfigNumber { field, expected, found: self.norm_eps });
        }
        for token in self.stop.iter().chain([&self.bos]).flatten() {
            if token.index() >= self.vocab {
                return fail("special token", "below the vocabulary size", u64::from(token.0));
            }
        }
        Ok(())
    }

    /// Parses and checks the configuration section of a file of format `version`.
    ///
    /// # Errors
    /// [`FormatError::SectionLength`], [`FormatError::Reserved`], and those of [`Config::check`].
    pub fn parse(bytes: &[u8], version: u32) -> Result<Config, FormatError> {
        let kind = SectionKind::Config;
        if bytes.len() != Self::LEN {
            let [expected, found] = [Self::LEN as u64, bytes.len() as u64];
            return Err(FormatError::SectionLength { kind, expected, found });
        }
        let word = |index: usize| read_u32(bytes, index * 4).unwrap_or(0);
        let size = |index: usize| word(index) as usize;
        let token = |index: usize| Some(word(index)).filter(|&id| id != NONE).map(Token);
        let flags = word(10);
        let known = if version == 1 { TIED } else { TIED | QKV_BIAS | QK_NORM };
        if flags & !known != 0 || version == 1 && bytes[OPTIONS * 4..].iter().any(|&b| b != 0) {
            return Err(FormatError::Reserved { kind });
        }
        let theta = read_f32(bytes, 32).unwrap_or(0.0);
        let rope = RopeParameters::parse(theta, core::array::from_fn(|i| word(OPTIONS + i)));
        // The check below rejects more layers; they must not take time before.
        let layers = size(1).min(MAX_LAYERS);
        let pattern = LayerPattern::parse(core::array::from_fn(|i| word(OPTIONS + 7 + i)), layers);
        let unknown = |field, index: usize| FormatError::Config {
            field,
            expected: "a value that FORMAT.md lists",
            found: u64::from(word(index)),
        };
        let config = Config {
            hidden: size(0),
            layers: size(1),
            heads: size(2),
            kv_heads: size(3),
            head_dim: size(4),
            ffn: size(5),
            vocab: size(6),
            context: size(7),
            rope: rope.ok_or(unknown("RoPE scaling", OPTIONS))?,
            norm_eps: read_f32(bytes, 36).unwrap_or(0.0),
            tied: flags & TIED != 0,
            qkv_bias: flags & QKV_BIAS != 0,
            qk_norm: flags & QK_NORM != 0,
            window: size(OPTIONS + 6),
            pattern: pattern.ok_or(unknown("period of the layer pattern", OPTIONS + 7))?,
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
        put(8, self.rope.theta.to_bits());
        put(9, self.norm_eps.to_bits());
        let flags = [(self.tied, TIED), (self.qkv_bias, QKV_BIAS), (self.qk_norm, QK_NORM)];
        put(10, flags.into_iter().fold(0, |flags, (on, flag)| if on { flags | flag } else { flags }));
        put(11, self.bos.map_or(NONE, |t| t.0));
        for (index, stop) in self.stop.iter().enumerate() {
            put(12 + index, stop.map_or(NONE, |t| t.0));
        }
        let options =
            self.rope.scaling_words().into_iter().chain([self.window as u32]).chain(self.pattern.words());
        for (index, word) in options.enumerate() {
            put(OPTIONS + index, word);
        }
        out
    }
}
