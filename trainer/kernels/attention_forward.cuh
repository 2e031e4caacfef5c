// Causal softmax attention, scores never held whole (Dao 2023, algorithm 1).
#pragma once
#include "attention.cuh"

// A block has 192 rows of query heads that share a key head, and streams that head's keys and values once for all of them. A warp has
// 32 rows, so that a fragment of keys or values feeds four products.
template <int GROUP> struct ForwardShape : QueryRows<GROUP, 192> {
  static constexpr int WARPS = 6, THREADS = 32 * WARPS;
  static constexpr int BUFFERS = 4 * TILE;  // two of keys and two of values; the queries pass through them first
  static_assert(192 * HEAD_DIM <= BUFFERS, "the queries fit");
  static constexpr int SHARED_BYTES = BUFFERS * 2 + ForwardShape::ROWS * 8;
};

// The largest score may grow by this much (powers of two) before sums are rescaled: f32 has room, and bf16 weights keep their
// relative precision. After a few tiles nothing is rescaled any more.
constexpr float RESCALE_ABOVE = 8.0f;

// The running softmax of a warp's 32 rows, of which a thread has four: lane / 4, 8, 16 and 24 further.
struct RunningSoftmax {
  float out[2][8][4] = {};
  float base[4] = {-1e30f, -1e30f, -1e30f, -1e30f};  // subtracted from scores, in powers of two; finite, also where no key was seen
  float sum[4] = {};                                 // of this thread's columns

  // Makes the largest scores of the rows, of which each of four threads has found one, the new base.
  __device__ __forceinline__ void rescale(const float (&top)[4], float scale_log2) {
#pragma unroll
    for (int r = 0; r < 4; r++) {
      float row_top = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
      row_top = fmaxf(row_top, __shfl_xor_sync(0xffffffffu, row_top, 2));
      const float next = fmaxf(base[r], row_top * scale_log2), shrink = exp2_approx(base[r] - next);
      base[r] = next;
      sum[r] *= shrink;
#pragma unroll
      for (int n = 0; n < 8; n++) {
        out[r / 2][n][r % 2 * 2] *= shrink;
        out[r / 2][n][r % 2 * 2 + 1] *= shrink;
      }
    }
  }

  // Replaces the scores of 32 keys by their weights.
  __device__ __forceinline__ void weigh(float (&score)[2][4][4], float scale_log2) {
    float top[4];
    bool grown = false;
#pragma unroll
    for (int r = 0; r < 4; r++) {
      const int m = r / 2, i = r % 2 * 2;
      top[r] = fmaxf(score[m][0][i], score[m][0][i + 1]);
#pragma unroll
      for (int n = 1; n < 4; n++) top[r] = fmaxf(top[r], fmaxf(score[m][n][i], score[m][n][i + 1]));
      grown |= top[r] * scale_log2 - RESCALE_ABOVE > base[r];
    }
    if (__any_sync(0xffffffffu, grown)) rescale(top, scale_log2);
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int n = 0; n < 4; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          score[m][n][i] = exp2_approx(score[m][n][i] * scale_log2 - base[2 * m + i / 2]);
          sum[2 * m + i / 2] += score[m][n][i];
        }
  }
};

template <int GROUP>
__device__ __forceinline__ void attention_forward(Global<const bf16> query, Global<const bf16> key, Global<const bf16> value,
                                                  Global<const uint32_t> starts, Global<bf16> output, Global<float> log_sum, int context,
                                                  int heads, int kv_heads, float scale) {
  using Shape = ForwardShape<GROUP>;
  using Copy = TileCopy<Shape::THREADS, 128>;  // no remainder, which would take more registers than there are
  constexpr int QUERIES = Shape::QUERIES, THREADS = Shape::THREADS, PART = 32;
  SharedArena arena;
  const Shared<bf16> buffers = arena.take<bf16>(Shape::BUFFERS);  // keys, values, keys, values
  const Shared<int> seen = arena.take<int>(2 * Shape::ROWS);
  const int lane = threadIdx.x % 32, strip = threadIdx.x / 32 * 32;
  const int sequence = blockIdx.y, kv_head = blockIdx.x, first_head = kv_head * GROUP;
  const int first_query = (gridDim.z - 1 - blockIdx.z) * QUERIES;  // the longest first
  const long long tokens = (long long)sequence * context, kv_rows = (long long)(sequence * kv_heads + kv_head) * context;

  Shape::template start_copy<THREADS>(buffers, query + ((long long)(sequence * heads + first_head) * context + first_query) * HEAD_DIM,
                                      context - first_query, HEAD_DIM, context * HEAD_DIM);
  cp_async_commit();
  Shape::template note_seen<THREADS>(seen, starts ? starts + tokens : starts, first_query, context);
  cp_async_wait<0>();
  __syncthreads();
  uint32_t rows[2][4][4];
#pragma unroll
  for (int m = 0; m < 2; m++) load_rows(rows[m], buffers, strip + 16 * m, lane);
  __syncthreads();  // the buffers are free for keys and values

  const Shared<int> strip_seen = seen + 2 * strip;
  const int first_tile = seen[0] / TILE_ROWS, last_tile = (min(first_query + QUERIES, context) - 1) / TILE_ROWS;
  const Shared<bf16> copy_to = buffers + Copy::to();
  const Global<const bf16> keys = key + kv_rows * HEAD_DIM, values = value + kv_rows * HEAD_DIM;
  int next = first_tile * TILE + int(Copy::from(HEAD_DIM));
  const auto copy_next = [&](int offset, int rows) {
    Copy::template start<TILE_ROWS>(copy_to + offset, keys + next, rows, HEAD_DIM);
    Copy::template start<TILE_ROWS>(copy_to + (offset + TILE), values + next, rows, HEAD_DIM);
    cp_async_commit();
    next += TILE;
  };
  copy_next(0, context - first_tile * TILE_ROWS);

  const FragmentRows key_rows = transposed_rows(buffers, lane), value_rows = plain_rows(buffers + TILE, lane);
  const float scale_log2 = scale * LOG2_E;
  RunningSoftmax softmax;
  for (int tile = first_tile; tile <= last_tile; tile++) {
    const int buffer = (tile - first_tile) % 2 * 2 * TILE;
    cp_async_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the other buffer any more
    if (tile < last_tile) copy_next(2 * TILE - buffer, context - (tile + 1) * TILE_ROWS);
    const FragmentRows these_keys = key_rows + buffer, these_values = value_rows + buffer;
#pragma unroll
    for (int part = 0; part < TILE_ROWS; part += PART) {
      const int first_key = tile * TILE_ROWS + part;
      const Sees sees = ::sees<32, PART>(strip_seen, first_key);
      if (sees == Sees::None) continue;
      float score[2][PART / 8][4] = {};
      multiply_transposed(score, rows, these_keys, part);
      if (sees == Sees::Some) hide_unseen(score, strip_seen, first_key, lane);
      softmax.weigh(score, scale_log2);
      multiply_add(softmax.out, score, these_values, part);
    }
  }

#pragma unroll
  for (int r = 0; r < 4; r++) {
    float total = softmax.sum[r];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    const int row = strip + 8 * r + lane / 4, position = first_query + Shape::position(row);
    if (!Shape::busy(row) || position >= context) continue;
    const long long place = (tokens + position) * heads + first_head + Shape::member(row);
    store_row(output + place * HEAD_DIM, softmax.out[r / 2], r % 2, 1.0f / total, lane);
    if (lane % 4 == 0) log_sum[place] = softmax.base[r] / LOG2_E + logf(total);
  }
}

// output: `sequences x context x heads x 64`; log_sum: natural logarithm of each softmax's denominator, `sequences x context x heads`;
// scale: positive, of the scores. Grid: kv_heads x sequences x ceil(context / QUERIES).
#define ATTENTION_FORWARD(GROUP)                                                                                                            \
  KERNEL void __launch_bounds__(ForwardShape<GROUP>::THREADS, 2)                                                                            \
      attention_forward_##GROUP(Global<const bf16> query, Global<const bf16> key, Global<const bf16> value, Global<const uint32_t> starts,  \
                                Global<bf16> output, Global<float> log_sum, int context, int heads, int kv_heads, float scale) {           \
    attention_forward<GROUP>(query, key, value, starts, output, log_sum, context, heads, kv_heads, scale);                                  \
  }
ATTENTION_FORWARD(1)
ATTENTION_FORWARD(2)
ATTENTION_FORWARD(3)
ATTENTION_FORWARD(4)
#undef ATTENTION_FORWARD
