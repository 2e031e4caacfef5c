//! Every number of random grids is stored as it is.

use super::super::{MatrixRounding, Rows, encode_panel};
use crate::pack;
use crate::read::BlockType;
use half::f16;
use thimble_runtime::format::{Encoding, GROUP, PANEL, WeightScales};

/// Random numbers, splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Between 0 and 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }
}

/// A panel of random codes with scales such as training leaves: no group need have the largest multiplier.
fn random_panel(encoding: Encoding, columns: usize, random: &mut Random) -> Vec<u8> {
    let mut panel = vec![0; encoding.panel_bytes(columns).unwrap()];
    pack::clear(encoding, &mut panel);
    let layout = encoding.layout();
    let codes = 1u64 << layout.bits();
    for row in 0..PANEL {
        if encoding.panel_header() != 0 {
            pack::put_row_scale(&mut panel, row, 0.001 + 0.01 * random.unit());
        }
        let blocks = panel[encoding.panel_header()..].chunks_exact_mut(encoding.block_bytes());
        for block in blocks {
            // Often only a few of the codes, as in groups of few bits.
            let used = if random.below(4) == 0 { 2 + random.below(3) } else { codes };
            let lowest = u64::from(layout.scales == WeightScales::Row);
            let code = |random: &mut Random| {
                (random.below(used.min(codes)) + codes - used.min(codes)).max(lowest) as u8
            };
            let codes: [u8; GROUP] = std::array::from_fn(|_| code(random));
            match layout.scales {
                WeightScales::TwoLevel => {
                    let multiplier = random.below(255) as i32 - 127;
                    pack::put_two_level_group(encoding, block, row, &codes, multiplier as i8);
                }
                WeightScales::None | WeightScales::Row => pack::put_codes(encoding, block, row, &codes),
                WeightScales::Group | WeightScales::GroupAndMinimum => {
                    let scale = f16::from_f32(0.002 + 0.02 * random.unit());
                    let minimum = match layout.scales {
                        WeightScales::Group => f16::ZERO,
                        _ => f16::from_f32(-0.2 * random.unit()),
                    };
                    pack::put_group(encoding, block, row, &pack::Group { codes, scale, minimum });
                }
            }
        }
    }
    panel
}

fn quantized() -> impl Iterator<Item = Encoding> {
    Encoding::matrices().filter(|encoding| encoding.is_quantized())
}

#[test]
fn numbers_on_a_grid_are_stored_as_they_are() {
    let mut random = Random(1);
    for encoding in quantized() {
        for columns in [32, 96, 192] {
            for _ in 0..8 {
                let panel = random_panel(encoding, columns, &mut random);
                let values = pack::unpack(encoding, &panel, PANEL, columns).unwrap();
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                let rows = Rows { kind: BlockType::F32, bytes: &bytes, columns };
                let mut again = vec![0; panel.len()];
                let distortion = encode_panel(encoding, rows, &mut again).unwrap();
                let stored = pack::unpack(encoding, &again, PANEL, columns).unwrap();
                assert_eq!(stored, values, "{encoding:?}, {columns} columns");
                assert_eq!(distortion.error, 0.0, "{encoding:?}");
            }
        }
    }
}

/// The mean distance of neighbouring numbers, from what weights between the lowest and the highest are rounded to.
fn mean_step(rounding: &MatrixRounding, weights: usize) -> f32 {
    let round = |values: &[f32]| {
        let mut rounded = vec![f32::NAN; weights];
        rounding.round(values, &mut rounded);
        rounded
    };
    let [low, high] = [-1e30, 1e30].map(|far| round(&vec![far; weights]));
    let mut numbers = vec![Vec::new(); weights];
    for place in 0..=4096 {
        let between = |(low, high): (&f32, &f32)| low + (high - low) * place as f32 / 4096.0;
        let values: Vec<f32> = low.iter().zip(&high).map(between).collect();
        numbers.iter_mut().zip(round(&values)).for_each(|(numbers, number)| numbers.push(number));
    }
    let steps = numbers.iter_mut().map(|numbers| {
        numbers.sort_by(f32::total_cmp);
        numbers.dedup();
        (numbers[numbers.len() - 1] - numbers[0]) / (numbers.len() - 1).max(1) as f32
    });
    steps.sum::<f32>() / weights as f32
}

#[test]
fn rounding_with_given_scales_gives_numbers_that_are_stored_as_they_are() {
    let mut random = Random(2);
    for encoding in quantized() {
        let columns = 96;
        let panel = random_panel(encoding, columns, &mut random);
        let rounding = MatrixRounding::of_stored(encoding, &panel, PANEL, columns).unwrap();
        // Its own numbers stay.
        let own = pack::unpack(encoding, &panel, PANEL, columns).unwrap();
        let mut rounded = vec![f32::NAN; own.len()];
        rounding.round(&own, &mut rounded);
        assert_eq!(rounded, own, "{encoding:?}");
        // Others go to the nearest.
        let moved: Vec<f32> =
            own.iter().map(|v| v * (1.45 - 0.9 * random.unit()) + 0.02 * (random.unit() - 0.5)).collect();
        rounding.round(&moved, &mut rounded);
        assert_ne!(rounded, own, "{encoding:?}");
        let (found, expected) = (rounding.mean_step(), mean_step(&rounding, own.len()));
        assert!((found / expected - 1.0).abs() < 1e-4, "{encoding:?}: {found}, {expected}");
        let bytes: Vec<u8> = rounded.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut again = vec![0; panel.len()];
        let rows = Rows { kind: BlockType::F32, bytes: &bytes, columns };
        assert_eq!(encode_panel(encoding, rows, &mut again).unwrap().error, 0.0, "{encoding:?}");
        assert_eq!(pack::unpack(encoding, &again, PANEL, columns).unwrap(), rounded, "{encoding:?}");
    }
    assert!(MatrixRounding::of_stored(Encoding::F16, &[0; 1024], PANEL, 32).is_none());
    assert!(MatrixRounding::of_stored(Encoding::Q4, &[0; 287], PANEL, 32).is_none());
}

/// Where weights move together their scale follows, and what it gives is stored as it is.
#[test]
fn scales_follow_the_weights() {
    let mut random = Random(4);
    for encoding in quantized() {
        let columns = 96;
        let panel = random_panel(encoding, columns, &mut random);
        let own = pack::unpack(encoding, &panel, PANEL, columns).unwrap();
        let mut rounding = MatrixRounding::of_stored(encoding, &panel, PANEL, columns).unwrap();
        rounding.follow(&own);
        let mut rounded = vec![f32::NAN; own.len()];
        rounding.round(&own, &mut rounded);
        assert_eq!(rounded, own, "{encoding:?}");
        // Smaller, as a multiplier of 127 cannot grow; a minimum follows shifts instead.
        let shift =
            if encoding.layout().scales == WeightScales::GroupAndMinimum { (1.0, 4e-4) } else { (0.97, 0.0) };
        let shrunk: Vec<f32> = own.iter().map(|v| v * shift.0 + shift.1).collect();
        rounding.round(&shrunk, &mut rounded);
        let distance = |from: &[f32]| -> f64 {
            from.iter().zip(&shrunk).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        assert!(
            distance(&rounded) < 0.5 * distance(&own),
            "{encoding:?}: {} of {}",
            distance(&rounded),
            distance(&own)
        );
        let bytes: Vec<u8> = rounded.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut again = vec![0; panel.len()];
        let rows = Rows { kind: BlockType::F32, bytes: &bytes, columns };
        assert_eq!(encode_panel(encoding, rows, &mut again).unwrap().error, 0.0, "{encoding:?}");
        assert_eq!(pack::unpack(encoding, &again, PANEL, columns).unwrap(), rounded, "{encoding:?}");
    }
}

/// Every group of a panel has the same code throughout, so that nothing tells its scale.
#[test]
fn groups_of_one_code_are_stored_as_they_are() {
    let mut random = Random(5);
    for encoding in quantized().filter(|encoding| encoding.layout().scales == WeightScales::GroupAndMinimum) {
        let (columns, codes) = (192, 1 << encoding.layout().bits());
        let (mut lost, mut all) = (0, 0);
        for _ in 0..32 {
            let mut panel = random_panel(encoding, columns, &mut random);
            let blocks = panel[encoding.panel_header()..].chunks_exact_mut(encoding.block_bytes());
            for block in blocks {
                for row in 0..PANEL {
                    pack::put_codes(encoding, block, row, &[random.below(codes) as u8; GROUP]);
                }
            }
            let values = pack::unpack(encoding, &panel, PANEL, columns).unwrap();
            for group in values.chunks(GROUP) {
                assert!(group.iter().all(|value| *value == group[0]));
                all += 1;
                lost += usize::from(super::one_code(group[0], codes as u32 - 1).is_none());
            }
        }
        println!("{encoding:?}: {lost} of {all} groups of one code have no scale");
        assert!(lost * 100 < all, "{encoding:?}: {lost} of {all}");
    }
}

/// Rows with one number in each group, of which no two need have a scale in common.
#[test]
fn sparse_rows_are_given_up_after_so_many_comparisons() {
    let mut random = Random(6);
    let mut tried = 0;
    for encoding in quantized().filter(|encoding| encoding.layout().scales == WeightScales::TwoLevel) {
        let levels = super::Grid::of(encoding);
        // Without a level 0 no group of one number is on the grid.
        if levels.level(levels.code(0.0)) != 0.0 {
            continue;
        }
        tried += 1;
        let mut group = || {
            let mut values = [0.0f32; GROUP];
            values[0] = random.unit() - 0.5;
            super::scales(levels, &values, Some)
        };
        let groups: Vec<Vec<f32>> = (0..128).map(|_| group()).collect();
        let choices: usize = groups.iter().map(Vec::len).sum();
        assert!(groups.iter().all(|scales| !scales.is_empty()), "{encoding:?}");
        let (found, compared) = super::common_row_scale(&groups);
        // Each row scale that is tried takes up to `choices` comparisons.
        let most = super::MOST_COMPARED;
        assert!(found.is_none() && compared <= most + choices, "{encoding:?}: {compared} of {most}");
        println!("{encoding:?}: {choices} scales, {compared} comparisons");
    }
    assert!(tried > 0, "no encoding with a level 0");
}

#[test]
fn other_numbers_are_on_no_grid() {
    let mut random = Random(3);
    for encoding in quantized() {
        let values: Vec<f32> = (0..PANEL * 64).map(|_| random.unit() - 0.5).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let rows = Rows { kind: BlockType::F32, bytes: &bytes, columns: 64 };
        let mut panel = vec![0; encoding.panel_bytes(64).unwrap()];
        assert!(encode_panel(encoding, rows, &mut panel).unwrap().error > 0.0, "{encoding:?}");
    }
}
