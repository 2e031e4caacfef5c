//! Checkpoints: one atomic folder each, from which a run continues bit for bit.
