//! Adapters: read from folders of the PEFT library and from `.adapter` files, written as `.adapter` files, and merged into the
//! matrices of a model.

mod merge;
mod peft;
mod write;

pub use write::AdapterSummary;

use crate::pack;
use crate::read::{BlockType, SourceModel};
use crate::{ConvertError, dequantize};
use std::path::Path;
use thimble_files::OpenedAdapter;
use thimble_runtime::adapter::{ADAPTER_MAGIC, AdapterError};
use thimble_runtime::format::{Encoding, TensorRole};
use xxhash_rust::xxh3::Xxh3;

/// The low-rank matrices beside one matrix of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceLowRank {
    /// The adapted matrix.
    pub role: TensorRole,
    /// Its layer.
    pub layer: u16,
    /// Rows of the adapted matrix.
    pub rows: usize,
    /// Columns of the adapted matrix.
    pub columns: usize,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// Factor of `B A`.
    pub scale: f32,
    /// The type of the source's numbers: F32, F16 or BF16.
    pub kind: BlockType,
    /// `[rank, columns]`.
    pub a: Vec<f32>,
    /// `[rows, rank]`.
    pub b: Vec<f32>,
}

/// An opened adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceAdapter {
    /// File or folder name of the source.
    pub source: String,
    /// The base model's name or path, as the source has it.
    pub base: Option<String>,
    /// What identifies the base model ([`fingerprint`]), if the source tells.
    pub fingerprint: Option<u64>,
    /// Layers of the base model, if they are known.
    pub layers: Option<u32>,
    /// Sorted by layer and role.
    pub matrices: Vec<SourceLowRank>,
}

/// Whether the path is a folder of the PEFT library.
pub fn is_peft_folder(path: &Path) -> bool {
    path.join(peft::CONFIG).is_file()
}

/// Whether the path is a folder of the PEFT library or an `.adapter` file.
pub fn is_adapter(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; ADAPTER_MAGIC.len()];
    let file = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    is_peft_folder(path) || (file.is_ok() && magic == ADAPTER_MAGIC)
}

/// Opens a folder of the PEFT library (also what `thimble-train` exports), or an `.adapter` file.
///
/// # Errors
/// It cannot be read, is damaged, or has what an adapter file cannot hold.
pub fn open(path: &Path) -> Result<SourceAdapter, ConvertError> {
    if path.metadata().map_err(ConvertError::read(path))?.is_dir() {
        return peft::open(path);
    }
    let opened = OpenedAdapter::read(path)?;
    let file = opened
        .file()
        .map_err(|source| thimble_files::OpenError::Adapter { path: path.to_owned(), source })?;
    let matrices = file.records().map(|record| {
        let low_rank = file.matrices(&record);
        // The file's checks guarantee the sizes.
        let floats = |matrix: thimble_runtime::kernels::Matrix<'_>| {
            pack::unpack(matrix.encoding, matrix.data, matrix.rows, matrix.columns).unwrap_or_default()
        };
        SourceLowRank {
            role: record.role,
            layer: record.layer,
            rows: low_rank.b.rows,
            columns: low_rank.a.columns,
            rank: low_rank.a.rows,
            scale: low_rank.scale,
            kind: match record.encoding {
                Encoding::F16 => BlockType::F16,
                Encoding::BF16 => BlockType::BF16,
                _ => BlockType::F32,
            },
            a: floats(low_rank.a),
            b: floats(low_rank.b),
        }
    });
    Ok(SourceAdapter {
        source: name_of(path),
        base: None,
        fingerprint: file.header().fingerprint,
        layers: file.header().layers,
        matrices: matrices.collect(),
    })
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Identifies a model of any format:
/// [`base_fingerprint`](thimble_runtime::adapter::base_fingerprint) of every file that is converted from it.
///
/// # Errors
/// A norm or a bias cannot be read.
pub fn fingerprint(model: &SourceModel) -> Result<u64, ConvertError> {
    let mut hash = Xxh3::new();
    let mut bytes = Vec::new();
    for tensor in model.tensors().iter().filter(|tensor| tensor.role.is_vector()) {
        model.read_rows(tensor, 0..1, &mut bytes)?;
        let mut numbers = vec![0.0f32; tensor.columns];
        dequantize(tensor.kind, &bytes, &mut numbers);
        numbers.iter().for_each(|number| hash.update(&number.to_le_bytes()));
    }
    Ok(hash.digest().max(1))
}

impl SourceAdapter {
    /// The same with the fingerprint and the layers of its base model.
    ///
    /// # Errors
    /// The model has another shape, or another fingerprint than the adapter's; or it cannot be read.
    pub fn with_base(self, model: &SourceModel) -> Result<SourceAdapter, ConvertError> {
        self.check(model, false)?;
        let layers = Some(model.config.layers as u32);
        Ok(SourceAdapter { fingerprint: Some(fingerprint(model)?), layers, ..self })
    }

    /// Checks that the adapter fits a model: by shape, and unless `any_base` by fingerprint, if it has one.
    pub(crate) fn check(&self, model: &SourceModel, any_base: bool) -> Result<(), ConvertError> {
        let fail = |error| ConvertError::Adapter { name: self.source.clone(), source: error };
        let found = model.config.layers;
        if let Some(expected) = self.layers.map(|layers| layers as usize).filter(|layers| *layers != found) {
            return Err(fail(AdapterError::Layers { expected, found }));
        }
        for SourceLowRank { role, layer, rows, columns, .. } in &self.matrices {
            if usize::from(*layer) >= found {
                return Err(fail(AdapterError::Layers { expected: usize::from(*layer) + 1, found }));
            }
            let (found_rows, found_columns) = role.shape(&model.config);
            if (*rows, *columns) != (found_rows, found_columns) {
                let (role, layer, rows, columns) = (*role, *layer, *rows, *columns);
                let error = AdapterError::Shape { role, layer, rows, columns, found_rows, found_columns };
                return Err(fail(error));
            }
        }
        let Some(expected) = self.fingerprint.filter(|_| !any_base) else { return Ok(()) };
        let found = fingerprint(model)?;
        if expected == found { Ok(()) } else { Err(fail(AdapterError::OtherBase { expected, found })) }
    }
}
