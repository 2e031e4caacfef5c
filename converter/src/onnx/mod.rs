//! Exports a model as an ONNX graph with its tokenizer and configuration: a folder that transformers.js, optimum and
//! onnxruntime load.

mod blocks;
mod data;
mod graph;
mod initializer;
mod llama;
mod onnx_type;
mod protobuf;
mod quantized;

pub use onnx_type::OnnxType;

use crate::export::{self, Dtype, ExportSummary};
use crate::quantize::Distortion;
use crate::read::SourceModel;
use crate::write::write_error;
use crate::{ConversionProgress, ConvertError};
use data::{DataLayout, DataWriter};
use initializer::ElementType;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use thimble_files::AtomicFolder;

/// Writes a model as a folder with an ONNX graph in `onnx`, its weights in data files beside it, and the files that
/// [`crate::export::export`] writes but for `model.safetensors`. The folder appears complete or not at all.
///
/// # Errors
/// The folder exists; weights that are not finite or do not fit the type; a destination that cannot be written.
pub fn export_onnx(
    model: &SourceModel,
    folder: &Path,
    dtype: OnnxType,
    progress: &mut dyn FnMut(ConversionProgress<'_>),
) -> Result<ExportSummary, ConvertError> {
    let failed = |error| write_error(folder, 0, error);
    let output = AtomicFolder::create(folder).map_err(failed)?;
    let graph = llama::graph(&model.config, dtype);
    let layout = DataLayout::new(&graph.initializers, dtype.file());
    let dtype_of_config = if dtype == OnnxType::F16 { Dtype::F16 } else { Dtype::F32 };
    export::write_metadata(model, output.path(), dtype_of_config, |config| {
        config["transformers.js_config"] = transformers_js_config(dtype, layout.files.len());
    })?;
    let inner = output.path().join("onnx");
    fs::create_dir(&inner).map_err(failed)?;
    let bytes = graph.encode(&layout);
    let path = inner.join(dtype.file());
    fs::write(&path, &bytes).map_err(|error| write_error(&path, 0, error))?;
    let mut writer = DataWriter {
        model,
        folder: &inner,
        layout: &layout,
        progress,
        distortion: Distortion::default(),
        done: 0,
        scales: Vec::new(),
        zero_points: Vec::new(),
    };
    writer.write(&graph.initializers)?;
    let rounding = writer.distortion.relative();
    output.publish().map_err(failed)?;
    Ok(ExportSummary {
        bytes: bytes.len() as u64 + layout.total,
        parameters: model.config.parameters(),
        rounding,
        notes: model.notes.clone(),
    })
}

/// What transformers.js reads of `config.json`: the model file to load, how many data files it has, and for version 3 the
/// type of the KV cache.
fn transformers_js_config(dtype: OnnxType, data_files: usize) -> Value {
    let mut config = json!({
        "dtype": dtype.transformers_js(),
        "use_external_data_format": {dtype.file(): data_files},
    });
    if dtype.products() == ElementType::F16 {
        config["kv_cache_dtype"] = json!({dtype.transformers_js(): "float16"});
    }
    config
}

#[cfg(test)]
mod tests;
