// What the attention kernels share: tiles of rows of 64 in shared memory, and products of their fragments.
//
// Layouts: queries `sequences x heads x context x 64`, keys and values `sequences x kv_heads x context x 64`, outputs
// `sequences x context x heads x 64`. `starts` (`sequences x context`) has the first position of each position's document; a null
// pointer means that there is one document. A query sees the keys from its document's first position to its own.
#pragma once
#include "device.cuh"

constexpr int HEAD_DIM = 64;
constexpr int TILE_ROWS = 64;  // of the tiles that a block streams through shared memory
constexpr int TILE = TILE_ROWS * HEAD_DIM;
constexpr float LOG2_E = 1.44269504f;

// Element of 16-byte chunk `chunk` of a row of a tile. Eight rows' same chunk lie in eight different groups of banks.
__device__ __forceinline__ int swizzled(int row, int chunk) { return row * HEAD_DIM + ((chunk ^ (row & 7)) * 8); }

// A thread's part of copying rows to tiles: a 16-byte chunk of every `STEP`-th row.
template <int THREADS> struct TileCopy {
  static constexpr int STEP = THREADS / 8;
  static_assert(STEP % 8 == 0, "a thread's rows have one swizzle");
  // Element of the thread's chunk in the first rows of a tile, and of a matrix whose rows are `stride` elements apart.
  static __device__ __forceinline__ int to() { return swizzled(threadIdx.x / 8, threadIdx.x % 8); }
  static __device__ __forceinline__ long long from(int stride) { return (long long)(threadIdx.x / 8) * stride + threadIdx.x % 8 * 8; }

  // Starts copying `ROWS` rows, of which `rows` exist; the others become zeros. `tile` and `matrix` are at the thread's chunk.
  template <int ROWS> static __device__ __forceinline__ void start(Shared<bf16> tile, Global<const bf16> matrix, int rows, int stride) {
    const int row = threadIdx.x / 8;
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

// Hides the scores that a causal query of its own document does not see. Rows are queries, from `first_query`;
// columns are keys from `first_key`; `first_seen` has each row's first key.
template <int STRIPS, int COLUMNS>
__device__ __forceinline__ void hide_unseen(float (&score)[STRIPS][COLUMNS][4], int first_query, int first_key, Shared<int> first_seen, int lane) {
#pragma unroll
  for (int m = 0; m < STRIPS; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = 16 * m + 8 * r + lane / 4, first = first_seen[row] - first_key, last = first_query + row - first_key;
#pragma unroll
      for (int n = 0; n < COLUMNS; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int column = n * 8 + lane % 4 * 2 + i;
          if (column < first || column > last) score[m][n][2 * r + i] = -INFINITY;
        }
    }
}

// Writes 16 rows of accumulators times a factor, from row `first` of a matrix of `rows` rows.
__device__ __forceinline__ void store_rows(Global<bf16> matrix, const float (&x)[8][4], int first, int rows, float factor, int lane) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = first + lane / 4 + 8 * r;
    if (row >= rows) continue;
#pragma unroll
    for (int n = 0; n < 8; n++)
      store_vector(matrix + ((long long)row * HEAD_DIM + n * 8 + lane % 4 * 2), pack_bf16(x[n][2 * r] * factor, x[n][2 * r + 1] * factor));
  }
}
