//! Commands that this build lacks: whatever follows them is accepted, so that the error names the missing feature.

use clap::Args;
use std::ffi::OsString;

/// Everything that was typed, `--help` included.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct Flags {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _typed: Vec<OsString>,
}
