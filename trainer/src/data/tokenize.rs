//! Text to token sets, on all cores, resumable.
