//! The product of a token does not depend, to the bit, on the tokens beside it in the pass, nor on prefetching.

use super::*;

/// The product of `tokens` rows of `x` with quantized activations.
fn product(kernels: Kernels, matrix: Matrix<'_>, x: &[f32]) -> Vec<u32> {
    let tokens = x.len() / matrix.columns;
    let groups = quantize(&kernels, x, matrix.columns);
    let mut out = vec![f32::NAN; tokens * matrix.rows];
    multiply(
        kernels,
        Input { floats: x, groups: Some(&groups), tokens },
        Product { matrix, out: &mut out, add: false },
    );
    out.iter().map(|out| out.to_bits()).collect()
}

#[test]
#[cfg_attr(miri, ignore = "it takes minutes, and the other products read the same memory")]
fn a_row_is_the_same_in_a_pass_of_any_size() {
    // More than one tile of every set; the last panel of rows and the last group of columns are not whole.
    let (most, rows, columns) = (33, 40, 84);
    let mut random = Random(7);
    for encoding in MATRICES.iter().copied().filter(|encoding| encoding.is_quantized()) {
        let sample = RandomMatrix::new(encoding, rows, columns, &mut random);
        let aligned = sample.aligned();
        let x = random.floats(most * columns);
        for kernels in all() {
            let alone: Vec<u32> = x
                .chunks(columns)
                .flat_map(|x| product(kernels.without_prefetch(), sample.matrix(&aligned), x))
                .collect();
            for tokens in 1..=most {
                let found = product(kernels, sample.matrix(&aligned), &x[..tokens * columns]);
                assert_eq!(found, alone[..tokens * rows], "{kernels:?} {encoding:?} {tokens} tokens");
            }
        }
    }
}
