//! Launches of a kernel over a grid.

use crate::block::Block;
use crate::entry::Entry;
use crate::error::KernelError;
use crate::memory::{Memory, Pointer};
use crate::run;
use crate::shared::Shared;
use crate::warp::Place;
use std::collections::BTreeMap;

/// Sizes of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x, y and z.
    pub blocks: [u32; 3],
    /// Threads of a block, in x.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
}

/// Value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LaunchArgument {
    /// Address in global memory.
    Pointer(Pointer),
    /// 32 bits with a sign.
    I32(i32),
    /// 32 bits without one.
    U32(u32),
    /// 64 bits with a sign.
    I64(i64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
}

impl LaunchArgument {
    fn bytes(self) -> Vec<u8> {
        match self {
            LaunchArgument::Pointer(Pointer(address)) => address.to_le_bytes().to_vec(),
            LaunchArgument::I32(value) => value.to_le_bytes().to_vec(),
            LaunchArgument::U32(value) => value.to_le_bytes().to_vec(),
            LaunchArgument::I64(value) => value.to_le_bytes().to_vec(),
            LaunchArgument::F32(value) => value.to_le_bytes().to_vec(),
            LaunchArgument::F64(value) => value.to_le_bytes().to_vec(),
        }
    }
}

/// What a launch executed and used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Executions of a warp by opcode with its modifiers.
    pub by_opcode: BTreeMap<String, u64>,
    /// Bytes of shared memory up to the last one that a block accessed.
    pub shared_bytes: usize,
}

impl Counts {
    /// Executions of opcodes that begin so.
    pub fn beginning(&self, prefix: &str) -> u64 {
        self.by_opcode.iter().filter(|(opcode, _)| opcode.starts_with(prefix)).map(|(_, count)| count).sum()
    }

    /// Executions of all.
    pub fn total(&self) -> u64 {
        self.by_opcode.values().sum()
    }
}

impl Entry {
    /// Runs the kernel, block after block.
    ///
    /// # Errors
    /// The arguments or sizes do not fit the kernel, or the kernel does something wrong.
    pub fn launch(
        &self,
        grid: Grid,
        arguments: &[LaunchArgument],
        memory: &mut Memory,
    ) -> Result<Counts, KernelError> {
        let [width, height, depth] = grid.blocks;
        let rows = (0..depth).flat_map(|z| (0..height).map(move |y| (y, z)));
        let blocks = rows.flat_map(|(y, z)| (0..width).map(move |x| [x, y, z]));
        self.launch_blocks(grid, blocks, arguments, memory)
    }

    /// Runs some blocks of a grid.
    ///
    /// # Errors
    /// As `launch`.
    pub fn launch_blocks(
        &self,
        grid: Grid,
        blocks: impl IntoIterator<Item = [u32; 3]>,
        arguments: &[LaunchArgument],
        memory: &mut Memory,
    ) -> Result<Counts, KernelError> {
        let wrong =
            |problem| KernelError { kernel: self.name.clone(), place: None, instruction: None, problem };
        let parameters = self.argument_bytes(arguments).map_err(wrong)?;
        let most = self.max_threads.unwrap_or(1024);
        if grid.threads == 0 || grid.threads > most {
            return Err(wrong(format!("expected 1 to {most} threads, found {}", grid.threads)));
        }
        memory.begin_launch();
        let mut executed = vec![0; self.code.len()];
        let mut shared_bytes = 0;
        for (number, place) in (0..).zip(blocks) {
            let place = Place { threads: grid.threads, block: place, grid: grid.blocks };
            let shared = Shared::new(grid.shared_bytes as usize);
            let block = Block { memory, shared, parameters: &parameters, masks: &self.masks, number };
            shared_bytes = shared_bytes.max(run::run(self, place, block, &mut executed)?);
        }
        let mut counts = Counts { shared_bytes, ..Counts::default() };
        for (instruction, &count) in self.code.iter().zip(&executed).filter(|&(_, &count)| count > 0) {
            *counts.by_opcode.entry(instruction.opcode.clone()).or_default() += count;
        }
        Ok(counts)
    }

    fn argument_bytes(&self, arguments: &[LaunchArgument]) -> Result<Vec<u8>, String> {
        if arguments.len() != self.parameters.len() {
            return Err(format!("expected {} arguments, found {}", self.parameters.len(), arguments.len()));
        }
        let mut all = Vec::new();
        for (parameter, argument) in self.parameters.iter().zip(arguments) {
            let bytes = argument.bytes();
            if bytes.len() != parameter.bytes {
                return Err(format!(
                    "expected {} bytes for `{}`, found {argument:?}",
                    parameter.bytes, parameter.name
                ));
            }
            all.resize(parameter.offset, 0);
            all.extend(bytes);
        }
        Ok(all)
    }
}
