//! One file for each subcommand: `Job::resolve` from its flags, `Job::run` to do it.

pub(crate) mod list;
pub(crate) mod pull;
