//! A small configuration for tests.

use thimble_runtime::format::Config;

pub(crate) const CONFIG: Config = Config {
    hidden: 64,
    layers: 12,
    heads: 2,
    kv_heads: 1,
    head_dim: 32,
    ffn: 96,
    vocab: 100,
    context: 64,
    rope_theta: 1e4,
    norm_eps: 1e-5,
    tied: true,
    bos: None,
    stop: [None; Config::MAX_STOP_TOKENS],
};
