// Between the fused projection, tokens x ((heads + 2 kv_heads) x head_dim), and the heads, sequences x heads x context x head_dim, with
// the rotary embedding (Su et al. 2021) by halves of a head, as transformers does: x1 cos - x2 sin and x2 cos + x1 sin.
#pragma once
#include "vectors.cuh"

constexpr int HEAD_THREADS = 128;

// Eight dimensions of each half, at one position, of every head: the rotation is read once for all of them.
struct HeadPiece {
  int position, context, head_dim, column;
  float cosine[8], sine[8];

  __device__ __forceinline__ HeadPiece(int context, int head_dim, Global<const float> cosines, Global<const float> sines)
      : context(context), head_dim(head_dim) {
    const int pieces = head_dim / 16;
    column = threadIdx.x % pieces * 8;
    position = blockIdx.x * (HEAD_THREADS / pieces) + threadIdx.x / pieces;
    if (position < context && cosines != nullptr) {
      const long long at = (long long)position * (head_dim / 2) + column;
      load(cosine, cosines + at);
      load(sine, sines + at);
    }
  }

  __device__ __forceinline__ void turn(float (&x1)[8], float (&x2)[8], bool back) const {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float a = x1[i], b = x2[i], s = back ? -sine[i] : sine[i];
      x1[i] = a * cosine[i] - b * s;
      x2[i] = b * cosine[i] + a * s;
    }
  }

  __device__ __forceinline__ void move(Global<const bf16> from, Global<bf16> to, bool rotate, bool back) const {
    float x1[8], x2[8];
    load(x1, from + column);
    load(x2, from + head_dim / 2 + column);
    if (rotate) turn(x1, x2, back);
    store(to + column, x1);
    store(to + head_dim / 2 + column, x2);
  }

  // First element of this position in head `head` of `count`.
  __device__ __forceinline__ long long place(int head, int count) const {
    return (((long long)blockIdx.y * count + head) * context + position) * head_dim;
  }
  // First element of this position in the fused matrix.
  __device__ __forceinline__ long long row(int all_heads) const {
    return ((long long)blockIdx.y * context + position) * all_heads * head_dim;
  }
};

KERNEL void __launch_bounds__(HEAD_THREADS) split_heads(Global<const bf16> fused, Global<const float> cosine, Global<const float> sine,
                                                        Global<bf16> query, Global<bf16> key, Global<bf16> value, int32_t context,
                                                        int32_t heads, int32_t kv_heads, int32_t head_dim) {
  const HeadPiece piece(context, head_dim, cosine, sine);
  if (piece.position >= context) return;
  const bool rotate = cosine != nullptr;
  const Global<const bf16> queries = fused + piece.row(heads + 2 * kv_heads);
  const Global<const bf16> keys = queries + heads * head_dim, values = keys + kv_heads * head_dim;
#pragma unroll 2
  for (int head = 0; head < heads; head++) piece.move(queries + head * head_dim, query + piece.place(head, heads), rotate, false);
  for (int head = 0; head < kv_heads; head++) {
    piece.move(keys + head * head_dim, key + piece.place(head, kv_heads), rotate, false);
    piece.move(values + head * head_dim, value + piece.place(head, kv_heads), false, false);
  }
}

// The gradient: rotates back what was rotated, and puts all three side by side.
KERNEL void __launch_bounds__(HEAD_THREADS) split_heads_backward(Global<const bf16> d_query, Global<const bf16> d_key, Global<const bf16> d_value,
                                                                 Global<const float> cosine, Global<const float> sine, Global<bf16> d_fused,
                                                                 int32_t context, int32_t heads, int32_t kv_heads, int32_t head_dim) {
  const HeadPiece piece(context, head_dim, cosine, sine);
  if (piece.position >= context) return;
  const bool rotate = cosine != nullptr;
  const Global<bf16> queries = d_fused + piece.row(heads + 2 * kv_heads);
  const Global<bf16> keys = queries + heads * head_dim, values = keys + kv_heads * head_dim;
#pragma unroll 2
  for (int head = 0; head < heads; head++) piece.move(d_query + piece.place(head, heads), queries + head * head_dim, rotate, true);
  for (int head = 0; head < kv_heads; head++) {
    piece.move(d_key + piece.place(head, kv_heads), keys + head * head_dim, rotate, true);
    piece.move(d_value + piece.place(head, kv_heads), values + head * head_dim, false, true);
  }
}
