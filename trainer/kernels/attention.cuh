// What the attention kernels share: tiles of rows of 64 in shared memory, and products of their fragments.
//
// Layouts: queries `sequences x heads x context x 64`, keys and values `sequences x kv_heads x context x 64`, outputs
// `sequences x context x heads x 64`. `starts` (`sequences x context`) has the first position of each position's document; a null
// pointer means that there is one document. A query sees the keys from its document's first position to its own.
//
// Grids: key heads x sequences x pieces of the context. Blocks begin in this order, x first, so that the pieces with the most work of all
// heads come first and those that begin last are short.
#pragma once
#include "device.cuh"

constexpr int HEAD_DIM = 64;
constexpr int TILE_ROWS = 64;  // of the tiles that a block streams through shared memory
constexpr int TILE = TILE_ROWS * HEAD_DIM;
constexpr float LOG2_E = 1.44269504f;

// Element of 16-byte chunk `chunk` of a row of a tile. Eight rows' same chunk lie in eight different groups of banks.
__device__ __forceinline__ int swizzled(int row, int chunk) { return row * HEAD_DIM + ((chunk ^ (row & 7)) * 8); }

// Copying rows to tiles by `COPYING` of a block's threads, each a 16-byte chunk of every `STEP`-th row.
template <int THREADS, int COPYING = THREADS> struct TileCopy {
  static constexpr int STEP = COPYING / 8;
  static_assert(STEP % 8 == 0, "a thread's rows have one swizzle");
  // Element of the thread's chunk in the first rows of a tile, and of a matrix whose rows are `stride` elements apart.
  static __device__ __forceinline__ int to() { return swizzled(threadIdx.x / 8, threadIdx.x % 8); }
  static __device__ __forceinline__ long long from(int stride) { return (long long)(threadIdx.x / 8) * stride + threadIdx.x % 8 * 8; }

  // Starts copying `ROWS` rows, of which `rows` exist; the others become zeros. `tile` and `matrix` are at the thread's chunk.
  template <int ROWS> static __device__ __forceinline__ void start(Shared<bf16> tile, Global<const bf16> matrix, int rows, int stride) {
    const int row = threadIdx.x / 8;
    if (COPYING < THREADS && row >= STEP) return;
#pragma unroll
    for (int i = 0; i < ROWS; i += STEP)
      if (i + STEP <= ROWS || row < ROWS - i) cp_async_16(tile + i * HEAD_DIM, matrix + (long long)i * stride, row + i < rows);
  }
};

// Where a lane finds its rows of a tile for ldmatrix.
struct FragmentRows {
  Shared<bf16> first;  // columns 0 to 15
  // Columns 16 s to 16 s + 15: chunk + 2 s, swizzled, because the lane's rows are equal modulo 8 and arrays begin at multiples of 128 bytes.
  __device__ __forceinline__ Shared<bf16> columns(int s) const {
    Shared<bf16> place = first;
    place.at ^= s * 32;
    return place;
  }
  __device__ __forceinline__ FragmentRows operator+(int elements) const { return {first + elements}; }
};
// For fragments B of a product with the tile's transpose.
__device__ __forceinline__ FragmentRows transposed_rows(Shared<bf16> tile, int lane) {
  return {tile + swizzled(lane % 8 + lane / 16 * 8, lane / 8 % 2)};
}
// For fragments B of a product with the tile itself, and for fragments A.
__device__ __forceinline__ FragmentRows plain_rows(Shared<bf16> tile, int lane) { return {tile + swizzled(lane % 16, lane / 16)}; }

// Fragments A of 16 rows.
__device__ __forceinline__ void load_rows(uint32_t (&a)[4][4], Shared<bf16> tile, int first_row, int lane) {
  const FragmentRows rows = plain_rows(tile + first_row * HEAD_DIM, lane);
#pragma unroll
  for (int s = 0; s < 4; s++) ldmatrix_x4(a[s], rows.columns(s));
}

// product += A x T^T for `16 STRIPS` rows A and `8 COLUMNS` rows T of a tile, from row `first`.
template <int STRIPS, int COLUMNS>
__device__ __forceinline__ void multiply_transposed(float (&product)[STRIPS][COLUMNS][4], const uint32_t (&a)[STRIPS][4][4], FragmentRows tile, int first) {
#pragma unroll
  for (int s = 0; s < 4; s++)
#pragma unroll
    for (int n = 0; n < COLUMNS; n += 2) {
      uint32_t b[4];
      ldmatrix_x4(b, tile.columns(s) + (first + n * 8) * HEAD_DIM);
#pragma unroll
      for (int m = 0; m < STRIPS; m++) {
        mma_m16n8k16(product[m][n], a[m][s], b[0], b[1]);
        mma_m16n8k16(product[m][n + 1], a[m][s], b[2], b[3]);
      }
    }
}

// sum += X x T for `16 STRIPS x 8 COLUMNS` numbers X, as accumulators hold them, and as many rows T of a tile from row `first`. An accumulator's
// places are those of half a fragment A, so rounding is all it takes.
template <int STRIPS, int COLUMNS>
__device__ __forceinline__ void multiply_add(float (&sum)[STRIPS][8][4], const float (&x)[STRIPS][COLUMNS][4], FragmentRows tile, int first) {
#pragma unroll
  for (int s = 0; s < COLUMNS; s += 2) {
    uint32_t a[STRIPS][4];
#pragma unroll
    for (int m = 0; m < STRIPS; m++)
#pragma unroll
      for (int i = 0; i < 4; i++) a[m][i] = pack_bf16(x[m][s + i / 2][i % 2 * 2], x[m][s + i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int n = 0; n < 4; n++) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, tile.columns(n) + (first + s * 8) * HEAD_DIM);
#pragma unroll
      for (int m = 0; m < STRIPS; m++) {
        mma_m16n8k16(sum[m][2 * n], a[m], b[0], b[1]);
        mma_m16n8k16(sum[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// The rows of a block of queries: those of `GROUP` heads side by side, position by position, so that heads of any number fill its
// strips. Rows beyond the last whole position are idle: zeros that nobody stores.
template <int GROUP, int ALL_ROWS> struct QueryRows {
  static constexpr int ROWS = ALL_ROWS, QUERIES = ROWS / GROUP;
  static __device__ __forceinline__ int position(int row) { return row / GROUP; }
  static __device__ __forceinline__ int member(int row) { return row % GROUP; }
  static __device__ __forceinline__ bool busy(int row) { return ROWS % GROUP == 0 || row < QUERIES * GROUP; }

  // Starts copying the rows to a tile; `positions` exist. `matrix` is at the group's first head of the block's first position.
  template <int THREADS>
  static __device__ __forceinline__ void start_copy(Shared<bf16> tile, Global<const bf16> matrix, int positions, int position_stride, int head_stride) {
    constexpr int STEP = THREADS / 8;
    static_assert(ROWS % STEP == 0, "whole steps");
#pragma unroll
    for (int i = 0; i < ROWS; i += STEP) {
      const int row = threadIdx.x / 8 + i, chunk = threadIdx.x % 8;
      cp_async_16(tile + swizzled(row, chunk), matrix + ((long long)position(row) * position_stride + (long long)member(row) * head_stride + chunk * 8),
                  busy(row) && position(row) < positions);
    }
  }

  // Notes the first and the last key that each row sees. `starts` is at the sequence, or null.
  template <int THREADS>
  static __device__ __forceinline__ void note_seen(Shared<int> seen, Global<const uint32_t> starts, int first_query, int context) {
    for (int row = threadIdx.x; row < ROWS; row += THREADS) {
      const int query = first_query + (busy(row) ? position(row) : QUERIES - 1);
      store_vector(seen + 2 * row, make_int2(starts ? int(starts[min(query, context - 1)]) : 0, query));
    }
  }
};

// Whether the rows of a strip see none, all or some of the keys from `first_key`. Documents begin in order: the strip's first row sees
// farthest back, its last one farthest ahead.
enum class Sees { None, All, Some };
template <int STRIP_ROWS, int KEYS> __device__ __forceinline__ Sees sees(Shared<int> seen, int first_key) {
  const int2 first = load_vector<int2>(seen), last = load_vector<int2>(seen + 2 * (STRIP_ROWS - 1));
  if (first_key > last.y || first_key + KEYS <= first.x) return Sees::None;
  return first_key + KEYS - 1 > first.y || first_key < last.x ? Sees::Some : Sees::All;
}

// Hides the scores of keys that a row does not see. Columns are keys from `first_key`.
template <int STRIPS, int COLUMNS>
__device__ __forceinline__ void hide_unseen(float (&score)[STRIPS][COLUMNS][4], Shared<int> seen, int first_key, int lane) {
#pragma unroll
  for (int m = 0; m < STRIPS; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int2 keys = load_vector<int2>(seen + 2 * (16 * m + 8 * r + lane / 4));
#pragma unroll
      for (int n = 0; n < COLUMNS; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int key = first_key + n * 8 + lane % 4 * 2 + i;
          if (key < keys.x || key > keys.y) score[m][n][2 * r + i] = -INFINITY;
        }
    }
}

// Writes the two accumulators of a row that this thread has of each eight columns, times a factor.
__device__ __forceinline__ void store_row(Global<bf16> row, const float (&x)[8][4], int r, float factor, int lane) {
#pragma unroll
  for (int n = 0; n < 8; n++) store_vector(row + (n * 8 + lane % 4 * 2), pack_bf16(x[n][2 * r] * factor, x[n][2 * r + 1] * factor));
}
