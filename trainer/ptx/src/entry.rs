//! What a text of PTX consists of.

use crate::instruction::Instruction;

/// A text of PTX.
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) entries: Vec<Entry>,
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// In the order of a launch.
    pub parameters: Vec<Parameter>,
    /// `.maxntid`: threads that a block may have at most.
    pub max_threads: Option<u32>,
    pub(crate) code: Vec<Instruction>,
    /// The bits of each register.
    pub(crate) masks: Vec<u64>,
}

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the text.
    pub name: String,
    /// Bytes from the start of all parameters.
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Module {
    /// All kernels, in the text's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The kernel of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}
