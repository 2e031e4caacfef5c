//! Global memory: named allocations with bounds, what has been written in each and by whom.

use std::fmt;
use std::ops::Range;

/// Where shared memory lies among generic addresses.
pub(crate) const SHARED_WINDOW: u64 = 1 << 60;

/// Allocations are so far apart that an address shows which one is meant, and that none fits 32 bits.
const ALLOCATION_BITS: u32 = 40;

const NOBODY: u32 = 0;
const BEFORE: u32 = 1;
/// Of block 0 of this launch.
const FIRST_BLOCK: u32 = 2;
const MANY: u32 = u32::MAX;

/// Global memory of the device that is interpreted.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    allocations: Vec<Allocation>,
}

#[derive(Clone, Debug)]
struct Allocation {
    name: String,
    /// Bytes before those that are held; more of them may follow.
    start: usize,
    length: usize,
    bytes: Vec<u8>,
    /// Who has written each byte last.
    writers: Vec<u32>,
    /// Which block of this launch has read each byte; [`MANY`] for several.
    readers: Vec<u32>,
    writable: bool,
}

/// Address of a place in [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer(pub(crate) u64);

impl Pointer {
    /// The address 0, where nothing is.
    pub const NULL: Pointer = Pointer(0);

    /// The place so many bytes behind.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Pointer {
        Pointer(self.0 + bytes)
    }
}

/// A number as it lies in memory.
pub trait Element: Copy + fmt::Debug {
    /// Bytes of one.
    const BYTES: usize;
    /// Appends its bytes.
    fn append(self, to: &mut Vec<u8>);
    /// From `BYTES` bytes.
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($name:ident),+) => {$(
        impl Element for $name {
            const BYTES: usize = size_of::<$name>();
            fn append(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
            fn from_bytes(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$name>()];
                array.copy_from_slice(bytes);
                $name::from_le_bytes(array)
            }
        }
    )+};
}
elements!(u8, u16, u32, u64, i32, i64, f32, f64);

impl Memory {
    /// Without allocations.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// Values that kernels may only read.
    pub fn input<T: Element>(&mut self, name: &str, values: &[T]) -> Pointer {
        self.allocate(name, values, false)
    }

    /// Values that kernels may read and write.
    pub fn in_place<T: Element>(&mut self, name: &str, values: &[T]) -> Pointer {
        self.allocate(name, values, true)
    }

    /// Bytes that kernels have to write before anybody reads them.
    pub fn output(&mut self, name: &str, bytes: usize) -> Pointer {
        let pointer = self.allocate(name, &vec![0u8; bytes], true);
        if let Some(last) = self.allocations.last_mut() {
            last.writers.fill(NOBODY);
        }
        pointer
    }

    /// Makes the allocation at the pointer a part of one of `length` bytes, from byte `start` on. The rest of that is not
    /// held, and an error to access: so a kernel is tried at sizes that no memory has.
    pub fn embed(&mut self, pointer: Pointer, start: usize, length: usize) {
        if let Ok((index, _)) = self.locate(pointer.0) {
            let allocation = &mut self.allocations[index];
            (allocation.start, allocation.length) = (start, length);
        }
    }

    fn allocate<T: Element>(&mut self, name: &str, values: &[T], writable: bool) -> Pointer {
        let mut bytes = Vec::with_capacity(values.len() * T::BYTES);
        values.iter().for_each(|value| value.append(&mut bytes));
        let (writers, readers) = (vec![BEFORE; bytes.len()], vec![NOBODY; bytes.len()]);
        let (name, length) = (name.to_owned(), bytes.len());
        self.allocations.push(Allocation { name, start: 0, length, bytes, writers, readers, writable });
        Pointer((self.allocations.len() as u64) << ALLOCATION_BITS)
    }

    /// The values of the whole allocation that begins at the pointer.
    ///
    /// # Errors
    /// There is none, or nobody has written some of it.
    pub fn read<T: Element>(&self, pointer: Pointer) -> Result<Vec<T>, String> {
        let (allocation, offset) = self.find(pointer.0)?;
        if offset != 0 || allocation.bytes.len() % T::BYTES != 0 {
            return Err(format!(
                "expected the start of whole elements of {} bytes in `{}`",
                T::BYTES,
                allocation.name
            ));
        }
        if let Some(hole) = allocation.writers.iter().position(|&writer| writer == NOBODY) {
            return Err(format!("byte {hole} of `{}` has never been written", allocation.name));
        }
        Ok(allocation.bytes.chunks_exact(T::BYTES).map(T::from_bytes).collect())
    }

    /// Forgets which block read and wrote what, before a launch.
    pub(crate) fn begin_launch(&mut self) {
        for allocation in &mut self.allocations {
            allocation.writers.iter_mut().for_each(|writer| *writer = (*writer).min(BEFORE));
            allocation.readers.fill(NOBODY);
        }
    }

    /// Reads as block number `block`.
    pub(crate) fn load(&mut self, address: u64, to: &mut [u8], block: u32) -> Result<(), String> {
        let (index, offset) = self.locate(address)?;
        let held = self.allocations[index].range(offset, to.len())?;
        let Allocation { name, start, writers, readers, bytes, .. } = &mut self.allocations[index];
        let own = FIRST_BLOCK + block;
        for i in held.clone() {
            let at = *start + i;
            match writers[i] {
                NOBODY => return Err(format!("byte {at} of `{name}` is read and has never been written")),
                writer if writer >= FIRST_BLOCK && writer != own => {
                    let other = writer - FIRST_BLOCK;
                    return Err(format!(
                        "byte {at} of `{name}` is read, and block number {other} of this launch writes it"
                    ));
                }
                _ => {}
            }
            readers[i] = if readers[i] == NOBODY || readers[i] == own { own } else { MANY };
        }
        to.copy_from_slice(&bytes[held]);
        Ok(())
    }

    /// Writes as block number `block`.
    pub(crate) fn store(&mut self, address: u64, from: &[u8], block: u32) -> Result<(), String> {
        let (index, offset) = self.locate(address)?;
        let held = self.allocations[index].range(offset, from.len())?;
        let Allocation { name, start, writers, readers, bytes, writable, .. } = &mut self.allocations[index];
        if !*writable {
            return Err(format!("`{name}` is an input and is written at byte {offset}"));
        }
        let own = FIRST_BLOCK + block;
        for i in held.clone() {
            let at = *start + i;
            if writers[i] >= FIRST_BLOCK && writers[i] != own {
                let other = writers[i] - FIRST_BLOCK;
                return Err(format!(
                    "byte {at} of `{name}` is written, and block number {other} of this launch writes it too"
                ));
            }
            if readers[i] != NOBODY && readers[i] != own {
                return Err(format!(
                    "byte {at} of `{name}` is written, and another block of this launch reads it"
                ));
            }
            writers[i] = own;
        }
        bytes[held].copy_from_slice(from);
        Ok(())
    }

    fn find(&self, address: u64) -> Result<(&Allocation, usize), String> {
        self.locate(address).map(|(index, offset)| (&self.allocations[index], offset))
    }

    fn locate(&self, address: u64) -> Result<(usize, usize), String> {
        let index = (address >> ALLOCATION_BITS) as usize;
        if index == 0 || index > self.allocations.len() {
            return Err(format!("expected the address of an allocation, found {address:#x}"));
        }
        Ok((index - 1, (address & ((1 << ALLOCATION_BITS) - 1)) as usize))
    }
}

impl Allocation {
    /// Where the bytes of an access are held.
    fn range(&self, offset: usize, length: usize) -> Result<Range<usize>, String> {
        let (name, end) = (&self.name, offset + length);
        if end > self.length {
            return Err(format!(
                "bytes {offset} to {end} of `{name}` are accessed, and it has {}",
                self.length
            ));
        }
        let held = self.start + self.bytes.len();
        if offset < self.start || end > held {
            let start = self.start;
            return Err(format!(
                "bytes {offset} to {end} of `{name}` are accessed, and {start} to {held} are expected"
            ));
        }
        Ok(offset - self.start..end - self.start)
    }
}
