// KL(teacher || student) of rows of logits, with the gradient of the student's in their place. A block has a row of both.
#pragma once
#include "loss.cuh"

// losses[row] = sum p (log p - log q), p the teacher's softmax, q the student's: sum p (t - s) + z of s - z of t, for logits t and s. The
// gradient is weight x (q - p).
KERNEL void __launch_bounds__(LOSS_THREADS) divergence_gradient(Global<bf16> student, Global<const bf16> teacher, Global<const float> weights,
                                                                Global<float> losses, int32_t vocabulary, int32_t stride, int32_t with_gradient) {
  SharedArena arena;
  const Shared<float> for_largest = arena.take<float>(2 * LOSS_WARPS), for_sum = arena.take<float>(2 * LOSS_WARPS);
  const int row = blockIdx.x;
  const Global<bf16> own = student + (long long)row * stride;
  const Global<const bf16> from = own, teaches = teacher + (long long)row * stride;
  OnlineSum of_student, of_teacher;
  float difference = 0.0f;
  for_classes(vocabulary, [&](int first, int count) {
    float s[8], t[8];
    load_classes(s, from + first, count);
    load_classes(t, teaches + first, count);
    of_student.add(s);
    const float factor = of_teacher.raise(t);
    of_teacher.sum *= factor;
    difference *= factor;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float e = exp_difference(t[i], of_teacher.largest);
      of_teacher.sum += e;
      difference += e * (t[i] - s[i]);
    }
  });
  of_student.join(for_largest, for_sum);
  difference *= of_teacher.join(for_largest + LOSS_WARPS, for_sum + LOSS_WARPS);
  // All threads have read the student's largest logits before the barrier of its sum.
  difference = block_sum<LOSS_WARPS>(difference, for_largest);
  if (threadIdx.x == 0) losses[row] = difference / of_teacher.sum + (of_student.log_partition() - of_teacher.log_partition());
  if (!with_gradient) return;
  const float weight = weights[row];
  if (weight == 0.0f) return store_zeros(own, vocabulary);
  const float student_factor = weight / of_student.sum, teacher_factor = weight / of_teacher.sum;
  for_classes(vocabulary, [&](int first, int count) {
    float s[8], t[8];
    load_classes(s, from + first, count);
    load_classes(t, teaches + first, count);
#pragma unroll
    for (int i = 0; i < 8; i++)
      s[i] = exp_difference(s[i], of_student.largest) * student_factor - exp_difference(t[i], of_teacher.largest) * teacher_factor;
    store_classes(own + first, s, count);
  });
}
