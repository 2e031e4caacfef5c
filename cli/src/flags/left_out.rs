//! Commands that this program was built without: whatever is typed behind them, they say so.

use clap::Args;
use std::ffi::OsString;

/// All that was typed, `--help` included.
#[derive(Args, Clone, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct LeftOut {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _typed: Vec<OsString>,
}
