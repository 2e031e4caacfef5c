//! One file for each subcommand: `Job::resolve` from its flags, `Job::run` to do it.

pub(crate) mod bench;
pub(crate) mod chat;
#[cfg(feature = "eval")]
pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod devices;
pub(crate) mod divergence;
#[cfg(feature = "eval")]
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod perplexity;
pub(crate) mod pull;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod tokens;
pub(crate) mod verify;
