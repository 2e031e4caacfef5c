//! The quantization grid of an encoding: its levels, and the nearest one to a number.

use std::sync::LazyLock;
use thimble_runtime::format::{Encoding, GROUP};

/// Half steps in the table of nearest levels: numbers from -128 to 128.
const HALVES: usize = 512;

/// The levels of an encoding in ascending order, and the code of the nearest level for every half step.
pub(crate) struct Grid {
    levels: Vec<f32>,
    nearest: [u8; HALVES],
    outermost_first: Vec<f32>,
}

impl Grid {
    fn new(encoding: Encoding) -> Grid {
        let levels: Vec<i16> = encoding.layout().levels().collect();
        // Levels are integers, so the boundary between two lies on a half step: the middle of a half step decides for
        // all of it.
        let code = |half: usize| {
            let middle = 2 * half as i32 - HALVES as i32 + 1;
            let distance = |&code: &usize| (4 * i32::from(levels[code]) - middle).abs();
            (0..levels.len()).min_by_key(distance).unwrap_or(0) as u8
        };
        let nearest = std::array::from_fn(code);
        let levels: Vec<f32> = levels.iter().map(|&l| f32::from(l)).collect();
        let mut outermost_first: Vec<f32> = levels.iter().copied().filter(|&level| level != 0.0).collect();
        outermost_first.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
        Grid { nearest, levels, outermost_first }
    }

    /// The grid of an encoding.
    pub(crate) fn of(encoding: Encoding) -> &'static Grid {
        static GRIDS: LazyLock<Vec<Grid>> =
            LazyLock::new(|| Encoding::ALL.into_iter().map(Grid::new).collect());
        // Encodings are numbered from one.
        &GRIDS[encoding as usize - 1]
    }

    /// The code of the level nearest to a number; 0 for NaN.
    #[inline]
    pub(crate) fn code(&self, number: f32) -> u8 {
        let half = (2.0 * number + (HALVES / 2) as f32) as i32;
        self.nearest[half.clamp(0, HALVES as i32 - 1) as usize]
    }

    /// The level of a code.
    #[inline]
    pub(crate) fn level(&self, code: u8) -> f32 {
        self.levels[usize::from(code)]
    }

    /// The lowest and the highest level.
    pub(crate) fn ends(&self) -> (f32, f32) {
        (self.levels.first().copied().unwrap_or(0.0), self.levels.last().copied().unwrap_or(0.0))
    }

    /// The mean distance between a level and the next.
    pub(super) fn mean_step(&self) -> f32 {
        let (low, high) = self.ends();
        (high - low) / self.levels.len().saturating_sub(1).max(1) as f32
    }

    /// The levels other than 0, those farthest from it first.
    pub(super) fn outermost_first(&self) -> impl Iterator<Item = f32> {
        self.outermost_first.iter().copied()
    }

    /// A scale that minimizes the sum of `weights` x (value - scale x level)^2: a search over positions of the largest
    /// value on the grid and both signs, each refined by least squares.
    ///
    /// At most 32 values; zero if all of them are zero.
    pub(crate) fn scale(&self, values: &[f32], weights: &[f32]) -> f32 {
        let most = values.iter().copied().fold(0.0f32, |most, v| if v.abs() > most.abs() { v } else { most });
        if most == 0.0 {
            return 0.0;
        }
        // Relative to the largest, so that nothing overflows.
        let (mut x, mut w) = ([0.0f32; GROUP], [0.0f32; GROUP]);
        let heaviest = weights.iter().fold(0.0f32, |most, &w| most.max(w));
        let count = values.len().min(GROUP);
        for i in 0..count {
            x[i] = (f64::from(values[i]) / f64::from(most)) as f32;
            w[i] = if heaviest > 0.0 { weights[i] / heaviest } else { 1.0 };
        }
        let (low, high) = self.ends();
        let (mut best, mut best_scale) = (0.0f32, 1.0 / high);
        for end in [high, low] {
            for place in places(self.levels.len()) {
                let mut scale = 1.0 / (end * place);
                for _ in 0..ROUNDS {
                    let inverse = 1.0 / scale;
                    let (mut product, mut square) = (0.0f32, 0.0f32);
                    for i in 0..count {
                        let level = self.level(self.code(x[i] * inverse));
                        product += w[i] * x[i] * level;
                        square += w[i] * level * level;
                    }
                    // The best scale for these codes reduces the error by this much from the sum of squares.
                    let gain = product * product / square;
                    if gain.is_nan() || gain <= best {
                        break;
                    }
                    scale = product / square;
                    (best, best_scale) = (gain, scale);
                }
            }
        }
        (f64::from(best_scale) * f64::from(most)) as f32
    }
}

/// Refinements of each start.
const ROUNDS: usize = 3;

/// Start positions of the largest value, relative to the last level; beyond it, the value is clipped.
fn places(levels: usize) -> &'static [f32] {
    match levels {
        0..=8 => &[0.72, 0.8, 0.88, 0.94, 1.0, 1.05, 1.11, 1.18, 1.28, 1.4],
        9..=16 => &[0.8, 0.86, 0.92, 0.96, 1.0, 1.04, 1.1, 1.16, 1.24],
        17..=32 => &[0.86, 0.91, 0.96, 1.0, 1.04, 1.09, 1.15],
        _ => &[0.9, 0.94, 0.97, 1.0, 1.03, 1.07],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_level_is_the_nearest() {
        for encoding in
            [Encoding::Q3Nl, Encoding::Q4Nl, Encoding::Q5Nl, Encoding::Q6, Encoding::Q4, Encoding::Q8]
        {
            let grid = Grid::of(encoding);
            for step in -1400..1400 {
                let number = step as f32 * 0.1003;
                let distance = |level: f32| (level - number).abs();
                let best = grid.levels.iter().map(|&l| distance(l)).fold(f32::INFINITY, f32::min);
                assert_eq!(distance(grid.level(grid.code(number))), best, "{encoding:?} {number}");
            }
            assert_eq!(grid.code(f32::INFINITY), (grid.levels.len() - 1) as u8);
            assert_eq!(grid.code(f32::NEG_INFINITY), 0);
        }
    }

    #[test]
    fn values_on_the_grid_are_found_again() {
        for encoding in [Encoding::Q3Nl, Encoding::Q4Nl, Encoding::Q5Nl] {
            let grid = Grid::of(encoding);
            for scale in [0.01f32, -0.37] {
                let values: Vec<f32> =
                    (0..GROUP).map(|i| scale * grid.level((i * 7 % grid.levels.len()) as u8)).collect();
                let found = grid.scale(&values, &[1.0; GROUP]);
                assert!((found / scale - 1.0).abs() < 1e-4, "{encoding:?}: {found} for {scale}");
            }
        }
    }

    #[test]
    fn heavy_columns_decide() {
        let grid = Grid::of(Encoding::Q3Nl);
        let values: Vec<f32> = (0..GROUP).map(|i| ((i * 37 % 64) as f32 - 31.7) * 0.01).collect();
        let mut weights = [1e-3; GROUP];
        weights[5] = 1.0;
        weights[11] = 1.0;
        let error = |scale: f32| -> f32 {
            let off = |i: usize| values[i] - scale * grid.level(grid.code(values[i] / scale));
            [5, 11].into_iter().map(|i| off(i).powi(2)).sum()
        };
        let (plain, weighted) = (grid.scale(&values, &[1.0; GROUP]), grid.scale(&values, &weights));
        assert!(error(weighted) < error(plain) * 0.7, "{} against {}", error(weighted), error(plain));
    }
}
