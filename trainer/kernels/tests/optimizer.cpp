// Norm of the gradient, AdamW and the bf16 copy against double precision.
#include "../optimizer.cuh"
#include "comparison.h"

using namespace testing;

static void norm(long long count, int parts) {
  const std::string name = "square_sum of " + std::to_string(count) + " in " + std::to_string(parts) + " parts";
  const Values values = normals(size_t(count), 0.01f);
  double want = 0;
  for (float x : values) want += double(x) * x;
  const auto outputs = in_every_order(name, [&] {
    Buffer<float> from(values);
    Buffer<double> partial(parts), total(1);
    Buffer<uint32_t> finite(1);
    emulator::launch(dim3(parts), 256, 128, [&] { square_sum(from, partial, count); });
    emulator::launch(dim3(1), 256, 128, [&] { square_sum_total(partial, total, finite, parts); });
    return std::vector<Values>{values_of(total, "total"), {float(total[0] - double(float(total[0])))}, values_of(finite, "finite")};
  });
  expect_close(name, {want}, outputs[0], 1e-6);
  expect(outputs[2][0] == 1.0f, name + ": finite values count as infinite");
}

static void norms() {
  for (long long count : {1, 3, 4, 8191, 8192, 8197, 50003})
    for (int parts : {1, 3}) norm(count, parts);
  norm(50003, 300);
}

// One value that is not finite, first, last, or within, must be noticed.
static void not_finite() {
  constexpr long long COUNT = 8197;
  for (float bad : {NAN, INFINITY, -INFINITY, 1e30f})
    for (size_t place : {size_t(0), size_t(5000), size_t(COUNT - 1)}) {
      Buffer<float> from(normals(COUNT));
      from[place] = bad;
      Buffer<double> partial(2), total(1);
      Buffer<uint32_t> finite(1);
      emulator::launch(dim3(2), 256, 128, [&] { square_sum(from, partial, COUNT); });
      emulator::launch(dim3(1), 256, 128, [&] { square_sum_total(partial, total, finite, 2); });
      expect(finite[0] == 0, "%f at %zu counts as finite", bad, place);
      expect(!std::isfinite(total[0]), "%f at %zu gives a sum of %g", bad, place, total[0]);
    }
}

struct Step { double learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale; int step; };

static void steps(long long count, long long decayed) {
  const std::string name = "adamw of " + std::to_string(count) + ", " + std::to_string(decayed) + " decayed";
  const Values weights = normals(size_t(count)), gradients = normals(size_t(3 * count), 0.1f);
  const Step settings{3e-3, 0.9, 0.95, 1e-8, 0.1, 0.7, 0};
  std::vector<double> w(weights.begin(), weights.end()), m(w.size()), v(w.size());
  for (int step = 0; step < 3; step++)
    for (size_t i = 0; i < w.size(); i++) {
      const double g = gradients[size_t(step) * size_t(count) + i] * settings.gradient_scale;
      m[i] = settings.beta1 * m[i] + (1 - settings.beta1) * g;
      v[i] = settings.beta2 * v[i] + (1 - settings.beta2) * g * g;
      if ((long long)i < decayed) w[i] -= settings.learning_rate * settings.weight_decay * w[i];
      const double first = m[i] / (1 - std::pow(settings.beta1, step + 1)), second = v[i] / (1 - std::pow(settings.beta2, step + 1));
      w[i] -= settings.learning_rate * first / (std::sqrt(second) + settings.epsilon);
    }
  const auto outputs = in_every_order(name, [&] {
    Buffer<float> masters(weights), first(size_t(count), 0.0f), second(size_t(count), 0.0f);
    Buffer<bf16> copy(static_cast<size_t>(count)), again(static_cast<size_t>(count));
    const dim3 grid(unsigned((count + 2047) / 2048));
    for (int step = 0; step < 3; step++) {
      Buffer<float> d(Values(gradients.begin() + step * count, gradients.begin() + (step + 1) * count));
      const float keep = float(1 - settings.learning_rate * settings.weight_decay);
      const float rate = float(settings.learning_rate / (1 - std::pow(settings.beta1, step + 1)));
      const float inverse_root = float(1 / std::sqrt(1 - std::pow(settings.beta2, step + 1)));
      emulator::launch(grid, 256, 0, [&] {
        adamw(masters, first, second, d, copy, count, decayed, keep, rate, float(1 - settings.beta1), float(settings.beta2),
              float(1 - settings.beta2), inverse_root, float(settings.epsilon), float(settings.gradient_scale));
      });
    }
    emulator::launch(grid, 256, 0, [&] { round_to_bf16(masters, again, count); });
    return std::vector<Values>{values_of(masters, "weights"), values_of(first, "first moment"), values_of(second, "second moment"),
                               values_of(copy, "copy"), values_of(again, "copy")};
  });
  expect_close(name + ", weights", w, outputs[0], F32_BOUND);
  expect_close(name + ", first moment", m, outputs[1], F32_BOUND);
  expect_close(name + ", second moment", v, outputs[2], F32_BOUND);
  for (size_t i = 0; i < w.size(); i++)
    if (!expect(outputs[3][i] == to_float(to_bf16(outputs[0][i])), "%s: element %zu of the copy is %g for %g", name.c_str(), i, outputs[3][i], outputs[0][i])) break;
  expect(outputs[3] == outputs[4], name + ": round_to_bf16 gives another copy");
}

static void all_steps() {
  for (long long count : {1, 3, 4, 2047, 2048, 2053}) steps(count, count / 2);
  steps(5000, 0);
  steps(5000, 5000);
}

// The last block of more elements than 32 bits count.
static void many_elements() {
  constexpr long long COUNT = (1ll << 32) + 3 * 2048 + 5;
  constexpr size_t FIRST = size_t(COUNT / 2048 * 2048);
  const unsigned blocks = unsigned((COUNT + 2047) / 2048);
  Buffer<float> weights(COUNT), first(COUNT), second(COUNT), gradients(COUNT);
  Buffer<bf16> copy(static_cast<size_t>(COUNT));
  for (size_t i = FIRST; i < size_t(COUNT); i++) weights[i] = 2.0f, first[i] = second[i] = 0.0f, gradients[i] = 1.0f;
  launch_last(blocks, 256, 0, [&] {
    adamw(weights, first, second, gradients, copy, COUNT, COUNT - 1, 0.5f, 0.25f, 1.0f, 0.0f, 1.0f, 1.0f, 0.0f, 1.0f);
  });
  for (size_t i = FIRST; i < size_t(COUNT); i++) {
    const float want = i + 1 < size_t(COUNT) ? 0.75f : 1.75f;
    expect(weights[i] == want && to_float(copy[i]) == want, "weight %zu is %g, expected %g", i, weights[i], want);
  }
  constexpr unsigned PART = (1ull << 32) / 8192;
  Buffer<double> partial(PART + 1);
  for (size_t i = size_t(PART) * 8192; i < size_t(COUNT); i++) gradients[i] = 1.0f;
  launch_last(PART + 1, 256, 128, [&] { square_sum(gradients, partial, COUNT); });
  expect(partial[PART] == 3 * 2048 + 5, "the last part of square_sum is %g", partial[PART]);
}

static void traffic() {
  const CountTraffic counting;
  constexpr size_t N = 4096;
  Buffer<float> weights(normals(N)), first(N, 0.0f), second(N, 0.0f), gradients(normals(N));
  Buffer<bf16> copy(N);
  const auto counted = emulator::launch(dim3(2), 256, 0, [&] {
    adamw(weights, first, second, gradients, copy, N, N, 1, 0.1f, 0.1f, 0.9f, 0.1f, 1, 1e-8f, 1);
  });
  expect(counted.load_bytes == 16 * N && counted.load_sectors == 16 * N / 32, "adamw loads %llu bytes in %llu sectors",
         (unsigned long long)counted.load_bytes, (unsigned long long)counted.load_sectors);
  expect(counted.store_bytes == 14 * N && counted.store_sectors == 14 * N / 32, "adamw stores %llu bytes in %llu sectors",
         (unsigned long long)counted.store_bytes, (unsigned long long)counted.store_sectors);
}

int main(int argc, char** argv) {
  return testing::run(argc, argv, {{"norms", norms}, {"not_finite", not_finite}, {"steps", all_steps}, {"many_elements", many_elements}, {"traffic", traffic}});
}
