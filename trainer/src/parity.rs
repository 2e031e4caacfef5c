//! Parity with PyTorch on a folder of reference values.
