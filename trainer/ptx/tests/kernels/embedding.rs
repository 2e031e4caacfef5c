//! Rows of the embedding table and their gradient over tokens sorted by id.

use super::harness::{Checked, Device, F32_BOUND, Random, close, exactly, int, pointer, values};
use thimble_ptx::Module;

/// Tokens of one id that are summed at once.
const SEGMENT: usize = 64;

/// One frequent id, ids that are not there, columns beyond an access of a warp.
pub(crate) fn check(module: &Module) -> Checked {
    for (tokens, vocabulary, columns) in [(150, 20, 384), (1, 3, 8), (33, 50, 136)] {
        embedding(module, tokens, vocabulary, columns)
            .map_err(|problem| format!("{tokens} tokens: {problem}"))?;
    }
    Ok(())
}

fn embedding(module: &Module, tokens: usize, vocabulary: usize, columns: usize) -> Checked {
    let mut random = Random(tokens as u64);
    let table = random.bf16s(vocabulary * columns, 1.0);
    let d = random.bf16s(tokens * columns, 1.0);
    let before = random.f32s(vocabulary * columns, 0.0, 1.0);
    // Most tokens are the last id.
    let mut draw = |_| if random.below(3) == 0 { random.below(vocabulary) } else { vocabulary - 1 };
    let ids: Vec<u32> = (0..tokens).map(|token| draw(token) as u32).collect();

    let mut order: Vec<u32> = (0..tokens as u32).collect();
    order.sort_by_key(|&token| ids[token as usize]);
    let (mut segments, mut id_starts, mut distinct) = (vec![0u32], vec![0u32], Vec::new());
    for of_one in order.chunk_by(|&a, &b| ids[a as usize] == ids[b as usize]) {
        distinct.push(ids[of_one[0] as usize]);
        for part in of_one.chunks(SEGMENT) {
            segments.push(segments[segments.len() - 1] + part.len() as u32);
        }
        id_starts.push(segments.len() as u32 - 1);
    }

    let mut device = Device::new(module);
    let table_at = device.bf16("table", &table);
    let ids_at = device.memory.input("ids", &ids);
    let output = device.memory.output("output", 2 * tokens * columns);
    let arguments = [pointer(table_at), pointer(ids_at), pointer(output), int(tokens), int(columns)];
    device.launch("embedding", [tokens.div_ceil(8), 1, 1], &arguments)?;
    let count = segments.len() - 1;
    let inputs = [device.memory.input("order", &order), device.memory.input("segment_starts", &segments)];
    let d_output = device.bf16("d_output", &d);
    let partial = device.memory.output("partial", 4 * count * columns);
    let pointers = [inputs[0], inputs[1], d_output, partial].map(pointer);
    let arguments = [&pointers[..], &[int(count), int(columns)]].concat();
    device.launch("embedding_segment_sums", [count.div_ceil(8), 1, 1], &arguments)?;
    let inputs =
        [device.memory.input("id_starts", &id_starts), device.memory.input("distinct ids", &distinct)];
    let gradient = device.memory.in_place("gradient", &before);
    let pointers = [partial, inputs[0], inputs[1], gradient].map(pointer);
    let arguments = [&pointers[..], &[int(distinct.len()), int(columns)]].concat();
    device.launch("embedding_backward", [distinct.len().div_ceil(8), 1, 1], &arguments)?;

    let (table, d) = (values(&table), values(&d));
    let row = |of: &[f64], row: usize| of[row * columns..(row + 1) * columns].to_vec();
    let looked_up: Vec<f64> = ids.iter().flat_map(|&id| row(&table, id as usize)).collect();
    exactly("output", &device.read_bf16(output)?, &looked_up)?;
    let mut wanted: Vec<f64> = before.iter().copied().map(f64::from).collect();
    for (token, &id) in ids.iter().enumerate() {
        let to = &mut wanted[id as usize * columns..(id as usize + 1) * columns];
        to.iter_mut().zip(row(&d, token)).for_each(|(to, d)| *to += d);
    }
    close("gradient", &device.read_f32(gradient)?, &wanted, F32_BOUND)
}
