//! What goes wrong: in the text, and while a kernel runs.

use std::fmt;

/// Text that is not PTX as the interpreter knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line of the text, from 1.
    pub line: usize,
    /// What was expected and what was found.
    pub problem: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for ParseError {}

/// An error of a kernel, with the instruction that met it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// The entry.
    pub kernel: String,
    /// The block, and the warp in it; none if the launch itself is wrong.
    pub place: Option<([u32; 3], usize)>,
    /// Line of the instruction and its text; none if no instruction was reached.
    pub instruction: Option<(usize, String)>,
    /// What was expected and what was found.
    pub problem: String,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kernel)?;
        if let Some(([x, y, z], warp)) = self.place {
            write!(f, ", block ({x}, {y}, {z}), warp {warp}")?;
        }
        if let Some((line, text)) = &self.instruction {
            write!(f, ", line {line} `{text}`")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for KernelError {}
