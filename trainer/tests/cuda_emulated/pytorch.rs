//! Ten steps against PyTorch's bf16 run.
