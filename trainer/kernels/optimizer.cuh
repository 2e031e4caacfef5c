// The norm of the gradient, AdamW, and the bf16 copy of the weights, over flat buffers that begin on 16 bytes.
#pragma once
#include "reduce.cuh"
#include "vectors.cuh"

constexpr int FLAT_STEP = 256 * 4;               // elements of one access of a block
constexpr long long FLAT_BLOCK = 2 * FLAT_STEP;  // elements of a block

// Calls `whole` with the first element of each four of this thread, `single` with each element beyond the last whole four.
template <class Whole, class Single> __device__ __forceinline__ void for_flat(long long count, Whole whole, Single single) {
#pragma unroll
  for (int step = 0; step < 2; step++) {
    const long long first = blockIdx.x * FLAT_BLOCK + step * FLAT_STEP + threadIdx.x * 4;
    if (first + 4 <= count) whole(first);
    else {
#pragma unroll 1
      for (long long i = first; i < count; i++) single(i);
    }
  }
}

// partial[block] = sum of squares, f32 within 32 values of a thread, f64 beyond.
KERNEL void __launch_bounds__(256) square_sum(Global<const float> values, Global<double> partial, long long count) {
  constexpr int WARPS = 8, STEPS = 8;
  SharedArena arena;
  const Shared<double> scratch = arena.take<double>(WARPS);
  double total = 0.0;
  for (long long first = (long long)blockIdx.x * STEPS * FLAT_STEP + threadIdx.x * 4; first < count;
       first += (long long)gridDim.x * STEPS * FLAT_STEP) {
    float sum = 0.0f;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
      const long long at = first + step * FLAT_STEP;
      float x[4] = {};
      if (at + 4 <= count) load(x, values + at);
      else
        for (int i = 0; i < 3; i++)
          if (at + i < count) x[i] = values[at + i];
      sum += x[0] * x[0] + x[1] * x[1] + (x[2] * x[2] + x[3] * x[3]);
    }
    total += double(sum);
  }
  total = block_sum<WARPS>(total, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// total[0] = sum of the partial sums; finite[0] = 0 if a value was infinite or not a number, or a sum of squares beyond f32, else 1.
KERNEL void __launch_bounds__(256) square_sum_total(Global<const double> partial, Global<double> total, Global<uint32_t> finite, int32_t parts) {
  constexpr int WARPS = 8;
  SharedArena arena;
  const Shared<double> scratch = arena.take<double>(WARPS);
  double own = 0.0;
  for (int part = threadIdx.x; part < parts; part += WARPS * 32) own += partial[part];
  const double sum = block_sum<WARPS>(own, scratch);
  if (threadIdx.x > 0) return;
  total[0] = sum;
  finite[0] = sum <= 1.7976931348623157e308 ? 1 : 0;
}

// The factors of a step, which do not depend on the element.
struct AdamWFactors {
  float keep, rate, rest1, beta2, rest2, inverse_root, epsilon, gradient_scale;

  // Loshchilov and Hutter 2019, algorithm 2, with the learning rate in the decay, as PyTorch has it.
  __device__ __forceinline__ void update(float& weight, float& first, float& second, float gradient, bool decays) const {
    const float g = gradient * gradient_scale;
    first += (g - first) * rest1;
    second = second * beta2 + g * g * rest2;
    weight = (decays ? weight * keep : weight) - rate * first / (sqrtf(second) * inverse_root + epsilon);
  }
};

KERNEL void __launch_bounds__(256) adamw(Global<float> weights, Global<float> first_moment, Global<float> second_moment,
                                         Global<const float> gradients, Global<bf16> copy, long long count, long long decayed, float keep,
                                         float rate, float rest1, float beta2, float rest2, float inverse_root, float epsilon,
                                         float gradient_scale) {
  const AdamWFactors factors{keep, rate, rest1, beta2, rest2, inverse_root, epsilon, gradient_scale};
  for_flat(
      count,
      [&](long long at) {
        float w[4], m[4], v[4], g[4];
        load(w, Global<const float>(weights + at));
        load(m, Global<const float>(first_moment + at));
        load(v, Global<const float>(second_moment + at));
        load(g, gradients + at);
#pragma unroll
        for (int i = 0; i < 4; i++) factors.update(w[i], m[i], v[i], g[i], at + i < decayed);
        store(weights + at, w);
        store(first_moment + at, m);
        store(second_moment + at, v);
        store(copy + at, w);
      },
      [&](long long at) {
        float w = weights[at], m = first_moment[at], v = second_moment[at];
        factors.update(w, m, v, gradients[at], at < decayed);
        weights[at] = w;
        first_moment[at] = m;
        second_moment[at] = v;
        copy[at] = to_bf16(w);
      });
}

KERNEL void __launch_bounds__(256) round_to_bf16(Global<const float> values, Global<bf16> rounded, long long count) {
  for_flat(
      count,
      [&](long long at) {
        float x[4];
        load(x, values + at);
        store(rounded + at, x);
      },
      [&](long long at) { rounded[at] = to_bf16(values[at]); });
}
