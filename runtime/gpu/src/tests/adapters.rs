//! Adapters against the CPU's exact mode: two at once, changed, taken away.

use super::model::{File, adapted_on_cpu, all_logits, config, difference, mixed, model, options, tokens};
use super::products::sample;
use super::{Random, plain_device};
use crate::{Gpu, GpuError, GpuOptions};
use thimble_runtime::adapter::{
    ADAPTER_HEADER, AdapterError, AdapterFile, AdapterHeader, AdapterRecord, WeightedAdapter,
};
use thimble_runtime::format::{ALIGN, Config, Encoding, TensorRole, checksum};
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::Weights;

/// An adapter of random matrices for some roles, with these ranks in turn.
fn adapter(
    config: &Config,
    (encoding, roles): (Encoding, &[TensorRole]),
    ranks: &[u16],
    random: &mut Random,
) -> File {
    let (mut table, mut weights, mut matrices) = (Vec::new(), Vec::new(), 0);
    let all = (0..config.layers as u16).flat_map(|layer| roles.iter().map(move |role| (layer, *role)));
    for ((layer, role), rank) in all.zip(ranks.iter().cycle()) {
        let (rows, columns) = role.shape(config);
        let width = usize::from(*rank);
        weights.resize(weights.len().next_multiple_of(ALIGN as usize), 0u8);
        let offset = weights.len() as u64;
        weights.extend(sample(encoding, width, columns, random));
        weights.resize(weights.len().next_multiple_of(ALIGN as usize), 0u8);
        weights.extend(sample(encoding, rows, width, random));
        let scale = 0.2 / (columns as f32 * f32::from(*rank)).sqrt();
        let (rank, rows, columns) = (*rank, rows as u32, columns as u32);
        table.extend(AdapterRecord { role, layer, encoding, rank, rows, columns, scale, offset }.emit());
        matrices += 1;
    }
    let layers = Some(config.layers as u32);
    let header = AdapterHeader { matrices, provenance: 0, file_len: 0, fingerprint: None, layers };
    let header = AdapterHeader { file_len: header.weights() + weights.len() as u64, ..header };
    let mut file = vec![0; ADAPTER_HEADER];
    file.extend(table);
    file.resize(header.weights() as usize, 0);
    header.emit(checksum(&weights), &mut file).unwrap();
    file.extend(weights);
    File::new(&file)
}

#[test]
fn logits_are_those_of_the_exact_mode_with_the_same_adapters() {
    let Some(device) = plain_device() else { return };
    let mut random = Random(91);
    let all = &AdapterRecord::ROLES[..];
    let some = &[TensorRole::Value, TensorRole::Output, TensorRole::Up][..];
    let biased = Config { qkv_bias: true, ..config(70, (3, 1, 22), 100, false) };
    for config in [config(96, (6, 2, 32), 160, true), biased] {
        let file = model(&config, mixed, &mut random);
        let file = file.model();
        let tokens = tokens(120, &mut random);
        let weights = Weights::new(&file).unwrap();
        let first = adapter(&config, (Encoding::F16, all), &[8, 16, 3], &mut random);
        let second = adapter(&config, (Encoding::F32, some), &[33], &mut random);
        let [first, second] = [&first, &second].map(|file| AdapterFile::parse(file.content()).unwrap());
        let weighted = |file, weight| WeightedAdapter { file, weight };
        // The CPU's own cache, so that a few numbers that are rounded otherwise are all that differs.
        for (kv, bound) in [(KvKind::F32, 2e-4), (KvKind::F16, 2e-3), (KvKind::Q8, 2e-2)] {
            let options = GpuOptions { adapter_rank: 33, ..options(kv, 128, 3) };
            let mut gpu = Gpu::new(&device, &weights, &options).unwrap();
            assert_eq!(gpu.allocated(), gpu.plan().bytes(), "the plan is what was made");
            let plain = adapted_on_cpu(&file, &[], (&tokens, 50), (kv, true));
            let mut expected_bytes = gpu.plan().bytes();
            for (adapters, uploaded) in [
                (vec![], None),
                (vec![weighted(first, 1.0)], Some(first)),
                (vec![weighted(second, -0.5), weighted(first, 0.5)], Some(second)),
                (vec![weighted(first, 0.0)], None),
                (vec![weighted(first, 1.0)], None),
            ] {
                gpu.set_adapters(&adapters).unwrap();
                expected_bytes += uploaded.map_or(0, |file| bytes(&file));
                assert_eq!(gpu.allocated(), expected_bytes, "an adapter is uploaded once");
                let expected = adapted_on_cpu(&file, &adapters, (&tokens, 50), (kv, true));
                let moved = difference(&plain, &expected);
                assert_eq!(moved > 0.02, adapters.iter().any(|adapter| adapter.weight != 0.0), "{moved}");
                // Token by token, few, and in tiles.
                let found = all_logits(&mut gpu, &tokens, &[100, 1, 1, 5, 9, 2]);
                gpu.check().unwrap();
                let off = difference(&found, &expected);
                println!("{} adapters, {kv:?} cache: logits off by {off:e} of the largest", adapters.len());
                assert!(off <= bound, "{off}");
            }
        }
        let mut gpu = Gpu::new(&device, &weights, &options(KvKind::F32, 16, 1)).unwrap();
        let refused = gpu.set_adapters(&[weighted(second, 1.0)]);
        assert_eq!(refused, Err(GpuError::Adapter(AdapterError::Rank { found: 33, planned: 0 })));
    }
}

/// Bytes of an adapter's matrices.
fn bytes(file: &AdapterFile<'_>) -> u64 {
    file.records().map(|record| record.a_bytes() + record.b_bytes()).sum()
}
