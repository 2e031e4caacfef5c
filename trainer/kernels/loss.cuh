// Cross-entropy of rows of logits, whose gradient takes their place, and the sum of the losses. A block has a row and reads it twice,
// the second time from the L2 cache.
#pragma once
#include "reduce.cuh"
#include "vectors.cuh"

constexpr int LOSS_THREADS = 512, LOSS_WARPS = LOSS_THREADS / 32, LOSS_STEP = LOSS_THREADS * 8;
constexpr float LOWEST = -3e38f;

__device__ __forceinline__ float exp_difference(float x, float largest) { return exp2_approx((x - largest) * 1.44269504f); }

// The last classes of a row, fewer than eight; those that the row lacks get no share of the probability.
__device__ __forceinline__ void load_rest(float (&x)[8], Global<const bf16> from, int count) {
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] = i < count ? to_float(from[i]) : LOWEST;
}
__device__ __forceinline__ void store_rest(Global<bf16> to, const float (&x)[8], int count) {
#pragma unroll
  for (int i = 0; i < 7; i++)
    if (i < count) to[i] = to_bf16(x[i]);
}

// Calls `work` with the first class of each of this thread's groups of eight, then of the incomplete group if that is its own.
template <class Work> __device__ __forceinline__ void for_classes(int vocabulary, Work work) {
  const int whole = vocabulary / 8 * 8;
#pragma unroll 2
  for (int first = threadIdx.x * 8; first < whole; first += LOSS_STEP) work(first, 8);
  if (whole < vocabulary && int(threadIdx.x) == whole / 8 % LOSS_THREADS) work(whole, vocabulary - whole);
}
__device__ __forceinline__ void load_classes(float (&x)[8], Global<const bf16> from, int count) {
  if (count == 8) load(x, from);
  else load_rest(x, from, count);
}
__device__ __forceinline__ void store_classes(Global<bf16> to, const float (&x)[8], int count) {
  if (count == 8) store(to, x);
  else store_rest(to, x, count);
}
__device__ __forceinline__ void store_zeros(Global<bf16> row, int vocabulary) {
  const float zeros[8] = {};
  for_classes(vocabulary, [&](int first, int count) { store_classes(row + first, zeros, count); });
}

// The largest logit and the sum of exp(x - largest), in one pass (Milakov and Gimelshein 2018). A NaN is never the largest, but always
// part of the sum.
struct OnlineSum {
  float largest = LOWEST, sum = 0.0f;

  // Returns the factor of what was summed before.
  __device__ __forceinline__ float raise(const float (&x)[8]) {
    float top = largest;
#pragma unroll
    for (int i = 0; i < 8; i++) top = fmaxf(top, x[i]);
    const float factor = exp_difference(largest, top);
    largest = top;
    return factor;
  }
  __device__ __forceinline__ void add(const float (&x)[8]) {
    sum *= raise(x);
#pragma unroll
    for (int i = 0; i < 8; i++) sum += exp_difference(x[i], largest);
  }
  // Sum over the block, for its largest logit. Returns the factor of this thread's other sums.
  __device__ __forceinline__ float join(Shared<float> for_largest, Shared<float> for_sum) {
    const float top = block_max<LOSS_WARPS>(largest, for_largest), factor = exp_difference(largest, top);
    largest = top;
    sum = block_sum<LOSS_WARPS>(sum * factor, for_sum);
    return factor;
  }
  __device__ __forceinline__ float log_partition() const { return largest + logf(sum); }
};

// losses[row] = z - logits[target], z the log-partition, whatever the weight. The gradient is weight x (softmax x (1 + 2 z_loss z) -
// [target]): that of weight x (loss + z_loss z^2).
KERNEL void __launch_bounds__(LOSS_THREADS) softmax_gradient(Global<bf16> logits, Global<const uint32_t> targets, Global<const float> weights,
                                                             Global<float> losses, int32_t vocabulary, int32_t stride, float z_loss,
                                                             int32_t with_gradient) {
  SharedArena arena;
  const Shared<float> for_largest = arena.take<float>(LOSS_WARPS), for_sum = arena.take<float>(LOSS_WARPS);
  const int row = blockIdx.x, target = targets[row];
  const Global<bf16> own = logits + (long long)row * stride;
  const Global<const bf16> from = own;
  const float wanted = to_float(from[target]);
  OnlineSum total;
  for_classes(vocabulary, [&](int first, int count) {
    float x[8];
    load_classes(x, from + first, count);
    total.add(x);
  });
  total.join(for_largest, for_sum);
  const float z = total.log_partition();
  if (threadIdx.x == 0) losses[row] = z - wanted;
  if (!with_gradient) return;
  const float weight = weights[row];
  if (weight == 0.0f) return store_zeros(own, vocabulary);
  const float factor = weight * (1.0f + 2.0f * z_loss * z) / total.sum;
  for_classes(vocabulary, [&](int first, int count) {
    float x[8];
    load_classes(x, from + first, count);
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = exp_difference(x[i], total.largest) * factor - (first + i == target ? weight : 0.0f);
    store_classes(own + first, x, count);
  });
}

// sum[0] += losses of the rows whose weight is not 0.
KERNEL void __launch_bounds__(LOSS_THREADS) loss_sum(Global<const float> losses, Global<const float> weights, Global<double> sum, int32_t rows) {
  SharedArena arena;
  const Shared<double> scratch = arena.take<double>(LOSS_WARPS);
  double own = 0.0;
#pragma unroll 4
  for (int row = threadIdx.x; row < rows; row += LOSS_THREADS)
    if (weights[row] != 0.0f) own += double(losses[row]);
  const double total = block_sum<LOSS_WARPS>(own, scratch);
  if (threadIdx.x == 0) sum[0] = sum[0] + total;
}
