//! SwiGLU and greedy sampling against the CPU's kernels.

use super::{Bench, Random};
use crate::kernels::Entry;
use thimble_runtime::kernels::Kernels;
use thimble_runtime::sampler;

#[test]
fn swiglu_is_the_cpus() {
    let Some(mut bench) = Bench::new() else { return };
    let mut random = Random(7);
    let (ffn, stride, out_stride) = (100usize, 224usize, 128usize);
    let mut rows: Vec<f32> = random.floats(2 * stride).iter().map(|x| x * 30.0).collect();
    // Where e^-x overflows, and where it vanishes.
    rows[..4].copy_from_slice(&[-200.0, 200.0, -88.0, 0.0]);
    let from = bench.buffer(&rows);
    let to = bench.buffer(&vec![0.0f32; 2 * out_stride]);
    let shape = [ffn as u32, stride as u32, out_stride as u32, ffn as u32, 0, 0, 0, 0, 0, 0, 0, 0];
    let step = bench.step(Entry::Swiglu, shape, &[&from, &to]);
    let found: Vec<f32> = bench.run(&to, |pass| step.record(pass, [2, 2, 1]));
    for (row, found) in rows.chunks(stride).zip(found.chunks(out_stride)) {
        let mut expected = row[..ffn].to_vec();
        (Kernels::scalar().swiglu)(&mut expected, &row[ffn..2 * ffn]);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 2e-5 * expected.abs() + 1e-9, "{found} for {expected}");
        }
        assert!(found[ffn..].iter().all(|x| *x == 0.0), "padding stays zero");
    }
}

#[test]
fn greedy_takes_the_lowest_of_the_largest() {
    let Some(mut bench) = Bench::new() else { return };
    let mut random = Random(8);
    for (vocab, ties) in
        [(1usize, vec![]), (300, vec![7, 263]), (49_152, vec![49_151, 40_000, 256]), (5, vec![4])]
    {
        let mut logits = random.floats(vocab);
        for tie in &ties {
            logits[*tie] = 2.0;
        }
        let (state, from) = (bench.buffer(&[9u32, 1, 0, 1]), bench.buffer(&logits));
        let (tokens, ids) = (bench.buffer(&[77u32; 4]), bench.buffer(&[77u32; 4]));
        let step = bench.step(
            Entry::Argmax,
            [vocab as u32, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[&state, &from, &tokens, &ids],
        );
        let expected = sampler::greedy(&logits).0;
        let found: Vec<u32> = bench.run(&ids, |pass| step.record(pass, [1, 1, 1]));
        // Position 9 of a ring of four.
        assert_eq!(found, [77, expected, 77, 77]);
        assert_eq!(bench.run::<u32>(&tokens, |_| {})[0], expected);
        assert_eq!(bench.run::<u32>(&state, |_| {}), [10, 1, 0, 1]);
    }
}
