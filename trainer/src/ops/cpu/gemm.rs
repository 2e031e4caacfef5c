//! Matrix products of one thread, by the `gemm` crate; threads share a product by taking rows of the result.
#![allow(unsafe_code)] // one call into `gemm`, proven below

/// A matrix read in place: element (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(in crate::ops) struct MatrixView<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> MatrixView<'a> {
    /// A row-major matrix that fills the slice.
    pub(in crate::ops) fn new(data: &'a [f32], columns: usize) -> MatrixView<'a> {
        MatrixView::strided(data, data.len() / columns, columns, columns)
    }

    /// A row-major matrix whose rows begin `row_stride` apart.
    ///
    /// # Panics
    /// The matrix does not lie within the slice.
    pub(in crate::ops) fn strided(
        data: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> MatrixView<'a> {
        assert!(rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len());
        MatrixView { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// Columns.
    pub(super) fn columns(self) -> usize {
        self.columns
    }

    /// The same elements, read as the transpose.
    pub(in crate::ops) fn transpose(self) -> MatrixView<'a> {
        MatrixView {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `from..to`.
    ///
    /// # Panics
    /// There are fewer rows.
    pub(super) fn rows(self, from: usize, to: usize) -> MatrixView<'a> {
        assert!(from <= to && to <= self.rows);
        let data = if from == to { &[] } else { &self.data[from * self.row_stride..] };
        MatrixView { data, rows: to - from, ..self }
    }
}

/// Whether a product replaces or adds to its output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) enum WriteMode {
    /// They are replaced.
    Replace,
    /// The product is added to them.
    Add,
}

/// `out = scale x a x b` or `out += scale x a x b`; `out` is row-major, its rows `out_stride` apart.
///
/// # Panics
/// The shapes do not fit.
pub(in crate::ops) fn matmul(
    out: &mut [f32],
    out_stride: usize,
    into: WriteMode,
    scale: f32,
    a: MatrixView,
    b: MatrixView,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows);
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= out_stride && (m - 1) * out_stride + n <= out.len());
    // SAFETY: `gemm` reads a[i, l] for i < m, l < k and b[l, j] for l < k, j < n, and reads and writes out[i, j] for i
    // < m, j < n. The view's constructor and the assertion above have shown the last of these elements, thus all, to
    // lie in their slices; `out` is borrowed mutably, so it overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            into == WriteMode::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5) - 1.0).collect()
    }

    #[test]
    fn products_match_the_definition() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (16, 16, 16), (33, 65, 17), (64, 32, 48)] {
            let a = numbers(m * k, 1);
            let b = numbers(k * n, 2);
            let truth: Vec<f64> = (0..m * n)
                .map(|e| (0..k).map(|l| f64::from(a[e / n * k + l]) * f64::from(b[l * n + e % n])).sum())
                .collect();
            let a_t: Vec<f32> = (0..k * m).map(|e| a[e % m * k + e / m]).collect();
            for a in [MatrixView::new(&a, k), MatrixView::new(&a_t, m).transpose()] {
                let mut out = vec![1.0; m * (n + 3)];
                matmul(&mut out, n + 3, WriteMode::Add, 0.5, a, MatrixView::new(&b, n));
                for i in 0..m {
                    for j in 0..n {
                        let got = f64::from(out[i * (n + 3) + j]);
                        assert!((got - 1.0 - 0.5 * truth[i * n + j]).abs() < 1e-5);
                    }
                }
                assert!(out[n..n + 3].iter().all(|&x| x == 1.0));
            }
        }
    }

    #[test]
    fn nothing_times_nothing_is_zero() {
        let mut out = [3.0; 4];
        matmul(
            &mut out,
            2,
            WriteMode::Replace,
            1.0,
            MatrixView::strided(&[], 2, 0, 0),
            MatrixView::strided(&[], 0, 2, 2),
        );
        assert_eq!(out, [0.0; 4]);
    }
}
