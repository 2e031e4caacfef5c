//! SwiGLU against the CPU's kernels.

use super::{Random, TestDevice};
use crate::kernels::Entry;
use thimble_runtime::kernels::Kernels;

#[test]
fn swiglu_is_the_cpus() {
    let Some(mut test) = TestDevice::new() else { return };
    let mut random = Random(7);
    let (ffn, stride, out_stride) = (100usize, 224usize, 128usize);
    let mut rows: Vec<f32> = random.floats(2 * stride).iter().map(|x| x * 30.0).collect();
    // Where e^-x overflows, and where it vanishes.
    rows[..4].copy_from_slice(&[-200.0, 200.0, -88.0, 0.0]);
    let from = test.buffer(&rows);
    let to = test.buffer(&vec![0.0f32; 2 * out_stride]);
    let shape = [ffn as u32, stride as u32, out_stride as u32, ffn as u32, 0, 0, 0, 0, 0, 0, 0, 0];
    let step = test.dispatch(Entry::Swiglu, shape, &[&from, &to]);
    let found: Vec<f32> = test.run(&to, |pass| step.record(pass, [2, 2, 1]));
    for (row, found) in rows.chunks(stride).zip(found.chunks(out_stride)) {
        let mut expected = row[..ffn].to_vec();
        Kernels::scalar().swiglu(&mut expected, &row[ffn..2 * ffn]);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 2e-5 * expected.abs() + 1e-9, "{found} for {expected}");
        }
        assert!(found[ffn..].iter().all(|x| *x == 0.0), "padding stays zero");
    }
}
