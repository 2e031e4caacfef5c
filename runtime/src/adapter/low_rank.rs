//! The matrices that an adapter has beside one of a model.

use crate::kernels::Matrix;

/// The low-rank matrices beside a matrix of a model.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'f> {
    /// `[rank, columns]`.
    pub a: Matrix<'f>,
    /// `[rows, rank]`.
    pub b: Matrix<'f>,
    /// Factor of `B A`.
    pub scale: f32,
}
