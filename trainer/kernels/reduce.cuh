// Reductions over a warp and a block, in one fixed order, and sums of columns.
#pragma once
#include "device.cuh"

// The same bits in all lanes: both operands of each addition change places between the two lanes that make it.
template <class T> __device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(0xffffffffu, x, by);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, by));
  return x;
}

// `scratch` has one place a warp and serves one reduction of a block.
template <int WARPS, class T> __device__ __forceinline__ T block_sum(T x, Shared<T> scratch) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) scratch[int(threadIdx.x / 32)] = x;
  __syncthreads();
  T total = 0;
#pragma unroll
  for (int warp = 0; warp < WARPS; warp++) total += scratch[warp];
  return total;
}

template <int WARPS> __device__ __forceinline__ float block_max(float x, Shared<float> scratch) {
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) scratch[int(threadIdx.x / 32)] = x;
  __syncthreads();
  float largest = scratch[0];
#pragma unroll
  for (int warp = 1; warp < WARPS; warp++) largest = fmaxf(largest, scratch[warp]);
  return largest;
}

// sums[column] += sum of partial[part][column]. A warp has every eighth part of 32 columns.
KERNEL void __launch_bounds__(256) column_sums(Global<const float> partial, Global<float> sums, int32_t parts, int32_t columns) {
  constexpr int WARPS = 8;
  SharedArena arena;
  const Shared<float> of_warps = arena.take<float>(WARPS * 32);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
  float sum = 0.0f;
  if (column < columns) {
#pragma unroll 8
    for (int part = warp; part < parts; part += WARPS) sum += partial[(long long)part * columns + column];
  }
  of_warps[int(threadIdx.x)] = sum;
  __syncthreads();
  if (warp == 0 && column < columns) {
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) total += of_warps[i * 32 + lane];
    sums[column] = sums[column] + total;
  }
}
