//! RMSNorm, rotary embedding and SwiGLU on f32 tensors, each beside its gradient.

use super::super::AttentionShape;
use super::super::rotary::tables;
use candle_core::{D, DType, Device, Result, Tensor};
use thimble_runtime::format::RopeParameters;

/// `1 / rms` of each row, `rows x 1`.
pub(super) fn inverse_rms(x: &Tensor, epsilon: f64) -> Result<Tensor> {
    let columns = x.dim(D::Minus1)?;
    x.sqr()?.sum_keepdim(D::Minus1)?.affine(1.0 / columns as f64, epsilon)?.sqrt()?.recip()
}

/// RMSNorm with known statistics: `rows x columns`, `columns`, `rows x 1`.
pub(super) struct Norm {
    pub(super) input: Tensor,
    pub(super) weight: Tensor,
    pub(super) inverse_rms: Tensor,
}

impl Norm {
    /// x r w.
    pub(super) fn forward(&self) -> Result<Tensor> {
        self.input.broadcast_mul(&self.inverse_rms)?.broadcast_mul(&self.weight)
    }

    /// With y = x r w, r = 1 / rms(x): dx = r (w dy - x r^2 mean(w dy x)), dw = sum over rows of dy x r.
    pub(super) fn backward(&self, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        let (rows, columns) = self.input.dims2()?;
        let dy_r = dy.broadcast_mul(&self.inverse_rms)?;
        let dy_x_r = (&dy_r * &self.input)?;
        // As a product, so that the rows are not read column by column.
        let d_weight = Tensor::ones((1, rows), DType::F32, dy.device())?.matmul(&dy_x_r)?;
        let weight = self.weight.reshape((columns, 1))?;
        let mean = (dy_x_r.matmul(&weight)?.affine(1.0 / columns as f64, 0.0)? * self.inverse_rms.sqr()?)?;
        let dx = (dy_r.broadcast_mul(&self.weight)? - self.input.broadcast_mul(&mean)?)?;
        Ok((dx, d_weight))
    }
}

/// Cosines and sines, `context x head_dim / 2` each.
pub(super) struct Rotary {
    cosine: Tensor,
    sine: Tensor,
}

impl Rotary {
    pub(super) fn new(
        rope: &RopeParameters,
        head_dim: usize,
        context: usize,
        device: &Device,
    ) -> Result<Rotary> {
        let (cosine, sine) = tables(rope, head_dim, context);
        let table = |values| Tensor::from_vec(values, (context, head_dim / 2), device);
        Ok(Rotary { cosine: table(cosine)?, sine: table(sine)? })
    }

    /// Turns `sequences x heads x context x head_dim`, forward or back, in f32.
    pub(super) fn turn(&self, x: &Tensor, back: bool) -> Result<Tensor> {
        let context = x.dim(2)?;
        let (cosine, sine) = (self.cosine.narrow(0, 0, context)?, self.sine.narrow(0, 0, context)?);
        turn(&x.to_dtype(DType::F32)?, &cosine, &if back { sine.neg()? } else { sine })
    }
}

/// Queries, keys and values, `sequences x heads x context x head_dim`, out of `sequences x context x all heads x
/// head_dim`; queries and keys rotated if there is a rotation.
pub(super) fn split(rotary: Option<&Rotary>, shape: AttentionShape, fused: &Tensor) -> Result<[Tensor; 3]> {
    let turning = shape.heads + shape.kv_heads;
    let all = fused.transpose(1, 2)?;
    let turned = all.narrow(1, 0, turning)?;
    let turned = match rotary {
        Some(rotary) => rotary.turn(&turned, false)?,
        None => turned.force_contiguous()?,
    };
    Ok([
        turned.narrow(1, 0, shape.heads)?,
        turned.narrow(1, shape.heads, shape.kv_heads)?,
        // Where the context is 1 it is contiguous already, and would be taken from the arena itself.
        all.narrow(1, turning, shape.kv_heads)?.force_contiguous()?,
    ])
}

/// The way back for gradients.
pub(super) fn join(rotary: Option<&Rotary>, heads: [Tensor; 3]) -> Result<Tensor> {
    let [query, key, value] = heads;
    let turned = Tensor::cat(&[query, key], 1)?;
    let turned = match rotary {
        Some(rotary) => rotary.turn(&turned, true)?.to_dtype(value.dtype())?,
        None => turned,
    };
    Tensor::cat(&[turned, value], 1)?.transpose(1, 2)?.contiguous()
}

/// Turns each pair (x_i, x_(i + half)) by its angle.
fn turn(x: &Tensor, cosine: &Tensor, sine: &Tensor) -> Result<Tensor> {
    let half = cosine.dim(1)?;
    let (x1, x2) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let turned1 = (x1.broadcast_mul(cosine)? - x2.broadcast_mul(sine)?)?;
    let turned2 = (x2.broadcast_mul(cosine)? + x1.broadcast_mul(sine)?)?;
    Tensor::cat(&[turned1, turned2], 3)
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// silu(gate) x up for rows of gate and up side by side.
pub(super) fn swiglu(fused: &Tensor) -> Result<Tensor> {
    let (gate, up) = halves(fused)?;
    let silu = (&gate * sigmoid(&gate)?)?;
    silu * up
}

/// With s = sigmoid(g): dg = dy u (s + g s (1 - s)), du = dy g s, side by side; and the output g s u.
pub(super) fn swiglu_backward(fused: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
    let (gate, up) = halves(fused)?;
    let s = sigmoid(&gate)?;
    let silu = (&gate * &s)?;
    let slope = ((s.affine(-1.0, 1.0)? * &silu)? + &s)?;
    let d_gate = ((dy * &up)? * slope)?;
    Ok((Tensor::cat(&[d_gate, (dy * &silu)?], 1)?, (silu * up)?))
}

/// The left and the right half of each row.
fn halves(fused: &Tensor) -> Result<(Tensor, Tensor)> {
    let width = fused.dim(1)? / 2;
    Ok((fused.narrow(1, 0, width)?.contiguous()?, fused.narrow(1, width, width)?.contiguous()?))
}
