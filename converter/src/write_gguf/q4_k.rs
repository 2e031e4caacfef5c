//! GGML's Q4_K: 256 numbers in eight groups of 32, each `d * scale * code - dmin * minimum` with 6-bit scale and
//! minimum (layout: `block_q4_K` in `ggml-common.h`). The search for scales is our own.

use half::f16;

/// Numbers in a block.
pub(super) const LEN: usize = 256;
const GROUP: usize = 32;
const GROUPS: usize = LEN / GROUP;
/// Largest 6-bit scale or minimum.
const MOST: u8 = 63;
/// Largest code.
const LAST: f32 = 15.0;
/// Iterations of nearest codes and least-squares scales.
const ROUNDS: usize = 3;

/// Quantizes 256 finite numbers to a block of 144 bytes; `None` if a scale is too large for f16.
pub(super) fn quantize(values: &[f32; LEN], out: &mut [u8]) -> Option<()> {
    let groups: [&[f32]; GROUPS] = std::array::from_fn(|group| &values[group * GROUP..][..GROUP]);
    let ideal = groups.map(best_line);
    let most = |pick: fn(&Line) -> f32| ideal.iter().map(pick).fold(0.0, f32::max);
    let mut head = [most(|line| line.scale), most(|line| line.minimum)].map(|most| most / f32::from(MOST));
    let mut best: Option<(f64, Block)> = None;
    let mut targets = ideal;
    for _ in 0..ROUNDS {
        let block = Block::around(&groups, &targets, head.map(f16::from_f32));
        let error = block.error(&groups);
        if error.is_finite() && best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, block.clone()));
        }
        let Some(refitted) = block.refit(&groups) else { break };
        head = refitted;
        targets = block.lines();
    }
    let (_, block) = best?;
    block.put(&groups, out);
    Some(())
}

/// `scale * code - minimum`, both non-negative.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    scale: f32,
    minimum: f32,
}

impl Line {
    fn code(self, value: f32) -> f32 {
        if self.scale > 0.0 { ((value + self.minimum) / self.scale).round().clamp(0.0, LAST) } else { 0.0 }
    }

    fn error(self, values: &[f32]) -> f64 {
        let off = |&value: &f32| f64::from(self.scale * self.code(value) - self.minimum - value);
        values.iter().map(off).map(|off| off * off).sum()
    }

    /// The least-squares line through the values at these codes.
    fn refit(self, values: &[f32]) -> Line {
        let [mut codes, mut squares, mut sum, mut products] = [0.0_f64; 4];
        for &value in values {
            let (code, value) = (f64::from(self.code(value)), f64::from(value));
            codes += code;
            squares += code * code;
            sum += value;
            products += value * code;
        }
        let count = values.len() as f64;
        let determinant = count * squares - codes * codes;
        let slope = (count * products - codes * sum) / determinant;
        let minimum = (slope * codes - sum) / count;
        if determinant > 0.0 && minimum >= 0.0 {
            return Line { scale: slope as f32, minimum: minimum as f32 };
        }
        let slope = if squares > 0.0 { (products / squares).max(0.0) } else { 0.0 };
        Line { scale: slope as f32, minimum: 0.0 }
    }
}

/// The best line for one group, from several ranges, each refined by least squares.
fn best_line(values: &[f32]) -> Line {
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(low, f32::max);
    let mut best = (f64::INFINITY, Line::default());
    for shrink in [-0.05_f32, 0.0, 0.04, 0.08, 0.12, 0.17, 0.22] {
        let margin = (high - low) * shrink / 2.0;
        let minimum = if low < 0.0 { (-low - margin).max(0.0) } else { 0.0 };
        let mut line = Line { scale: (high + minimum - margin) / LAST, minimum };
        for _ in 0..ROUNDS {
            let error = line.error(values);
            if error < best.0 {
                best = (error, line);
            }
            line = line.refit(values);
        }
    }
    best.1
}

/// A block's scales and minimums, which determine its codes.
#[derive(Clone, Debug)]
struct Block {
    head: [f16; 2],
    scales: [u8; GROUPS],
    minimums: [u8; GROUPS],
}

impl Block {
    /// The best 6-bit scales and minimums near the ideal ones.
    fn around(groups: &[&[f32]; GROUPS], ideal: &[Line; GROUPS], head: [f16; 2]) -> Block {
        let mut block = Block { head, scales: [0; GROUPS], minimums: [0; GROUPS] };
        let steps = head.map(f16::to_f32);
        let near = |ideal: f32, step: f32| {
            let nearest = if step > 0.0 { (ideal / step).round().min(f32::from(MOST)) as u8 } else { 0 };
            nearest.saturating_sub(1)..=nearest.saturating_add(1).min(MOST)
        };
        for (group, values) in groups.iter().enumerate() {
            let mut least = f64::INFINITY;
            for scale in near(ideal[group].scale, steps[0]) {
                for minimum in near(ideal[group].minimum, steps[1]) {
                    let line =
                        Line { scale: steps[0] * f32::from(scale), minimum: steps[1] * f32::from(minimum) };
                    let error = line.error(values);
                    if error < least {
                        least = error;
                        (block.scales[group], block.minimums[group]) = (scale, minimum);
                    }
                }
            }
        }
        block
    }

    /// The lines as ggml computes them.
    fn lines(&self) -> [Line; GROUPS] {
        let [scale, minimum] = self.head.map(f16::to_f32);
        std::array::from_fn(|group| Line {
            scale: scale * f32::from(self.scales[group]),
            minimum: minimum * f32::from(self.minimums[group]),
        })
    }

    fn error(&self, groups: &[&[f32]; GROUPS]) -> f64 {
        self.lines().iter().zip(groups).map(|(line, values)| line.error(values)).sum()
    }

    /// The least-squares `d` and `dmin` for these codes, scales and minimums; `None` if they are undetermined.
    fn refit(&self, groups: &[&[f32]; GROUPS]) -> Option<[f32; 2]> {
        // value = d * a - dmin * b with a = scale * code, b = minimum.
        let [mut aa, mut ab, mut bb, mut av, mut bv] = [0.0_f64; 5];
        for (group, line) in self.lines().iter().enumerate() {
            let b = f64::from(self.minimums[group]);
            for &value in groups[group] {
                let a = f64::from(line.code(value)) * f64::from(self.scales[group]);
                let value = f64::from(value);
                aa += a * a;
                ab += a * b;
                bb += b * b;
                av += a * value;
                bv += b * value;
            }
        }
        let determinant = aa * bb - ab * ab;
        if determinant <= 0.0 {
            return None;
        }
        let fitted = [(av * bb - bv * ab) / determinant, (av * ab - bv * aa) / determinant];
        fitted.iter().all(|&number| number >= 0.0).then_some(fitted.map(|number| number as f32))
    }

    fn put(&self, groups: &[&[f32]; GROUPS], out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(4);
        head[..2].copy_from_slice(&self.head[0].to_le_bytes());
        head[2..].copy_from_slice(&self.head[1].to_le_bytes());
        let (packed, codes) = rest.split_at_mut(12);
        let (s, m) = (&self.scales, &self.minimums);
        for j in 0..4 {
            packed[j] = s[j] | (s[j + 4] >> 4) << 6;
            packed[j + 4] = m[j] | (m[j + 4] >> 4) << 6;
            packed[j + 8] = s[j + 4] & 15 | m[j + 4] << 4;
        }
        let lines = self.lines();
        for (pair, codes) in codes.chunks_exact_mut(GROUP).enumerate() {
            for (j, out) in codes.iter_mut().enumerate() {
                let [low, high] =
                    [2 * pair, 2 * pair + 1].map(|group| lines[group].code(groups[group][j]) as u8);
                *out = low | high << 4;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dequantize::dequantize;
    use crate::read::BlockType;

    /// Root mean square error of a block, relative to its numbers'.
    fn distortion(values: &[f32; LEN]) -> f64 {
        let mut block = [0; 144];
        quantize(values, &mut block).unwrap();
        let mut back = [0.0; LEN];
        dequantize(BlockType::Q4_K, &block, &mut back);
        let off: f64 = values.iter().zip(&back).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let all: f64 = values.iter().map(|a| f64::from(*a).powi(2)).sum();
        if all > 0.0 { (off / all).sqrt() } else { off }
    }

    /// Sums of four pseudo-random numbers: nearly normal.
    fn normal(seed: u32, scale: f32) -> [f32; LEN] {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        std::array::from_fn(|_| (0..4).map(|_| uniform()).sum::<f32>() * scale)
    }

    #[test]
    fn normal_numbers_lose_what_four_bits_cost() {
        for seed in 0..8 {
            for scale in [1.0, 1e-3, 1e4] {
                let distortion = distortion(&normal(seed, scale));
                assert!(distortion < 0.075, "{distortion}");
            }
        }
    }

    #[test]
    fn what_lies_on_the_grid_stays_there() {
        let values: [f32; LEN] = std::array::from_fn(|i| ((i * 7 % 16) as f32 - 6.0) * 0.5);
        assert!(distortion(&values) < 2e-3, "{}", distortion(&values));
        assert_eq!(distortion(&[0.0; LEN]), 0.0);
        assert!(distortion(&[0.25; LEN]) < 1e-3);
        assert!(distortion(&[-0.25; LEN]) < 1e-3);
        assert!(quantize(&[-1e30; LEN], &mut [0; 144]).is_none());
    }
}
