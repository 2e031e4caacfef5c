// Gradients of causal softmax attention (Dao 2023, algorithm 2), weights computed again from the kept log-sum-exp.
//
// Two kernels and no atomics, so that every sum has one order: `attention_backward_query` goes over the keys of some queries,
// `attention_backward_key` over the queries of some keys. Both compute the scores and the gradients of the weights: seven products
// instead of five. One kernel with five would have to sum the queries' gradients over blocks in memory, which takes longer than
// two products (README.md, "Attention").
#pragma once
#include "attention.cuh"

// What a block of `attention_backward_key` needs to know of a query besides its rows; 16 bytes.
constexpr int STATISTICS = 4;  // log-sum-exp in powers of two, dot(d_output, output), first position that it sees (bits of an int), 0

// A block has 128 rows of query heads that share a key head, and a warp 16 of them: two blocks of a multiprocessor are 16 warps.
template <int GROUP> struct BackwardQueryShape : QueryRows<GROUP, 128> {
  static constexpr int WARPS = 8, THREADS = 32 * WARPS;
  static constexpr int BUFFERS = 4 * TILE;  // two of keys and two of values; queries and gradients of outputs pass through them first
  static_assert(2 * 128 * HEAD_DIM <= BUFFERS, "the queries fit");
  static constexpr int SHARED_BYTES = BUFFERS * 2 + BackwardQueryShape::ROWS * 8;
};

// dot(d_output, output) of row lane % 16 of a warp's 16; `d_output` is in a tile, `output` in global memory.
__device__ __forceinline__ float dot_of_row(Shared<bf16> d_output, Global<const bf16> output, bool in, int lane) {
  float dot = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int chunk = 2 * i + lane / 16;
    const uint4 a = load_vector<uint4>(d_output + swizzled(lane % 16, chunk));
    const uint4 b = in ? load_vector<uint4>(output + chunk * 8) : uint4{};
    const uint32_t as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      dot += to_float(bf16{uint16_t(as[j])}) * to_float(bf16{uint16_t(bs[j])});
      dot += to_float(bf16{uint16_t(as[j] >> 16)}) * to_float(bf16{uint16_t(bs[j] >> 16)});
    }
  }
  return dot + __shfl_xor_sync(0xffffffffu, dot, 16);
}

template <int GROUP>
__device__ __forceinline__ void attention_backward_query(Global<const bf16> query, Global<const bf16> key, Global<const bf16> value,
                                                         Global<const uint32_t> starts, Global<const bf16> output, Global<const bf16> d_output,
                                                         Global<const float> log_sum, Global<float> statistics, Global<bf16> d_query,
                                                         int context, int heads, int kv_heads, float scale) {
  using Shape = BackwardQueryShape<GROUP>;
  constexpr int QUERIES = Shape::QUERIES, THREADS = Shape::THREADS, PART = 16;
  using Copy = TileCopy<THREADS>;
  SharedArena arena;
  const Shared<bf16> buffers = arena.take<bf16>(Shape::BUFFERS);  // keys, values, keys, values
  const Shared<int> seen = arena.take<int>(2 * Shape::ROWS);
  const int lane = threadIdx.x % 32, strip = threadIdx.x / 32 * 16;
  const int sequence = blockIdx.y, kv_head = blockIdx.x, first_head = kv_head * GROUP, width = heads * HEAD_DIM;
  const int first_query = (gridDim.z - 1 - blockIdx.z) * QUERIES;  // the longest first
  const long long tokens = (long long)sequence * context, kv_rows = (long long)(sequence * kv_heads + kv_head) * context;
  const long long query_rows = (long long)(sequence * heads + first_head) * context + first_query;

  const Shared<bf16> query_tile = buffers, slope_tile = buffers + Shape::ROWS * HEAD_DIM;
  Shape::template start_copy<THREADS>(query_tile, query + query_rows * HEAD_DIM, context - first_query, HEAD_DIM, context * HEAD_DIM);
  Shape::template start_copy<THREADS>(slope_tile, d_output + ((tokens + first_query) * heads + first_head) * HEAD_DIM, context - first_query, width, HEAD_DIM);
  cp_async_commit();
  Shape::template note_seen<THREADS>(seen, starts ? starts + tokens : starts, first_query, context);
  cp_async_wait<0>();
  __syncthreads();
  uint32_t rows[1][4][4], slopes[1][4][4];
  load_rows(rows[0], query_tile, strip, lane);
  load_rows(slopes[0], slope_tile, strip, lane);
  float log_base[2], dot[2];  // of this thread's rows, lane / 4 and that + 8
  {
    const int row = strip + lane % 16, position = Shape::position(row);
    const bool in = Shape::busy(row) && first_query + position < context;
    const long long place = (tokens + min(first_query + position, context - 1)) * heads + first_head + Shape::member(row);
    const float row_dot = dot_of_row(slope_tile + strip * HEAD_DIM, output + place * HEAD_DIM, in, lane);
    const float row_log_base = in ? log_sum[place] * LOG2_E : 0.0f;
    if (in && lane < 16)
      store_vector(statistics + (query_rows + (long long)Shape::member(row) * context + position) * STATISTICS,
                   make_float4(row_log_base, row_dot, __int_as_float(seen[2 * row]), 0.0f));
#pragma unroll
    for (int r = 0; r < 2; r++) {
      log_base[r] = __shfl_sync(0xffffffffu, row_log_base, lane / 4 + 8 * r);
      dot[r] = __shfl_sync(0xffffffffu, row_dot, lane / 4 + 8 * r);
    }
  }
  __syncthreads();  // the buffers are free for keys and values

  const Shared<int> strip_seen = seen + 2 * strip;
  const int first_tile = seen[0] / TILE_ROWS, last_tile = (min(first_query + QUERIES, context) - 1) / TILE_ROWS;
  const Shared<bf16> copy_to = buffers + Copy::to();
  long long next = (kv_rows + first_tile * TILE_ROWS) * HEAD_DIM + Copy::from(HEAD_DIM);
  const auto copy_next = [&](int offset, int rows) {
    Copy::template start<TILE_ROWS>(copy_to + offset, key + next, rows, HEAD_DIM);
    Copy::template start<TILE_ROWS>(copy_to + (offset + TILE), value + next, rows, HEAD_DIM);
    cp_async_commit();
    next += TILE;
  };
  copy_next(0, context - first_tile * TILE_ROWS);

  const FragmentRows transposed = transposed_rows(buffers, lane), plain = plain_rows(buffers, lane);
  const float scale_log2 = scale * LOG2_E;
  float sum[1][8][4] = {};
  for (int tile = first_tile; tile <= last_tile; tile++) {
    const int buffer = (tile - first_tile) % 2 * 2 * TILE;
    cp_async_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the other buffer any more
    if (tile < last_tile) copy_next(2 * TILE - buffer, context - (tile + 1) * TILE_ROWS);
    const FragmentRows by_row = transposed + buffer, by_column = plain + buffer;
#pragma unroll
    for (int half = 0; half < TILE_ROWS; half += TILE_ROWS / 2) {
      const Sees sees = ::sees<16, TILE_ROWS / 2>(strip_seen, tile * TILE_ROWS + half);
      if (sees == Sees::None) continue;
#pragma unroll
      for (int part = half; part < half + TILE_ROWS / 2; part += PART) {
        float weight[1][PART / 8][4] = {}, slope[1][PART / 8][4] = {};
        multiply_transposed(weight, rows, by_row, part);
        multiply_transposed(slope, slopes, by_row, TILE_ROWS + part);
        if (sees == Sees::Some) hide_unseen(weight, strip_seen, tile * TILE_ROWS + part, lane);
#pragma unroll
        for (int n = 0; n < PART / 8; n++)
#pragma unroll
          for (int i = 0; i < 4; i++)
            slope[0][n][i] = exp2_approx(weight[0][n][i] * scale_log2 - log_base[i / 2]) * (slope[0][n][i] - dot[i / 2]);
        multiply_add(sum, slope, by_column, part);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = strip + 8 * r + lane / 4, position = Shape::position(row);
    if (!Shape::busy(row) || first_query + position >= context) continue;
    store_row(d_query + (query_rows + (long long)Shape::member(row) * context + position) * HEAD_DIM, sum[0], r, scale, lane);
  }
}

// A block has 96 keys and values of a head and streams the queries that see some of them, head by head of the group; a warp has
// 16 keys. So two blocks fit on a multiprocessor with 65,536 registers and 100 KB of shared memory.
struct BackwardKeyShape {
  static constexpr int KEYS = 96, WARPS = KEYS / 16, THREADS = 32 * WARPS;
  static constexpr int BUFFERS = 4 * TILE;  // two of queries and two of gradients of outputs; keys and values pass through them first
  static_assert(2 * KEYS * HEAD_DIM <= BUFFERS, "the keys fit");
  static constexpr int SHARED_BYTES = BUFFERS * 2 + 2 * TILE_ROWS * STATISTICS * 4;
};

// The first tile of queries of which none sees a key up to `last_key`. Documents begin in order.
__device__ __forceinline__ int end_of_queries(Global<const uint32_t> starts, int first_tile, int tiles, int last_key) {
  if (!starts) return tiles;
  int sees = first_tile, end = tiles;  // the keys' own tile sees them
  while (end - sees > 1) {
    const int middle = (sees + end) / 2;
    if (int(starts[middle * TILE_ROWS]) <= last_key) sees = middle; else end = middle;
  }
  return end;
}

// Zeroes the weights of unseen keys. Rows are keys from `first_key`, columns queries from `first_query`.
template <int COLUMNS>
__device__ __forceinline__ void hide_unseen_keys(float (&score)[1][COLUMNS][4], int first_key, int first_query, Shared<float> statistics, int lane) {
#pragma unroll
  for (int n = 0; n < COLUMNS; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int column = n * 8 + lane % 4 * 2 + i % 2, key = first_key + lane / 4 + i / 2 * 8;
      const int first = __float_as_int(statistics[column * STATISTICS + 2]);
      if (key > first_query + column || key < first) score[0][n][i] = -INFINITY;
    }
}

// d_key, d_value: like key and value. Grid: kv_heads x sequences x ceil(context / 96). After `attention_backward_query`.
KERNEL void __launch_bounds__(BackwardKeyShape::THREADS, 2)
    attention_backward_key(Global<const bf16> query, Global<const bf16> key, Global<const bf16> value, Global<const uint32_t> starts,
                           Global<const bf16> d_output, Global<const float> statistics, Global<bf16> d_key, Global<bf16> d_value,
                           int context, int heads, int kv_heads, float scale) {
  using Shape = BackwardKeyShape;
  constexpr int KEYS = Shape::KEYS, THREADS = Shape::THREADS, PART = 32;
  using Copy = TileCopy<THREADS>;
  SharedArena arena;
  const Shared<bf16> buffers = arena.take<bf16>(Shape::BUFFERS);  // queries, gradients of outputs, queries, gradients of outputs
  const Shared<float> tile_statistics = arena.take<float>(2 * TILE_ROWS * STATISTICS);
  const int lane = threadIdx.x % 32, strip = threadIdx.x / 32 * 16, group = heads / kv_heads, width = heads * HEAD_DIM;
  const int sequence = blockIdx.y, kv_head = blockIdx.x, first_key = blockIdx.z * KEYS;  // the longest first
  const long long tokens = (long long)sequence * context, kv_rows = (long long)(sequence * kv_heads + kv_head) * context;

  const Shared<bf16> copy_to = buffers + Copy::to();
  const long long copy_keys = (kv_rows + first_key) * HEAD_DIM + Copy::from(HEAD_DIM);
  Copy::start<KEYS>(copy_to, key + copy_keys, context - first_key, HEAD_DIM);
  Copy::start<KEYS>(copy_to + KEYS * HEAD_DIM, value + copy_keys, context - first_key, HEAD_DIM);
  cp_async_commit();
  const int first_tile = first_key / TILE_ROWS;
  const int end_tile = end_of_queries(starts ? starts + tokens : starts, first_tile, (context + TILE_ROWS - 1) / TILE_ROWS, first_key + KEYS - 1);
  cp_async_wait<0>();
  __syncthreads();
  uint32_t keys[1][4][4], values[1][4][4];
  load_rows(keys[0], buffers, strip, lane);
  load_rows(values[0], buffers + KEYS * HEAD_DIM, strip, lane);
  __syncthreads();  // the buffers are free for queries

  int next_head = kv_head * group, next_tile = first_tile;
  const auto copy_next = [&](int buffer) {
    const int first = next_tile * TILE_ROWS, rows = context - first;
    const long long query_rows = (long long)(sequence * heads + next_head) * context + first;
    const Shared<bf16> to = copy_to + buffer * 2 * TILE;
    Copy::start<TILE_ROWS>(to, query + (query_rows * HEAD_DIM + Copy::from(HEAD_DIM)), rows, HEAD_DIM);
    Copy::start<TILE_ROWS>(to + TILE, d_output + ((tokens + first) * width + next_head * HEAD_DIM + Copy::from(width)), rows, width);
    const int row = threadIdx.x - (THREADS - TILE_ROWS);  // threads that copy a row less
    if (row >= 0) cp_async_16(tile_statistics + (buffer * TILE_ROWS + row) * STATISTICS, statistics + (query_rows + row) * STATISTICS, row < rows);
    cp_async_commit();
  };
  copy_next(0);

  const FragmentRows transposed = transposed_rows(buffers, lane), plain = plain_rows(buffers, lane);
  const float scale_log2 = scale * LOG2_E;
  const int own_key = first_key + strip;  // the warp's first
  float key_sum[1][8][4] = {}, value_sum[1][8][4] = {};
  for (int buffer = 0;; buffer ^= 1) {
    const int tile = next_tile;
    if (++next_tile == end_tile) { next_tile = first_tile; next_head++; }
    const bool last = next_head == (kv_head + 1) * group;
    cp_async_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the other buffer any more
    if (!last) copy_next(buffer ^ 1);
    const FragmentRows by_row = transposed + buffer * 2 * TILE, by_column = plain + buffer * 2 * TILE;
    const Shared<float> rows = tile_statistics + buffer * TILE_ROWS * STATISTICS;
    const int last_row = min(TILE_ROWS, context - tile * TILE_ROWS) - 1;
    const bool documents = __float_as_int(rows[last_row * STATISTICS + 2]) > own_key;
#pragma unroll
    for (int part = 0; part < TILE_ROWS; part += PART) {
      const int first_query = tile * TILE_ROWS + part;
      if (first_query + PART <= own_key) continue;
      float weight[1][PART / 8][4] = {}, slope[1][PART / 8][4] = {};
      multiply_transposed(weight, keys, by_row, part);
      multiply_transposed(slope, values, by_row, TILE_ROWS + part);
      if (first_query < own_key + 15 || documents) hide_unseen_keys(weight, own_key, first_query, rows + part * STATISTICS, lane);
#pragma unroll
      for (int n = 0; n < PART / 8; n++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
          const float2 of_query = load_vector<float2>(rows + (part + n * 8 + lane % 4 * 2 + c) * STATISTICS);  // log-sum-exp, dot
#pragma unroll
          for (int i = c; i < 4; i += 2) {
            weight[0][n][i] = exp2_approx(weight[0][n][i] * scale_log2 - of_query.x);
            slope[0][n][i] = weight[0][n][i] * (slope[0][n][i] - of_query.y);
          }
        }
      multiply_add(value_sum, weight, by_column, TILE_ROWS + part);
      multiply_add(key_sum, slope, by_column, part);
    }
    if (last) break;
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = own_key + 8 * r + lane / 4;
    if (row >= context) continue;
    store_row(d_key + (kv_rows + row) * HEAD_DIM, key_sum[0], r, scale, lane);
    store_row(d_value + (kv_rows + row) * HEAD_DIM, value_sum[0], r, 1.0f, lane);
  }
}

// d_query: like query; output, d_output: `sequences x context x heads x 64`; log_sum: `sequences x context x heads`; statistics, written for
// `attention_backward_key`: `sequences x heads x context x 4`. Grid: kv_heads x sequences x ceil(context / QUERIES).
#define ATTENTION_BACKWARD_QUERY(GROUP)                                                                                                 \
  KERNEL void __launch_bounds__(BackwardQueryShape<GROUP>::THREADS, 2)                                                                  \
      attention_backward_query_##GROUP(Global<const bf16> query, Global<const bf16> key, Global<const bf16> value,                      \
                                       Global<const uint32_t> starts, Global<const bf16> output, Global<const bf16> d_output,           \
                                       Global<const float> log_sum, Global<float> statistics, Global<bf16> d_query, int context,        \
                                       int heads, int kv_heads, float scale) {                                                          \
    attention_backward_query<GROUP>(query, key, value, starts, output, d_output, log_sum, statistics, d_query, context, heads, kv_heads, \
                                    scale);                                                                                             \
  }
ATTENTION_BACKWARD_QUERY(1)
ATTENTION_BACKWARD_QUERY(2)
ATTENTION_BACKWARD_QUERY(3)
ATTENTION_BACKWARD_QUERY(4)
#undef ATTENTION_BACKWARD_QUERY
