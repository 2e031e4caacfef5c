//! Encodes the tensors of a source, a few megabytes at a time.

use crate::quantize::{Distortion, RowError, Rows, encode_panel};
use crate::read::{SourceModel, SourceTensor};
use crate::{ConvertError, dequantize};
use rayon::prelude::*;
use thimble_runtime::format::{Encoding, PANEL, TensorRecord};

/// Source bytes read at once.
pub(crate) const CHUNK: usize = 8 << 20;

/// Receives the next bytes of a tensor and their distortion.
pub(crate) type Emit<'e> = dyn FnMut(&[u8], Distortion) -> Result<(), ConvertError> + 'e;

/// Copies the panels of a tensor that the source stores in this encoding.
fn copy_panels(
    model: &SourceModel,
    tensor: &SourceTensor,
    encoding: Encoding,
    emit: &mut Emit<'_>,
) -> Result<(), ConvertError> {
    let panel_bytes = encoding.panel_bytes(tensor.columns).unwrap_or(1).max(1);
    let panels = tensor.rows.div_ceil(PANEL);
    let at_once = (CHUNK / panel_bytes).max(1);
    let mut out = Vec::new();
    for first in (0..panels).step_by(at_once) {
        let end = panels.min(first + at_once);
        out.resize((end - first) * panel_bytes, 0);
        let offset = tensor.offset + (first * panel_bytes) as u64;
        model.files[tensor.file].read_at(offset, &mut out)?;
        emit(&out, Distortion::default())?;
    }
    Ok(())
}

/// Encodes one tensor in chunks of a few megabytes, in order.
pub(crate) fn encode(
    model: &SourceModel,
    tensor: &SourceTensor,
    record: &TensorRecord,
    emit: &mut Emit<'_>,
) -> Result<(), ConvertError> {
    let (encoding, columns) = (record.encoding, tensor.columns);
    let fail = |first: usize, error: RowError| error.in_tensor(&tensor.name, first, encoding.name());
    let mut source = Vec::new();
    if encoding == Encoding::Vector {
        model.read_rows(tensor, 0..1, &mut source)?;
        let mut values = vec![0.0; columns];
        dequantize(tensor.kind, &source, &mut values);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(fail(0, RowError::NotFinite { row: 0 }));
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        return emit(&bytes, Distortion::default());
    }
    if tensor.packed == Some(encoding) {
        return copy_panels(model, tensor, encoding, emit);
    }
    // The layout was computed from the same shape, so neither overflows nor is zero.
    let panel_bytes = encoding.panel_bytes(columns).unwrap_or(1).max(1);
    let panel_source = (tensor.row_bytes() * PANEL).max(1);
    let panels_at_once = (CHUNK / panel_source.max(panel_bytes)).max(1);
    let mut out = Vec::new();
    for start in (0..tensor.rows).step_by(panels_at_once * PANEL) {
        let end = tensor.rows.min(start + panels_at_once * PANEL);
        model.read_rows(tensor, start..end, &mut source)?;
        out.resize((end - start).div_ceil(PANEL) * panel_bytes, 0);
        let panels = out.par_chunks_exact_mut(panel_bytes).zip(source.par_chunks(panel_source));
        let distortions: Vec<Distortion> = panels
            .enumerate()
            .map(|(index, (panel, bytes))| {
                let rows = Rows { kind: tensor.kind, bytes, columns };
                encode_panel(encoding, rows, panel).map_err(|error| fail(start + index * PANEL, error))
            })
            .collect::<Result<_, _>>()?;
        let mut distortion = Distortion::default();
        distortions.into_iter().for_each(|l| distortion.add(l));
        emit(&out, distortion)?;
    }
    Ok(())
}
