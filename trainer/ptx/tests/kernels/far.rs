//! Indices beyond 2^31: the last block of a launch over buffers that no memory holds computes what one block computes.

use super::harness::{Checked, Random, float, int, long, resource};
use thimble_ptx::{Grid, LaunchArgument, Memory, Module};

const COLUMNS: usize = 384;
/// Rows of `COLUMNS` elements, more than 2^31 elements in all.
const ROWS: usize = (1 << 31) / COLUMNS / 8 * 8 + 16;

#[derive(Clone, Copy, PartialEq)]
enum Use {
    Input,
    InPlace,
    Output,
}

/// A buffer that has the same bytes in both launches.
struct Buffer {
    how: Use,
    /// Near, and far, where the values are indices.
    bytes: [Vec<u8>; 2],
    /// Bytes before it in the far launch.
    before: usize,
}

fn buffer(how: Use, bytes: Vec<u8>, before: usize) -> Buffer {
    Buffer { how, bytes: [bytes.clone(), bytes], before }
}

/// `count` elements of bf16, of which the far launch has `total`.
fn bf16s(how: Use, count: usize, total: usize) -> Buffer {
    let values = Random(count as u64).bf16s(count, 1.0);
    buffer(how, values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect(), 2 * (total - count))
}

fn f32s(how: Use, count: usize, total: usize) -> Buffer {
    let values = Random(count as u64).f32s(count, 1.0, 0.1);
    buffer(how, values.iter().flat_map(|value| value.to_le_bytes()).collect(), 4 * (total - count))
}

/// `near` and `far` numbers, of which the far launch has `total`.
fn indices(near: &[u32], far: &[u32], total: usize) -> Buffer {
    let bytes = [near, far].map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect());
    Buffer { how: Use::Input, bytes, before: 4 * (total - near.len()) }
}

/// A kernel, its buffers, the parameters after them, and the blocks of the far launch, of which the last one runs.
struct Far {
    kernel: &'static str,
    shared: u32,
    buffers: Vec<Buffer>,
    parameters: [Vec<LaunchArgument>; 2],
    blocks: [usize; 3],
}

impl Far {
    fn new(
        kernel: &'static str,
        blocks: [usize; 3],
        buffers: Vec<Buffer>,
        parameters: [Vec<LaunchArgument>; 2],
    ) -> Far {
        Far { kernel, shared: resource(kernel, "dynamic_shared"), buffers, parameters, blocks }
    }

    /// What the only block of the near launch or the last one of the far launch writes.
    fn run(&self, module: &Module, far: usize) -> Result<Vec<Vec<u8>>, String> {
        let mut memory = Memory::new();
        let mut arguments = Vec::new();
        let mut written = Vec::new();
        for (i, buffer) in self.buffers.iter().enumerate() {
            let bytes = &buffer.bytes[far];
            let name = format!("buffer {i}");
            let pointer = match buffer.how {
                Use::Input => memory.input(&name, bytes),
                Use::InPlace => memory.in_place(&name, bytes),
                Use::Output => memory.output(&name, bytes.len()),
            };
            if far == 1 {
                memory.embed(pointer, buffer.before, buffer.before + bytes.len());
            }
            if buffer.how != Use::Input {
                written.push(pointer);
            }
            arguments.push(LaunchArgument::Pointer(pointer));
        }
        arguments.extend(&self.parameters[far]);
        let blocks = if far == 1 { self.blocks.map(|n| n as u32) } else { [1; 3] };
        let grid = Grid { blocks, threads: resource(self.kernel, "threads"), shared_bytes: self.shared };
        let last = blocks.map(|n| n - 1);
        let ran = module.entry(self.kernel).unwrap().launch_blocks(grid, [last], &arguments, &mut memory);
        ran.map_err(|error| error.to_string())?;
        written.into_iter().map(|pointer| memory.read::<u8>(pointer)).collect()
    }
}

fn norms() -> Vec<Far> {
    let matrix = |how, rows: usize| bf16s(how, rows * COLUMNS, ROWS * COLUMNS);
    let weight = || f32s(Use::Input, COLUMNS, COLUMNS);
    let sizes = |rows: usize| vec![int(rows), int(COLUMNS)];
    let forward = vec![matrix(Use::Input, 8), weight(), f32s(Use::Output, 8, ROWS), matrix(Use::Output, 8)];
    let mut backward = vec![matrix(Use::Input, 4), weight(), f32s(Use::Input, 4, ROWS)];
    backward.extend([matrix(Use::Input, 4), matrix(Use::InPlace, 4), matrix(Use::Output, 4)]);
    backward.push(f32s(Use::Output, COLUMNS, ROWS / 4 * COLUMNS));
    let with = |rows: usize, more: LaunchArgument| [sizes(rows), vec![more]].concat();
    let (epsilon, adds) = (float(1e-5), int(1));
    vec![
        Far::new("rms_norm", [ROWS / 8, 1, 1], forward, [with(8, epsilon), with(ROWS, epsilon)]),
        Far::new("rms_norm_backward", [ROWS / 4, 1, 1], backward, [with(4, adds), with(ROWS, adds)]),
    ]
}

/// The windows of the last sequence are the last elements of every buffer.
fn heads() -> Vec<Far> {
    let (context, heads, kv_heads, dim) = (32, 3, 1, 64);
    let sequences = (1 << 31) / (context * dim) + 2;
    let part = |how, heads: usize| bf16s(how, heads * context * dim, sequences * heads * context * dim);
    let turns = || f32s(Use::Input, context * dim / 2, context * dim / 2);
    let fused = |how| part(how, heads + 2 * kv_heads);
    let parts = |how| [part(how, heads), part(how, kv_heads), part(how, kv_heads)];
    let mut split = vec![fused(Use::Input), turns(), turns()];
    split.extend(parts(Use::Output));
    let mut back: Vec<Buffer> = parts(Use::Input).into();
    back.extend([turns(), turns(), fused(Use::Output)]);
    let sizes = || vec![int(context), int(heads), int(kv_heads), int(dim)];
    let mut all = vec![
        Far::new("split_heads", [1, sequences, 1], split, [sizes(), sizes()]),
        Far::new("split_heads_backward", [1, sequences, 1], back, [sizes(), sizes()]),
    ];

    let rows = |how, each: usize| f32s(how, context * heads * each, sequences * context * heads * each);
    let zeros = [0; 32];
    let inputs = || {
        let [query, key, value] = parts(Use::Input);
        vec![query, key, value, indices(&zeros, &zeros, sequences * context)]
    };
    let sizes = || vec![int(context), int(heads), int(kv_heads), float(0.125)];
    let own = |how| part(how, heads);
    let forward = inputs().into_iter().chain([own(Use::Output), rows(Use::Output, 1)]);
    let of_query =
        [own(Use::Input), own(Use::Input), rows(Use::Input, 1), rows(Use::Output, 4), own(Use::Output)];
    let of_key =
        [own(Use::Input), rows(Use::Input, 4), part(Use::Output, kv_heads), part(Use::Output, kv_heads)];
    let mut attention = |kernel, buffers: Vec<Buffer>| {
        all.push(Far::new(kernel, [1, sequences, 1], buffers, [sizes(), sizes()]));
    };
    attention("attention_forward_3", forward.collect());
    attention("attention_backward_query_3", inputs().into_iter().chain(of_query).collect());
    attention("attention_backward_key", inputs().into_iter().chain(of_key).collect());
    all
}

fn swiglu() -> Vec<Far> {
    let (ffn, near) = (1024, 2);
    let rows = (1 << 31) / ffn + 2;
    let matrix = |how, width: usize| bf16s(how, near * width, rows * width);
    let sizes = || [near, rows].map(|rows| vec![int(rows), int(ffn)]);
    let blocks = [rows * ffn / 2048, 1, 1];
    vec![
        Far::new("swiglu", blocks, vec![matrix(Use::Input, 2 * ffn), matrix(Use::Output, ffn)], sizes()),
        Far::new(
            "swiglu_backward",
            blocks,
            vec![matrix(Use::InPlace, 2 * ffn), matrix(Use::InPlace, ffn)],
            sizes(),
        ),
    ]
}

fn losses() -> Vec<Far> {
    let (classes, stride) = (304, 49_152);
    let rows = (1 << 31) / stride + 2;
    // The last row begins after all others, whatever lies behind its classes.
    let logits = |how| {
        let mut logits = bf16s(how, classes, classes);
        logits.before = 2 * (rows - 1) * stride;
        logits
    };
    let each = |how| f32s(how, 1, rows);
    let sizes = |more: &[LaunchArgument]| {
        [int(classes), int(stride)].into_iter().chain(more.iter().copied()).collect::<Vec<_>>()
    };
    let entropy = vec![logits(Use::InPlace), indices(&[7], &[7], rows), each(Use::Input), each(Use::Output)];
    let divergence = vec![logits(Use::InPlace), logits(Use::Input), each(Use::Input), each(Use::Output)];
    let (of_entropy, of_divergence) = (sizes(&[float(0.0), int(1)]), sizes(&[int(1)]));
    vec![
        Far::new("softmax_gradient", [rows, 1, 1], entropy, [of_entropy.clone(), of_entropy]),
        Far::new("divergence_gradient", [rows, 1, 1], divergence, [of_divergence.clone(), of_divergence]),
    ]
}

/// The last eight of `ROWS` tokens, segments and ids, each the only one of its kind.
fn embedding() -> Vec<Far> {
    let near: Vec<u32> = (0..9).collect();
    let far: Vec<u32> = (0..9).map(|i| (ROWS - 8 + i) as u32).collect();
    let (eight, starts) = (|| indices(&near[..8], &far[..8], ROWS), || indices(&near, &far, ROWS + 1));
    let matrix = |how| bf16s(how, 8 * COLUMNS, ROWS * COLUMNS);
    let sums = |how| f32s(how, 8 * COLUMNS, ROWS * COLUMNS);
    let sizes = || [8, ROWS].map(|rows| vec![int(rows), int(COLUMNS)]);
    let blocks = [ROWS / 8, 1, 1];
    let of_segments = vec![eight(), starts(), matrix(Use::Input), sums(Use::Output)];
    vec![
        Far::new("embedding", blocks, vec![matrix(Use::Input), eight(), matrix(Use::Output)], sizes()),
        Far::new("embedding_segment_sums", blocks, of_segments, sizes()),
        Far::new(
            "embedding_backward",
            blocks,
            vec![sums(Use::Input), starts(), eight(), sums(Use::InPlace)],
            sizes(),
        ),
    ]
}

fn flat() -> Vec<Far> {
    let (near, of_sum) = (2048, 8192);
    let count = (1 << 31) + of_sum;
    let values = |how| f32s(how, near, count);
    let copy = || bf16s(Use::Output, near, count);
    let state =
        vec![values(Use::InPlace), values(Use::InPlace), values(Use::InPlace), values(Use::Input), copy()];
    let factors = [0.9, 0.1, 0.1, 0.9, 0.1, 1.0, 1e-8, 1.0].map(float);
    let step = |count: usize| [vec![long(count), long(count - 1000)], factors.to_vec()].concat();
    let partial = buffer(Use::Output, vec![0; 8], 8 * (count / of_sum - 1));
    let sums = vec![f32s(Use::Input, of_sum, count), partial];
    vec![
        Far::new("adamw", [count / 2048, 1, 1], state, [step(near), step(count)]),
        Far::new(
            "round_to_bf16",
            [count / 2048, 1, 1],
            vec![values(Use::Input), copy()],
            [vec![long(near)], vec![long(count)]],
        ),
        Far::new("square_sum", [count / of_sum, 1, 1], sums, [vec![long(of_sum)], vec![long(count)]]),
    ]
}

/// All kernels whose buffers can be that long.
pub(crate) fn check(module: &Module) -> Checked {
    for case in [norms(), heads(), swiglu(), losses(), embedding(), flat()].into_iter().flatten() {
        if case.run(module, 0)? != case.run(module, 1)? {
            return Err(format!("{}: the last block writes something else than the first", case.kernel));
        }
    }
    Ok(())
}
