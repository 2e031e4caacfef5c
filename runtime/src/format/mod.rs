//! The `.thimble` file format. `FORMAT.md` is normative.
//!
//! Only [`ModelFile::parse`] creates a [`ModelFile`]: the type guarantees that every offset is inside the file and every
//! tensor has the shape that the [`Config`] implies. `parse` and `emit` of a record are inverse to each other; the converter
//! writes with the latter.

mod block_layout;
mod config;
mod encoding;
mod error;
mod file;
mod header;
mod layer_options;
mod records;
mod role_table;
mod rope;
mod section;
mod tensor;
mod tensor_role;
#[cfg(test)]
mod tests;

pub use block_layout::{BlockLayout, FloatFormat, GROUP, PANEL, WeightCodes, WeightScales};
pub use config::{Config, MAX_HEAD_DIM};
pub use encoding::Encoding;
pub use error::FormatError;
pub use file::ModelFile;
pub use header::{
    DIRECTORY_RECORD, Directory, HEADER_LEN, MAGIC, SectionBytes, SectionRecord, VERSION, checksum,
    emit_header,
};
pub use layer_options::{LayerOptions, LayerPattern};
pub use records::{align_up, read_f32, read_u16, read_u32, read_u64};
pub use role_table::TensorName;
pub use rope::{RopeParameters, RopeScaling};
pub use section::{ALIGN, SectionKind, SectionName, TENSORS_ALIGN};
pub use tensor::{TENSOR_RECORD, TensorRecord, TensorTable};
pub use tensor_role::TensorRole;
