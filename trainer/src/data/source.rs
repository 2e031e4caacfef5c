//! Text sources: txt, jsonl, parquet, plain, gzip or zstd.
