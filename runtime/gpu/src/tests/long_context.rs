//! Long contexts: a prompt of 8,000 tokens, and tokens behind it.

use super::Random;
use super::model::{config, difference, exact, mixed, model, tokens};
use super::plain_device;
use crate::{Gpu, GpuOptions};
use thimble_runtime::format::Config;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::{Backend, Batch, Weights, forward};

#[test]
fn eight_thousand_tokens() {
    let Some(device) = plain_device() else { return };
    let mut random = Random(21);
    // One layer: attention over 8,000 positions takes a software adapter long enough.
    let config = Config { layers: 1, context: 8192, ..config(64, (2, 1, 32), 96, true) };
    let file = model(&config, mixed, &mut random);
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let tokens = tokens(8_010, &mut random);
    let expected = exact(&file, &tokens, 250);
    let vocab = config.vocab;
    let options = GpuOptions {
        context: 8192,
        batch: 512,
        logit_rows: 1,
        kv: KvKind::F32,
        adapter_rank: 0,
        binding_bytes: None,
    };
    let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
    assert_eq!(gpu.allocated(), gpu.plan().bytes(), "the plan is what was made");
    for (i, tokens) in tokens[..8_000].chunks(512).enumerate() {
        forward(&mut gpu, &Batch { tokens, position: i * 512 });
    }
    gpu.head(8_000 % 512 - 1..8_000 % 512);
    let off = difference(gpu.logits(), &expected[7_999 * vocab..8_000 * vocab]);
    // Attention of one token, and of four, over spans.
    let mut found = Vec::new();
    for (from, to) in [(8_000, 8_001), (8_001, 8_002), (8_002, 8_006), (8_006, 8_010)] {
        forward(&mut gpu, &Batch { tokens: &tokens[from..to], position: from });
        gpu.head(to - from - 1..to - from);
        found.push(difference(gpu.logits(), &expected[(to - 1) * vocab..to * vocab]));
    }
    println!("behind 8,000 tokens logits off by {off:e} of the largest, then {found:?}");
    assert!(off <= 2e-4 && found.iter().all(|off| *off <= 2e-4));
    gpu.check().unwrap();
}
