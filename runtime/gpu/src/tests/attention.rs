//! Rotation, the cache's writes and attention against f64.

use super::{Bench, Random};
use crate::kernels::Entry;
use crate::steps::FEW;

/// Heads, key-value heads, width of a head.
type Heads = (usize, usize, usize);

/// Attention in f64 on the numbers themselves; rows are queries, keys and values, `stride` numbers.
fn expected(
    rows: &[f32],
    stride: usize,
    angles: &[[f32; 2]],
    (heads, kv_heads, dim): Heads,
    before: usize,
) -> Vec<f64> {
    let (total, half) = (rows.len() / stride, dim / 2);
    let rotate = |x: &[f32], at: usize| -> Vec<f64> {
        let angle = |i: usize| angles[at * half + i].map(f64::from);
        let low = (0..half).map(|i| f64::from(x[i]) * angle(i)[0] - f64::from(x[half + i]) * angle(i)[1]);
        let high = (0..half).map(|i| f64::from(x[half + i]) * angle(i)[0] + f64::from(x[i]) * angle(i)[1]);
        low.chain(high).collect()
    };
    let head = |position: usize, head: usize| &rows[position * stride + head * dim..][..dim];
    let mut out = Vec::new();
    for position in before..total {
        for h in 0..heads {
            let query = rotate(head(position, h), position);
            let kv = h / (heads / kv_heads);
            let score = |p: usize| {
                let key = rotate(head(p, heads + kv), p);
                key.iter().zip(&query).map(|(k, q)| k * q).sum::<f64>() / (dim as f64).sqrt()
            };
            let scores: Vec<f64> = (0..=position).map(score).collect();
            let largest = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
            let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            for d in 0..dim {
                let value = |p: usize| f64::from(head(p, heads + kv_heads + kv)[d]);
                out.push(scores.iter().enumerate().map(|(p, s)| (s - largest).exp() / sum * value(p)).sum());
            }
        }
    }
    out
}

#[test]
fn attention_matches_f64() {
    let Some(mut bench) = Bench::new() else { return };
    let mut random = Random(7);
    for (bytes, bound) in [(4u32, 2e-5), (2, 4e-3)] {
        let mut worst = 0.0f64;
        for heads in [(9, 3, 64), (6, 2, 64), (4, 4, 32), (3, 1, 6), (15, 5, 20), (14, 1, 128), (2, 1, 256)] {
            for cuts in [
                &[0, 1][..],
                &[0, 17],
                &[0, 63, 64],
                &[0, 64, 67],
                &[0, 5, 200, 240],
                &[0, 511, 512, 513],
                &[0, 250, 258],
            ] {
                let error = error(&mut bench, heads, cuts, bytes, &mut random);
                assert!(error <= bound, "{heads:?}, cut at {cuts:?}, {bytes} bytes: {error:e}");
                worst = worst.max(error);
            }
        }
        println!("attention, cache of {bytes} bytes a number: largest error {worst:e}");
    }
}

/// Largest error of the last batch, where batches end at `cuts`.
fn error(bench: &mut Bench, heads: Heads, cuts: &[usize], bytes: u32, random: &mut Random) -> f64 {
    let (q_heads, kv_heads, dim) = heads;
    let stride = ((q_heads + 2 * kv_heads) * dim).next_multiple_of(32);
    let out_stride = (q_heads * dim).next_multiple_of(32);
    let total = cuts[cuts.len() - 1];
    let positions = total.next_multiple_of(64);
    let rows: Vec<f32> = random.floats(total * stride).iter().map(|x| x * 2.0).collect();
    let angles: Vec<[f32; 2]> =
        random.floats(total * dim / 2).iter().map(|a| [(a * 3.0).cos(), (a * 3.0).sin()]).collect();
    let table = bench.buffer(&angles);
    // A cache full of NaNs: nothing behind the last position may count.
    let words = |width: usize| vec![u32::MAX; kv_heads * positions * width * bytes as usize / 4];
    let (keys, values) = (bench.buffer(&words(dim)), bench.buffer(&words(dim.next_multiple_of(16))));
    let mut found = Vec::new();
    for cut in cuts.windows(2) {
        let (from, tokens) = (cut[0], cut[1] - cut[0]);
        let state = bench.buffer(&[from as u32, tokens as u32, 0, 0]);
        let qkv = bench.buffer(&rows[from * stride..cut[1] * stride]);
        let out = bench.buffer(&vec![0.0f32; tokens * out_stride]);
        let scale = 1.0 / (dim as f32).sqrt();
        let shape = [q_heads, kv_heads, dim, positions, stride, out_stride].map(|x| x as u32);
        let [a, b, c, d, e, f] = shape;
        let shape = [a, b, c, d, e, f, scale.to_bits(), 128, 0, 0, 0, 0];
        // As the backend does it, with shorter spans.
        let spans = if tokens <= FEW { cut[1].div_ceil(128) } else { 1 };
        let parts = bench.buffer(&vec![f32::NAN; tokens * q_heads * spans * (dim + 2)]);
        let store = bench.step(Entry::Store(bytes), shape, &[&state, &table, &qkv, &keys, &values]);
        let attend = bench.step(Entry::Attend(bytes), shape, &[&state, &qkv, &keys, &values, &out, &parts]);
        let merge = bench.step(Entry::Merge, shape, &[&state, &out, &parts]);
        found = bench.run(&out, |pass| {
            let pairs = (q_heads + 2 * kv_heads) * dim / 2;
            store.record(pass, [pairs.div_ceil(64) as u32, tokens as u32 / 2 + 1, 1]);
            let queries = tokens * (q_heads / kv_heads);
            attend.record(pass, [queries.div_ceil(8) as u32, kv_heads as u32, spans as u32]);
            if spans > 1 {
                merge.record(pass, [q_heads as u32, tokens as u32, 1]);
            }
        });
    }
    let before = cuts[cuts.len() - 2];
    let expected = expected(&rows, stride, &angles, heads, before);
    let found: &[f32] = &found;
    let found = found.chunks(out_stride).flat_map(|row| &row[..q_heads * dim]);
    found.zip(&expected).map(|(found, expected)| (f64::from(*found) - expected).abs()).fold(0.0, |a, b| {
        assert!(b.is_finite());
        a.max(b)
    })
}
