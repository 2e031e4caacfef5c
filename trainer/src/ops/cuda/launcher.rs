//! What the operations need of a device: memory, launches of kernels, products of matrices.

use crate::error::{Error, Result};

/// Bytes of an activation, and of a statistic, a weight or a gradient.
pub(super) const BF16: usize = 2;
pub(super) const F32: usize = 4;

/// A place in device memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

/// A stretch of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it begins.
    pub address: Address,
    /// Its length.
    pub bytes: usize,
}

impl Region {
    /// What a kernel is given where there is nothing.
    pub const NULL: Region = Region { address: Address(0), bytes: 0 };

    /// The `bytes` bytes from byte `start` on.
    ///
    /// # Panics
    /// They are not all of this region, which a device might not notice.
    pub fn part(self, start: usize, bytes: usize) -> Region {
        let inside = start.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        assert!(inside, "{bytes} bytes from {start} on of {self:?}");
        Region { address: Address(self.address.0 + start as u64), bytes }
    }

    /// What follows the first `bytes` bytes.
    pub fn behind(self, bytes: usize) -> Region {
        self.part(bytes, self.bytes - bytes)
    }
}

/// Memory of a device, freed when dropped.
pub trait DeviceMemory {
    /// Where it begins, on a boundary of 256 bytes.
    fn address(&self) -> Address;
    /// Bytes.
    fn bytes(&self) -> usize;
    /// All of it.
    fn region(&self) -> Region {
        Region { address: self.address(), bytes: self.bytes() }
    }
}

/// What a kernel is called with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// bf16 numbers.
    Bf16s(Region),
    /// f32 numbers.
    F32s(Region),
    /// f64 numbers.
    F64s(Region),
    /// u32 numbers.
    U32s(Region),
    /// An `int32_t`.
    Int32(i32),
    /// An `int64_t`.
    Int64(i64),
    /// A `float`.
    Float(f32),
}

impl Argument {
    /// The parameter's bytes, in the low ones of a slot.
    pub fn bits(self) -> u64 {
        match self {
            Argument::Bf16s(region)
            | Argument::F32s(region)
            | Argument::F64s(region)
            | Argument::U32s(region) => region.address.0,
            Argument::Int32(value) => u64::from(value as u32),
            Argument::Int64(value) => value as u64,
            Argument::Float(value) => u64::from(value.to_bits()),
        }
    }
}

/// A launch of one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The kernel's name in `kernels.def`.
    pub kernel: &'static str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
    /// In the order of the kernel's parameters.
    pub arguments: Vec<Argument>,
}

/// A matrix of bf16 numbers, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorMatrix {
    /// From its first element on.
    pub region: Region,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Whether its transpose is the factor.
    pub transposed: bool,
}

impl FactorMatrix {
    /// A matrix whose rows begin every `stride` elements.
    pub fn new(region: Region, stride: usize) -> FactorMatrix {
        FactorMatrix { region, stride, transposed: false }
    }

    /// Its transpose.
    pub fn transpose(self) -> FactorMatrix {
        FactorMatrix { transposed: !self.transposed, ..self }
    }
}

/// Formats of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberFormat {
    /// Rounded once, to nearest.
    Bf16,
    /// As it was summed.
    F32,
}

impl NumberFormat {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            NumberFormat::Bf16 => BF16,
            NumberFormat::F32 => F32,
        }
    }
}

/// `output = factor x left x right + added`, with sums in f32: a call of cuBLASLt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Rows, columns, and the length of each sum.
    pub shape: [usize; 3],
    /// Factor of the product.
    pub factor: f32,
    /// `rows x inner` numbers of bf16.
    pub left: FactorMatrix,
    /// `inner x columns` numbers of bf16.
    pub right: FactorMatrix,
    /// `rows x columns`.
    pub output: Region,
    /// Elements from one row of the output to the next.
    pub stride: usize,
    /// Of the output, and of what is added.
    pub format: NumberFormat,
    /// What is added, laid out as the output; it may be the output itself.
    pub added: Option<Region>,
}

impl Product {
    /// The shape, unless a matrix is longer than its region.
    ///
    /// # Errors
    /// Which it is.
    pub fn checked_shape(&self) -> Result<[usize; 3]> {
        let [rows, columns, inner] = self.shape;
        let stored = |matrix: &FactorMatrix, [rows, columns]: [usize; 2]| {
            let [rows, columns] = if matrix.transposed { [columns, rows] } else { [rows, columns] };
            (matrix.region, rows, columns, matrix.stride, NumberFormat::Bf16)
        };
        let output = |region| (region, rows, columns, self.stride, self.format);
        let matrices = [
            ("left factor", Some(stored(&self.left, [rows, inner]))),
            ("right factor", Some(stored(&self.right, [inner, columns]))),
            ("output", Some(output(self.output))),
            ("sum", self.added.map(output)),
        ];
        for (name, matrix) in matrices {
            let Some((region, rows, columns, stride, format)) = matrix else { continue };
            let needed = ((rows.max(1) - 1) * stride + columns) * format.bytes();
            if rows == 0 || columns == 0 || columns > stride || needed > region.bytes {
                return Err(Error::Invalid(format!(
                    "a product's {name} of {rows} x {columns}, rows {stride} apart: expected {needed} bytes, found {}",
                    region.bytes
                )));
            }
        }
        Ok(self.shape)
    }
}

/// A device that runs the kernels: a GPU through its driver, or the emulator. Work is done in the order of the calls.
pub trait Launcher {
    /// The device's memory.
    type Memory: DeviceMemory;

    /// The device, for display.
    fn device(&self) -> String;

    /// Allocates memory; its content is undefined.
    ///
    /// # Errors
    /// The device lacks the memory.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory>;

    /// Waits for what was started and copies `to.bytes` bytes from the host.
    ///
    /// # Errors
    /// There are fewer or more, or the device fails.
    fn upload(&self, to: Region, bytes: &[u8]) -> Result<()>;

    /// Waits for what was started and copies `from.bytes` bytes to the host.
    ///
    /// # Errors
    /// There is room for fewer or more, or the device fails, or an earlier launch did.
    fn download(&self, from: Region, bytes: &mut [u8]) -> Result<()>;

    /// Zeroes memory.
    ///
    /// # Errors
    /// The device fails.
    fn zero(&self, region: Region) -> Result<()>;

    /// Copies within the device; the two regions have one length and do not overlap.
    ///
    /// # Errors
    /// The device fails.
    fn copy(&self, from: Region, to: Region) -> Result<()>;

    /// Starts a kernel.
    ///
    /// # Errors
    /// There is no such kernel, or the device refuses the launch.
    fn launch(&self, launch: &Launch) -> Result<()>;

    /// Starts a product.
    ///
    /// # Errors
    /// The device has no way to compute it.
    fn multiply(&self, product: &Product) -> Result<()>;
}

/// Refuses a copy between the host and a region of another length.
#[cfg(any(test, feature = "cuda", feature = "emulator"))]
pub(super) fn check_copy(host: usize, region: Region) -> Result<()> {
    if host == region.bytes {
        return Ok(());
    }
    Err(Error::Invalid(format!("a copy of {host} bytes on the host and {} on the device", region.bytes)))
}
