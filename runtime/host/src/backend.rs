//! The backends that a user can ask for.

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "gpu")]
pub use thimble_gpu::MatmulVariant;
use thimble_runtime::kernels::Kernels;
use thiserror::Error;

/// How a GPU multiplies matrices: nothing to choose from without GPU support.
#[cfg(not(feature = "gpu"))]
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum MatmulVariant {}

/// The processors of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// The fastest backend for this model on this machine, as measured; a software renderer only if it is named.
    Auto,
    /// The CPU alone.
    #[default]
    Cpu,
    /// The GPU; the CPU takes over if it fails.
    Gpu,
    /// Prompts on the GPU, tokens one by one on the CPU.
    GpuPrompts,
    /// Prompts on the CPU, tokens one by one on the GPU.
    GpuTokens,
}

/// Why a backend is not available.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackendError {
    /// No backend has this name.
    #[error("unknown backend '{0}': expected auto, cpu, gpu, gpu+cpu (prompts on the GPU) or cpu+gpu")]
    Unknown(String),
    /// This build has no GPU support.
    #[error(
        "the backend {0} was asked for, but this program was built without GPU support: build it with `--features gpu`, or use \
         the CPU"
    )]
    NotBuilt(BackendKind),
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendKind::Auto => "auto",
            BackendKind::Cpu => "cpu",
            BackendKind::Gpu => "gpu",
            BackendKind::GpuPrompts => "gpu+cpu",
            BackendKind::GpuTokens => "cpu+gpu",
        })
    }
}

impl FromStr for BackendKind {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<BackendKind, BackendError> {
        let found = BackendKind::ALL.into_iter().find(|kind| kind.to_string() == name);
        found.ok_or_else(|| BackendError::Unknown(name.to_owned()))
    }
}

impl BackendKind {
    /// All backends.
    pub const ALL: [BackendKind; 5] = {
        use BackendKind::{Auto, Cpu, Gpu, GpuPrompts, GpuTokens};
        [Auto, Cpu, Gpu, GpuPrompts, GpuTokens]
    };

    /// Whether the GPU runs batches of a prompt, and whether it runs single tokens.
    pub(crate) fn on_gpu(self) -> (bool, bool) {
        match self {
            BackendKind::Auto | BackendKind::Cpu => (false, false),
            BackendKind::Gpu => (true, true),
            BackendKind::GpuPrompts => (true, false),
            BackendKind::GpuTokens => (false, true),
        }
    }

    /// What computes, in words: prompts first where another processor runs them than single tokens.
    pub(crate) fn processors(self, kernels: &Kernels) -> String {
        let name = kernels.name();
        match self {
            BackendKind::Cpu => name.to_owned(),
            BackendKind::Auto => format!("auto, {name}"),
            BackendKind::Gpu => "gpu".to_owned(),
            BackendKind::GpuPrompts => format!("gpu+{name}"),
            BackendKind::GpuTokens => format!("{name}+gpu"),
        }
    }

    /// Whether the GPU runs tokens one by one.
    pub fn decodes_on_gpu(self) -> bool {
        self.on_gpu().1
    }

    /// Whether the GPU runs anything; false for `Auto`, which is not resolved yet.
    pub fn has_gpu(self) -> bool {
        self.on_gpu() != (false, false)
    }

    /// `given`, or else what `THIMBLE_BACKEND` names, or else the CPU.
    ///
    /// # Errors
    /// An unknown name, or a backend that this build lacks.
    pub(crate) fn resolve(given: Option<BackendKind>) -> Result<BackendKind, BackendError> {
        let named = std::env::var_os("THIMBLE_BACKEND").filter(|name| !name.is_empty());
        let kind = match (given, named) {
            (Some(kind), _) => kind,
            (None, Some(name)) => name.to_string_lossy().parse()?,
            (None, None) => BackendKind::default(),
        };
        match kind {
            _ if cfg!(feature = "gpu") => Ok(kind),
            BackendKind::Auto | BackendKind::Cpu => Ok(BackendKind::Cpu),
            _ => Err(BackendError::NotBuilt(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in BackendKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let refused = "cuda".parse::<BackendKind>().unwrap_err().to_string();
        assert!(refused.contains("'cuda'") && refused.contains("gpu+cpu"), "{refused}");
    }
}
