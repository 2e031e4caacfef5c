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
    ..Config::PLAIN
};
