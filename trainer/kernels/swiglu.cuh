// SwiGLU (Shazeer 2020): silu(gate) x up, gate and up side by side in each row of `fused`. A thread has eight products.
#pragma once
#include "vectors.cuh"

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + exp2_approx(x * -1.44269504f)); }

// Where this thread's products lie: their gates in `fused`, and in the matrix of products.
struct SwigluPlace {
  bool inside;
  long long gate, product;

  __device__ __forceinline__ SwigluPlace(int rows, int ffn) {
    const uint32_t pieces = ffn / 8;
    const long long piece = (long long)blockIdx.x * 256 + threadIdx.x;
    inside = piece < (long long)rows * pieces;
    const uint32_t row = uint32_t(piece) / pieces;
    product = piece * 8;
    gate = product + (long long)row * ffn;
  }
};

KERNEL void __launch_bounds__(256) swiglu(Global<const bf16> fused, Global<bf16> product, int32_t rows, int32_t ffn) {
  const SwigluPlace at(rows, ffn);
  if (!at.inside) return;
  float gate[8], up[8];
  load(gate, fused + at.gate);
  load(up, fused + at.gate + ffn);
#pragma unroll
  for (int i = 0; i < 8; i++) gate[i] *= sigmoid(gate[i]) * up[i];
  store(product + at.product, gate);
}

// With s = sigmoid(g) and p = g s u: dg = dp u s (1 + g (1 - s)) and du = dp g s take the places of g and u, p that of dp.
KERNEL void __launch_bounds__(256) swiglu_backward(Global<bf16> fused, Global<bf16> d_product, int32_t rows, int32_t ffn) {
  const SwigluPlace at(rows, ffn);
  if (!at.inside) return;
  float gate[8], up[8], d[8];
  load(gate, Global<const bf16>(fused + at.gate));
  load(up, Global<const bf16>(fused + at.gate + ffn));
  load(d, Global<const bf16>(d_product + at.product));
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const float s = sigmoid(gate[i]), silu = gate[i] * s, slope = s + silu * (1.0f - s);
    const float d_gate = d[i] * up[i] * slope, d_up = d[i] * silu;
    d[i] = silu * up[i];
    gate[i] = d_gate;
    up[i] = d_up;
  }
  store(fused + at.gate, gate);
  store(fused + at.gate + ffn, up);
  store(d_product + at.product, d);
}
