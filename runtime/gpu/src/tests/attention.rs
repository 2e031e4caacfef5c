//! Rotation, the cache's writes and attention against f64.

use super::{Random, TestDevice, device};
use crate::builder::NO_WINDOW;
use crate::dispatch::MAX_VECTOR_TOKENS;
use crate::kernels::Entry;
use thimble_runtime::kernels::{Kernels, KvHeadMut, KvKind, Rope, StoreJob};

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
    let Some(device) = device() else { return };
    let report = device.report();
    // Where the driver is known to have them, it is they that are tested.
    let known = report.name.starts_with("llvmpipe") && report.api == "vulkan";
    assert!(device.subgroups || !known);
    attention(TestDevice::with(device));
}

#[test]
fn attention_without_subgroups_matches_f64() {
    let Some(device) = device() else { return };
    // Where there are none, the test above has done it.
    let Some(device) = device.with_baseline_kernels() else { return };
    attention(TestDevice::with(device));
}

fn attention(mut test: TestDevice) {
    let mut random = Random(7);
    for (bytes, bound) in [(4u32, 2e-5), (2, 4e-3), (1, 5e-2)] {
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
                let error = error(&mut test, heads, cuts, bytes, &mut random);
                assert!(error <= bound, "{heads:?}, cut at {cuts:?}, {bytes} bytes: {error:e}");
                worst = worst.max(error);
            }
        }
        println!("attention, cache of {bytes} bytes a number: largest error {worst:e}");
    }
}

/// Largest error of the last batch, where batches end at `cuts`.
fn error(test: &mut TestDevice, heads: Heads, cuts: &[usize], bytes: u32, random: &mut Random) -> f64 {
    let (q_heads, kv_heads, dim) = heads;
    let stride = ((q_heads + 2 * kv_heads) * dim).next_multiple_of(32);
    let out_stride = (q_heads * dim).next_multiple_of(32);
    let total = cuts[cuts.len() - 1];
    let positions = total.next_multiple_of(64);
    let rows: Vec<f32> = random.floats(total * stride).iter().map(|x| x * 2.0).collect();
    let angles: Vec<[f32; 2]> =
        random.floats(total * dim / 2).iter().map(|a| [(a * 3.0).cos(), (a * 3.0).sin()]).collect();
    let table = test.buffer(&angles);
    // A cache full of NaNs: nothing behind the last position may count.
    let scales = if bytes == 1 { kv_heads * positions } else { 0 };
    let words = |width: usize| vec![u32::MAX; kv_heads * positions * width * bytes as usize / 4 + scales];
    let key_width = if bytes == 1 { dim.next_multiple_of(4) } else { dim };
    let (keys, values) = (test.buffer(&words(key_width)), test.buffer(&words(dim.next_multiple_of(16))));
    let mut found = Vec::new();
    for cut in cuts.windows(2) {
        let (from, tokens) = (cut[0], cut[1] - cut[0]);
        let state = test.buffer(&[from as u32, tokens as u32, 0, 0]);
        let qkv = test.buffer(&rows[from * stride..cut[1] * stride]);
        let out = test.buffer(&vec![0.0f32; tokens * out_stride]);
        let scale = 1.0 / (dim as f32).sqrt();
        let shape = [q_heads, kv_heads, dim, positions, stride, out_stride].map(|x| x as u32);
        let [a, b, c, d, e, f] = shape;
        let shape = [a, b, c, d, e, f, scale.to_bits(), 128, NO_WINDOW, 1, 0, 0];
        // As the backend does it, with shorter spans.
        let spans = if tokens <= MAX_VECTOR_TOKENS { cut[1].div_ceil(128) } else { 1 };
        let parts = test.buffer(&vec![f32::NAN; tokens * q_heads * spans * (dim + 2)]);
        let store = test.dispatch(Entry::Store(bytes), shape, &[&state, &table, &qkv, &keys, &values]);
        let attend =
            test.dispatch(Entry::Attend(bytes), shape, &[&state, &qkv, &keys, &values, &out, &parts]);
        let merge = test.dispatch(Entry::Merge, shape, &[&state, &out, &parts]);
        found = test.run(&out, |pass| {
            let all = q_heads + 2 * kv_heads;
            let groups = match bytes {
                1 => [all, tokens.div_ceil(4) + 1, 1],
                _ => [(all * dim / 2).div_ceil(64), tokens / 2 + 1, 1],
            };
            store.record(pass, groups.map(|n| n as u32));
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

/// Keys and values as the CPU stores them: the same bytes but for the last bit of a rounding.
#[test]
fn the_cache_is_the_cpus() {
    let Some(mut test) = TestDevice::new() else { return };
    let mut random = Random(8);
    for kind in [KvKind::F32, KvKind::F16, KvKind::Q8] {
        let (mut worst, mut off, mut count) = (0, 0, 0);
        for (kv_heads, dim) in [(1usize, 6usize), (3, 64), (2, 20), (1, 256), (2, 128)] {
            let (bytes, positions) = (kind.bytes(), 192);
            let wide = dim.next_multiple_of(16);
            let key_width = if kind == KvKind::Q8 { dim.next_multiple_of(4) } else { dim };
            let scales = if kind == KvKind::Q8 { positions } else { 0 };
            let stride = (3 * kv_heads * dim).next_multiple_of(32);
            let mut rows = random.floats(150 * stride);
            // A position of zeros, whose scale is zero.
            rows[7 * stride..8 * stride].fill(0.0);
            let angles: Vec<[f32; 2]> =
                random.floats(150 * dim / 2).iter().map(|a| [(a * 3.0).cos(), (a * 3.0).sin()]).collect();
            let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|[cos, sin]| (*cos, *sin)).unzip();
            let size = |width: usize| kv_heads * positions * width * bytes;
            let mut expected = [vec![0u8; size(key_width)], vec![0u8; size(wide)]];
            let mut expected_scales = [vec![0.0f32; kv_heads * scales], vec![0.0f32; kv_heads * scales]];
            let gpu =
                [key_width, wide].map(|width| test.buffer(&vec![0u32; size(width) / 4 + kv_heads * scales]));
            let table = test.buffer(&angles);
            for (from, to) in [(0, 3), (3, 4), (4, 5), (5, 133), (133, 150)] {
                let part = &rows[from * stride..to * stride];
                for head in 0..kv_heads {
                    let [keys, values] = &mut expected;
                    let [key_scales, value_scales] = &mut expected_scales;
                    let region = |width: usize| head * positions * width * bytes;
                    let end = |width: usize| (head + 1) * positions * width * bytes;
                    let kv = KvHeadMut {
                        kind,
                        keys: &mut keys[region(key_width)..end(key_width)],
                        values: &mut values[region(wide)..end(wide)],
                        key_scales: &mut key_scales[head * scales..(head + 1) * scales],
                        value_scales: &mut value_scales[head * scales..(head + 1) * scales],
                    };
                    let half = dim / 2;
                    let rope = Rope { cos: &cos[from * half..], sin: &sin[from * half..] };
                    // The CPU has keys and values in buffers of their own.
                    Kernels::scalar().store(&mut StoreJob {
                        keys: &part[kv_heads * dim..],
                        values: &part[2 * kv_heads * dim..],
                        stride,
                        column: head * dim,
                        head_dim: dim,
                        tokens: to - from,
                        position: from,
                        rope,
                        kv,
                    });
                }
                let shape = [kv_heads, kv_heads, dim, positions, stride, 0].map(|x| x as u32);
                let [a, b, c, d, e, f] = shape;
                let shape = [a, b, c, d, e, f, 1f32.to_bits(), 64, NO_WINDOW, 1, 0, 0];
                let state = test.buffer(&[from as u32, (to - from) as u32, 0, 0]);
                let qkv = test.buffer(part);
                let buffers = [&state, &table, &qkv, &gpu[0], &gpu[1]];
                let store = test.dispatch(Entry::Store(bytes as u32), shape, &buffers);
                let groups = match kind {
                    KvKind::Q8 => [3 * kv_heads, (to - from).div_ceil(4) + 1, 1],
                    _ => [(3 * kv_heads * dim / 2).div_ceil(64), (to - from) / 2 + 1, 1],
                };
                test.run::<u32>(&state, |pass| store.record(pass, groups.map(|n| n as u32)));
            }
            for side in 0..2 {
                let found: Vec<u8> = test.run(&gpu[side], |_| {});
                let (numbers, found_scales) = found.split_at(expected[side].len());
                let found_scales: Vec<f32> = bytemuck::pod_collect_to_vec(found_scales);
                for (found, expected) in found_scales.iter().zip(&expected_scales[side]) {
                    assert!((found - expected).abs() <= 1e-6 * expected.abs());
                }
                for (found, expected) in numbers.chunks(bytes).zip(expected[side].chunks(bytes)) {
                    let number = |bytes: &[u8]| bytes.iter().rev().fold(0i64, |n, b| n << 8 | i64::from(*b));
                    let distance = (number(found) - number(expected)).abs();
                    (worst, off, count) = (worst.max(distance), off + usize::from(distance > 0), count + 1);
                }
            }
        }
        println!(
            "{kind:?}: {off} of {count} numbers differ from the CPU's, by {worst} in the last place at most"
        );
        assert!(worst <= if kind == KvKind::F32 { 64 } else { 1 });
        assert!(kind == KvKind::F32 || off * 100 <= count);
    }
}
