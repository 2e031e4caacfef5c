//! The models that the kernels are for.

use thimble_runtime::format::Config;

/// Width of a head that attention's kernels are for, and the most query heads that share a key head.
const HEAD_DIM: usize = 64;
const GROUP: usize = 4;
/// Elements that are read at once.
const VECTOR: usize = 8;
/// The widest rows whose sums, 16 bytes a column, fit the 99 KB of shared memory that every generation allows a block.
const NORM_COLUMNS: usize = 6144;

/// What of a model the kernels lack, for a message; none if they have all of it.
pub fn unsupported(config: &Config) -> Option<String> {
    let Config { head_dim, heads, kv_heads, hidden, ffn, .. } = *config;
    let window = || (0..config.layers).find_map(|layer| config.layer(layer).window);
    if config.qkv_bias {
        Some("biases of query, key and value projections".into())
    } else if config.qk_norm {
        Some("norms of query and key heads".into())
    } else if let Some(window) = window() {
        Some(format!("a window of {window} positions"))
    } else if head_dim != HEAD_DIM {
        Some(format!("heads of width {head_dim} (only {HEAD_DIM})"))
    } else if !heads.is_multiple_of(kv_heads) || heads / kv_heads > GROUP {
        Some(format!("{heads} query heads for {kv_heads} key heads (at most {GROUP} for one)"))
    } else if hidden > NORM_COLUMNS {
        Some(format!("a width of {hidden} (at most {NORM_COLUMNS})"))
    } else {
        let ragged = [hidden, ffn].into_iter().find(|width| !width.is_multiple_of(VECTOR));
        ragged.map(|width| format!("a width of {width} (only multiples of {VECTOR})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        let good = Config {
            hidden: 384,
            heads: 6,
            kv_heads: 2,
            head_dim: 64,
            ffn: 1024,
            layers: 2,
            ..Config::PLAIN
        };
        assert_eq!(unsupported(&good), None);
        for (config, expected) in [
            (Config { qkv_bias: true, ..good }, "biases"),
            (Config { qk_norm: true, ..good }, "norms of query and key heads"),
            (Config { head_dim: 128, ..good }, "heads of width 128 (only 64)"),
            (Config { heads: 10, ..good }, "10 query heads for 2 key heads"),
            (Config { ffn: 1020, ..good }, "a width of 1020"),
            (Config { hidden: 8192, heads: 128, kv_heads: 32, ..good }, "a width of 8192 (at most 6144)"),
        ] {
            assert!(unsupported(&config).is_some_and(|what| what.contains(expected)), "{expected}");
        }
    }
}
