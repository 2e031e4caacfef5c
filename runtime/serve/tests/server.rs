//! x
#[path = "../../../tests/tests/tiny/mod.rs"]
mod tiny;
