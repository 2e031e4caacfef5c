// RMSNorm (Zhang and Sennrich 2019): y = x r w with r = 1 / sqrt(mean(x^2) + epsilon). A warp has a row. It reads the row twice: the
// second time from the L1 cache, so that rows of any length take few registers.
#pragma once
#include "reduce.cuh"
#include "vectors.cuh"

constexpr int NORM_STEP = 32 * 8;  // columns of one access of a warp

KERNEL void __launch_bounds__(256) rms_norm(Global<const bf16> input, Global<const float> weight, Global<float> inverse_rms, Global<bf16> output,
                                            int32_t rows, int32_t columns, float epsilon) {
  const int lane = threadIdx.x % 32, row = blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= rows) return;
  const long long first = (long long)row * columns;
  float square = 0.0f;
  for (int column = lane * 8; column < columns; column += NORM_STEP) {
    float v[8];
    load(v, input + first + column);
#pragma unroll
    for (int i = 0; i < 8; i++) square += v[i] * v[i];
  }
  const float inverse = 1.0f / sqrtf(warp_sum(square) / float(columns) + epsilon);
  if (lane == 0) inverse_rms[row] = inverse;
  for (int column = lane * 8; column < columns; column += NORM_STEP) {
    float v[8], w[8];
    load(v, input + first + column);
    load(w, weight + column);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] *= inverse * w[i];
    store(output + first + column, v);
  }
}

// Where the sums of columns column .. column + 3 (half 0) and column + 4 .. column + 7 (half 1) lie in a warp's stretch of shared memory:
// each half by itself, so that the 16-byte accesses of eight lanes fill all banks.
__device__ __forceinline__ int norm_sum_place(int column, int half, int columns) { return (half * columns + column) / 2; }

// dx (+)= r (w dy - x r^2 mean(w dy x)); partial[block] = sum over the block's rows of dy x r, the gradient of w. The output again, if it
// is wanted, may take the place of `d_output`: each lane has read what it overwrites.
KERNEL void __launch_bounds__(128) rms_norm_backward(Global<const bf16> input, Global<const float> weight, Global<const float> inverse_rms,
                                                     Global<const bf16> d_output, Global<bf16> d_input, Global<bf16> output,
                                                     Global<float> partial, int32_t rows, int32_t columns, int32_t add) {
  constexpr int WARPS = 4;
  SharedArena arena;
  const Shared<float> sums = arena.take<float>(WARPS * columns);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Shared<float4> own = (sums + warp * columns).as<float4>();
  const bool trains = partial != nullptr, again = output != nullptr;
  for (int column = lane * 8; trains && column < columns; column += NORM_STEP) {
    own[norm_sum_place(column, 0, columns) / 4] = float4{0.0f, 0.0f, 0.0f, 0.0f};
    own[norm_sum_place(column, 1, columns) / 4] = float4{0.0f, 0.0f, 0.0f, 0.0f};
  }
  for (int row = blockIdx.x * WARPS + warp; row < rows; row += gridDim.x * WARPS) {
    const long long first = (long long)row * columns;
    const float r = inverse_rms[row];
    float dot = 0.0f;
    for (int column = lane * 8; column < columns; column += NORM_STEP) {
      float x[8], dy[8], w[8];
      load(x, input + first + column);
      load(dy, d_output + first + column);
      load(w, weight + column);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        x[i] *= dy[i];
        dot += w[i] * x[i];
      }
      if (trains) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int at = norm_sum_place(column, half, columns) / 4;
          const float4 sum = own[at];
          own[at] = float4{sum.x + x[4 * half] * r, sum.y + x[4 * half + 1] * r, sum.z + x[4 * half + 2] * r, sum.w + x[4 * half + 3] * r};
        }
      }
    }
    const float mean = warp_sum(dot) * r * r / float(columns);
    for (int column = lane * 8; column < columns; column += NORM_STEP) {
      float x[8], dy[8], w[8], dx[8] = {};
      load(x, input + first + column);
      load(dy, d_output + first + column);
      load(w, weight + column);
      if (add) load(dx, Global<const bf16>(d_input + first + column));
#pragma unroll
      for (int i = 0; i < 8; i++) {
        dx[i] += r * (w[i] * dy[i] - x[i] * mean);
        x[i] *= r * w[i];
      }
      store(d_input + first + column, dx);
      if (again) store(output + first + column, x);
    }
  }
  if (!trains) return;
  __syncthreads();
  for (int place = threadIdx.x; place < columns; place += WARPS * 32) {
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) total += sums[i * columns + place];
    const int half = place / (columns / 2), column = (place - half * (columns / 2)) / 4 * 8 + half * 4 + place % 4;
    partial[(long long)blockIdx.x * columns + column] = total;
  }
}
