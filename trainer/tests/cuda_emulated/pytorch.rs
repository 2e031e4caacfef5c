//! Ten steps against PyTorch's bf16 run, within the noise of bf16: `tests/golden/train/bf16.py` ran the same steps in f32,
//! and in bf16 with two implementations of attention.

use crate::setup::{cpu, cuda};
use std::path::Path;
use thimble_runtime::format::Config;
use thimble_trainer::ops::BufferLengths;
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::parity::{Bf16Parity, Comparison, RunDistance, compare};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train/bf16");

fn bf16(found: Comparison) -> Bf16Parity {
    match found {
        Comparison::Bf16(found) => found,
        other => panic!("expected a comparison in bf16, found {other:?}"),
    }
}

#[test]
fn ten_steps_are_within_the_noise_of_pytorchs() {
    let found = bf16(compare(Path::new(FOLDER), |config, lengths| Ok(cuda(config, lengths))).unwrap());
    println!("{found:?}");
    assert!(found.holds(), "{found:?}");
    assert_eq!(found.device, "emulated GPU, own kernels, bf16");
    // The reference is stored in bf16, and so is no closer to f32.
    let exact = bf16(compare(Path::new(FOLDER), |config, lengths| Ok(cpu(config, lengths))).unwrap());
    assert!(exact.to_f32.update < 3e-3 && exact.to_f32.losses < 1e-5, "{exact:?}");
}

#[test]
fn another_model_is_beyond_the_noise() {
    let other = |config: &Config, lengths: BufferLengths| CpuOps::new(1, lengths, 1e4 * config.norm_eps);
    let found = bf16(compare(Path::new(FOLDER), other).unwrap());
    assert!(!found.holds(), "{found:?}");
    let (noise, near) = (found.noise, RunDistance { losses: 0.0, update: 0.0 });
    let parity = |to_f32, to_bf16| Bf16Parity { device: String::new(), to_f32, to_bf16, noise };
    let far = RunDistance { losses: f64::INFINITY, ..near };
    assert!(parity(near, near).holds() && !parity(near, far).holds() && !parity(far, near).holds());
}
