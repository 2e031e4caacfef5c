//! The embedding's gradient: for each id the sum of its tokens' rows.

use candle_core::{Result, Tensor};

/// What `index_select` answers with a row of zeros.
const NONE: u32 = u32::MAX;

/// The sum of the `rows` (`tokens x columns`) of each id, `table_rows x columns`.
///
/// Candle's `index_add` takes one thread per column on CUDA, tens of milliseconds for a batch. Here the tokens of an id
/// are added up in pairs, then the sums in pairs, as often as it takes: the most frequent id of a batch of 32,768
/// tokens needs about a dozen rounds, each half as large. Every addition has its fixed place, so that the result is the
/// same bit for bit.
pub(super) fn row_sums(ids: &[u32], mut rows: Tensor, table_rows: usize) -> Result<Tensor> {
    let device = rows.device().clone();
    let mut entries: Vec<(u32, u32)> = ids.iter().copied().zip(0..).collect();
    entries.sort_unstable();
    while entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        let pairs = || entries.chunk_by(|a, b| a.0 == b.0).flat_map(|same| same.chunks(2));
        let select = |at: usize| {
            let indices: Vec<u32> = pairs().map(|pair| pair.get(at).map_or(NONE, |entry| entry.1)).collect();
            let count = indices.len();
            rows.index_select(&Tensor::from_vec(indices, count, &device)?, 0)
        };
        let sums = (select(0)? + select(1)?)?;
        entries = pairs().zip(0..).map(|(pair, row)| (pair[0].0, row)).collect();
        rows = sums;
    }
    let mut place = vec![NONE; table_rows];
    for (id, row) in entries {
        place[id as usize] = row;
    }
    rows.index_select(&Tensor::from_vec(place, table_rows, &device)?, 0)
}
