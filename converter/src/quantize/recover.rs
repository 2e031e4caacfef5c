//! Finds the scales of numbers that already lie on an encoding's grid, as after training for it, so that storing them
//! changes none.
//!
//! Products of a scale and a level are rounded to f32, so a quotient is only near the scale: the few numbers around it
//! are tried, and a scale counts only if it gives every number of its group exactly.

use super::grid::Grid;
use super::group_scale::GroupScale;
use half::f16;
use thimble_runtime::format::{Encoding, GROUP, WeightScales};

/// The grid of a row.
pub(super) struct RowGrid {
    /// The row's scale, if the encoding has one.
    pub(super) row_scale: f32,
    /// The scale of each group.
    pub(super) groups: Vec<GroupScale>,
}

/// Numbers tried on each side of a quotient.
const NEAR: i32 = 3;
/// Minimums tried on each side of the value of a group that has one code.
const ONE_CODE_MINIMUMS: i16 = 16;
/// Scales of groups that are compared with those of rows, at most: in a row of many groups with one number each, any scale gives
/// these numbers, and so many are found at once or not at all.
const MOST_COMPARED: usize = 1 << 18;
/// Multipliers of the scales of rows.
const MULTIPLIERS: i32 = 127;

/// The grid of this encoding on which every value of a row lies; `None` if there is none.
pub(super) fn grid(encoding: Encoding, levels: &Grid, row: &[f32]) -> Option<RowGrid> {
    let groups = || row.chunks(GROUP);
    match encoding.layout().scales {
        WeightScales::None => None,
        WeightScales::Row => {
            // Code 0 is not used, so that the range is symmetric.
            let last = levels.ends().1;
            let symmetric = |scale: f32| row.iter().all(|value| value.abs() <= scale.abs() * last);
            let storable = |scale: f32| symmetric(scale).then_some(scale);
            let scale = if all_zero(row) { 0.0 } else { *scales(levels, row, storable).first()? };
            let groups = groups().map(|_| GroupScale::new(scale, 0.0, 0)).collect();
            Some(RowGrid { row_scale: scale, groups })
        }
        WeightScales::Group => {
            let group = |values: &[f32]| {
                let scale =
                    if all_zero(values) { 0.0 } else { *scales(levels, values, exact_f16).first()? };
                Some(GroupScale::new(scale, 0.0, 0))
            };
            Some(RowGrid { row_scale: 0.0, groups: groups().map(group).collect::<Option<_>>()? })
        }
        WeightScales::GroupAndMinimum => {
            let group = |values: &[f32]| with_minimum(levels, values);
            Some(RowGrid { row_scale: 0.0, groups: groups().map(group).collect::<Option<_>>()? })
        }
        WeightScales::TwoLevel => two_level(levels, row),
    }
}

fn all_zero(values: &[f32]) -> bool {
    values.iter().all(|&value| value == 0.0)
}

fn exact_f16(scale: f32) -> Option<f32> {
    (f16::from_f32(scale).to_f32() == scale).then_some(scale)
}

/// The numbers within `NEAR` steps of the last bit, nearest first.
fn neighbours(number: f32) -> impl Iterator<Item = f32> {
    let bits = number.to_bits();
    let steps = (0..=NEAR).flat_map(|step| [step, -step]).skip(1);
    steps.map(move |step| f32::from_bits(bits.wrapping_add_signed(step)))
}

/// Whether every value is the scale times a level.
fn fits(levels: &Grid, scale: f32, values: &[f32]) -> bool {
    let inverse = 1.0 / scale;
    let usable = scale.is_finite() && scale != 0.0 && inverse.is_finite();
    usable && values.iter().all(|&value| scale * levels.level(levels.code(value * inverse)) == value)
}

/// The scales that give every value, those of the outermost levels first; `storable` refuses what the encoding cannot
/// hold. The values are not all zero.
fn scales(levels: &Grid, values: &[f32], storable: impl Fn(f32) -> Option<f32>) -> Vec<f32> {
    let most = values.iter().copied().fold(0.0f32, |most, v| if v.abs() > most.abs() { v } else { most });
    let mut found = Vec::new();
    for level in levels.outermost_first() {
        let quotient = most / level;
        let candidates = neighbours(quotient).filter_map(&storable);
        found.extend(candidates.filter(|&scale| fits(levels, scale, values)));
    }
    found
}

/// Scale and minimum of a group, both f16.
fn with_minimum(levels: &Grid, values: &[f32]) -> Option<GroupScale> {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let on_grid = |scale: f32, minimum: f32| {
        let fit = GroupScale::new(scale, minimum, 0);
        let stored = |value: f32| {
            let code = levels.code((value - minimum) * fit.inverse());
            scale * levels.level(code) + minimum == value
        };
        values.iter().all(|&value| stored(value)).then_some(fit)
    };
    let last = levels.ends().1 as u32;
    if low == high {
        return one_code(low, last).and_then(|(scale, minimum)| on_grid(scale, minimum));
    }
    for span in (1..=last).rev() {
        let scale = f16::from_f32((high - low) / span as f32);
        for scale in near_f16(scale) {
            for first in 0..=last - span {
                for minimum in near_f16(f16::from_f32(low - scale * first as f32)) {
                    if let Some(fit) = on_grid(scale, minimum) {
                        return Some(fit);
                    }
                }
            }
        }
    }
    None
}

/// Scale and minimum of a group of one code, whose every value is `value`: the minimum itself, or a minimum beside it and what
/// is left as a multiple of the scale. The scale that it had is not told by one code; any that gives the value will do.
fn one_code(value: f32, last: u32) -> Option<(f32, f32)> {
    if let Some(minimum) = exact_f16(value) {
        return Some((0.0, minimum));
    }
    let near = f16::from_f32(value);
    let steps = (0..=ONE_CODE_MINIMUMS).flat_map(|step| [step, -step]).skip(1);
    let beside = steps.map(|step| f16::from_bits(near.to_bits().wrapping_add_signed(step)).to_f32());
    let minimums = beside.chain([0.0]).filter(|minimum| minimum.is_finite());
    let mut candidates = minimums.flat_map(|minimum| {
        (1..=last).map(move |code| (f16::from_f32((value - minimum) / code as f32), code, minimum))
    });
    candidates.find_map(|(scale, code, minimum)| {
        let scale = near_f16(scale).find(|scale| scale * code as f32 + minimum == value)?;
        Some((scale, minimum))
    })
}

/// A half and the two beside it, as far as they are finite.
fn near_f16(number: f16) -> impl Iterator<Item = f32> {
    let beside = [0, 1, -1].map(|step| f16::from_bits(number.to_bits().wrapping_add_signed(step)));
    beside.into_iter().map(f16::to_f32).filter(|number| number.is_finite())
}

/// The scale of a row and the multipliers of its groups.
fn two_level(levels: &Grid, row: &[f32]) -> Option<RowGrid> {
    let mut groups = Vec::new();
    for values in row.chunks(GROUP) {
        let found = if all_zero(values) { vec![0.0] } else { scales(levels, values, Some) };
        if found.is_empty() {
            return None;
        }
        groups.push(found);
    }
    common_row_scale(&groups).0
}

/// A row's scale of which one of each group's scales is a multiple, and how many scales were compared.
fn common_row_scale(groups: &[Vec<f32>]) -> (Option<RowGrid>, usize) {
    let mut compared = 0;
    let largest = |scales: &Vec<f32>| scales.iter().fold(0.0f32, |most, s| most.max(s.abs()));
    // The group that leaves the fewest choices; of these the one of the largest scale, to which the converter gives the
    // largest multiplier.
    let scaled = groups.iter().filter(|scales| largest(scales) > 0.0);
    let anchor = scaled.min_by(|a, b| a.len().cmp(&b.len()).then(largest(b).total_cmp(&largest(a))));
    let Some(anchor) = anchor else {
        let groups = vec![GroupScale::new(0.0, 0.0, 0); groups.len()];
        return (Some(RowGrid { row_scale: 0.0, groups }), compared);
    };
    for multiplier in (1..=MULTIPLIERS).rev() {
        for &scale in anchor {
            for row_scale in neighbours(scale.abs() / multiplier as f32) {
                if compared > MOST_COMPARED {
                    return (None, compared);
                }
                let found: Option<Vec<GroupScale>> = groups
                    .iter()
                    .map(|scales| {
                        compared += scales.len();
                        multiple(row_scale, scales)
                    })
                    .collect();
                if let Some(groups) = found {
                    return (Some(RowGrid { row_scale, groups }), compared);
                }
            }
        }
    }
    (None, compared)
}

/// The first of these scales that is a multiple of the row's.
fn multiple(row_scale: f32, scales: &[f32]) -> Option<GroupScale> {
    scales.iter().find_map(|&scale| {
        let multiplier = (scale / row_scale).round();
        let exact = multiplier.abs() <= MULTIPLIERS as f32 && row_scale * multiplier == scale;
        exact.then(|| GroupScale::new(scale, 0.0, multiplier as i8))
    })
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
