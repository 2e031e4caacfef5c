//! How far a model's predictions are from a reference's on a text.
