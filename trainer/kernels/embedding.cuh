// Rows of the embedding table, and their gradient. A warp has a row.
//
// The gradient goes over the batch's tokens sorted by id (stably, by the host). They are cut into segments of at most 64 tokens of one id:
// first each segment is summed, then each id's segments, both in order. So an id with thousands of tokens keeps no warp busy for long,
// and no addition is atomic.
#pragma once
#include "vectors.cuh"

constexpr int ROW_STEP = 32 * 4;  // columns of one access of a warp

KERNEL void __launch_bounds__(256) embedding(Global<const bf16> table, Global<const uint32_t> ids, Global<bf16> output, int32_t tokens,
                                             int32_t columns) {
  const int token = blockIdx.x * 8 + threadIdx.x / 32;
  if (token >= tokens) return;
  const Global<const bf16> from = table + (long long)ids[token] * columns;
  const Global<bf16> to = output + (long long)token * columns;
  for (int column = threadIdx.x % 32 * 8; column < columns; column += 2 * ROW_STEP)
    store_vector(to + column, load_vector<uint4>(from + column));
}

// partial[segment] = sum of the rows of `d_output` of the segment's tokens.
KERNEL void __launch_bounds__(256) embedding_segment_sums(Global<const uint32_t> order, Global<const uint32_t> segment_starts,
                                                          Global<const bf16> d_output, Global<float> partial, int32_t segments,
                                                          int32_t columns) {
  const int segment = blockIdx.x * 8 + threadIdx.x / 32;
  if (segment >= segments) return;
  const int first = segment_starts[segment], end = segment_starts[segment + 1];
  for (int column = threadIdx.x % 32 * 4; column < columns; column += ROW_STEP) {
    float sum[4] = {};
#pragma unroll 4
    for (int i = first; i < end; i++) {
      float row[4];
      load(row, d_output + (long long)order[i] * columns + column);
#pragma unroll
      for (int j = 0; j < 4; j++) sum[j] += row[j];
    }
    store(partial + (long long)segment * columns + column, sum);
  }
}

// gradient[ids[i]] += sum of the rows of `partial` of the id's segments.
KERNEL void __launch_bounds__(256) embedding_backward(Global<const float> partial, Global<const uint32_t> id_starts,
                                                      Global<const uint32_t> ids, Global<float> gradient, int32_t distinct,
                                                      int32_t columns) {
  const int index = blockIdx.x * 8 + threadIdx.x / 32;
  if (index >= distinct) return;
  const int first = id_starts[index], end = id_starts[index + 1];
  const Global<float> to = gradient + (long long)ids[index] * columns;
  for (int column = threadIdx.x % 32 * 4; column < columns; column += ROW_STEP) {
    float sum[4] = {}, old[4];
#pragma unroll 4
    for (int i = first; i < end; i++) {
      float row[4];
      load(row, partial + (long long)i * columns + column);
#pragma unroll
      for (int j = 0; j < 4; j++) sum[j] += row[j];
    }
    load(old, Global<const float>(to + column));
#pragma unroll
    for (int j = 0; j < 4; j++) sum[j] += old[j];
    store(to + column, sum);
  }
}
