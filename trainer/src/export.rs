//! Export to a plain Hugging Face folder.
