// Cross-entropy, divergence and the sum of losses against double precision.
#include "../divergence.cuh"
#include "comparison.h"

using namespace testing;

struct Rows {
  int rows, vocabulary, stride;
  std::vector<bf16> logits;

  Rows(int rows, int vocabulary, float scale) : rows(rows), vocabulary(vocabulary), stride((vocabulary + 15) / 8 * 8) {
    logits = normals_bf16(size_t(rows) * stride, scale);
  }
  double at(int row, int i) const { return to_float(logits[size_t(row) * stride + i]); }
  // Only the classes are written, not what lies between the rows: to read it is a fault.
  Buffer<bf16> upload() const {
    Buffer<bf16> buffer(size_t(rows) * stride);
    for (int row = 0; row < rows; row++)
      for (int i = 0; i < vocabulary; i++) buffer[size_t(row) * stride + i] = logits[size_t(row) * stride + i];
    return buffer;
  }
  double log_partition(int row) const {
    double largest = -INFINITY, sum = 0;
    for (int i = 0; i < vocabulary; i++) largest = std::fmax(largest, at(row, i));
    for (int i = 0; i < vocabulary; i++) sum += std::exp(at(row, i) - largest);
    return largest + std::log(sum);
  }
  // The classes of a buffer, which must not have been written between the rows.
  Values classes(const Buffer<bf16>& buffer) const {
    Values values;
    for (int row = 0; row < rows; row++)
      for (int i = 0; i < stride; i++) {
        const size_t at = size_t(row) * stride + i;
        if (i < vocabulary) values.push_back(to_float(buffer[at]));
        else expect(!buffer.written(at), "row %d: element %d behind the %d classes was written", row, i, vocabulary);
      }
    return values;
  }
};

static std::vector<double> without(const std::vector<double>& values, const std::vector<size_t>& places) {
  std::vector<double> rest = values;
  for (size_t place : places) rest[place] = 0;
  return rest;
}
static Values without(const Values& values, const std::vector<size_t>& places) {
  Values rest = values;
  for (size_t place : places) rest[place] = 0;
  return rest;
}

static void cross_entropy(int vocabulary, float scale, float z_loss, const std::vector<uint32_t>& targets, const Values& weights) {
  const std::string name = "softmax_gradient of " + std::to_string(vocabulary) + " classes, scale " + std::to_string(scale);
  const int rows = int(targets.size());
  const Rows data(rows, vocabulary, scale);
  std::vector<double> losses, gradient;
  std::vector<size_t> places;
  for (int row = 0; row < rows; row++) {
    const double z = data.log_partition(row);
    losses.push_back(z - data.at(row, targets[row]));
    places.push_back(gradient.size() + targets[row]);
    for (int i = 0; i < vocabulary; i++)
      gradient.push_back(weights[row] * (std::exp(data.at(row, i) - z) * (1 + 2 * z_loss * z) - (uint32_t(i) == targets[row])));
  }
  const auto outputs = in_every_order(name, [&] {
    Buffer<bf16> logits = data.upload(), untouched = data.upload();
    Buffer<uint32_t> ids(targets);
    Buffer<float> of(weights), out(rows), only(rows);
    const dim3 grid(rows);
    emulator::launch(grid, 512, 256, [&] { softmax_gradient(logits, ids, of, out, vocabulary, data.stride, z_loss, 1); });
    emulator::launch(grid, 512, 256, [&] { softmax_gradient(untouched, ids, nullptr, only, vocabulary, data.stride, z_loss, 0); });
    return std::vector<Values>{values_of(out, "losses"), data.classes(logits), values_of(only, "losses"), data.classes(untouched)};
  });
  expect_close(name + ", losses", losses, outputs[0], F32_BOUND);
  expect_close(name + ", gradient", gradient, outputs[1], BF16_BOUND);
  // A target's gradient outweighs all others of its row.
  expect_close(name + ", gradient of other classes", without(gradient, places), without(outputs[1], places), BF16_BOUND);
  expect(outputs[0] == outputs[2], name + ": the losses differ without the gradient");
  expect(outputs[3] == data.classes(data.upload()), name + ": the logits have changed without the gradient");
}

static void divergence(int vocabulary, float apart, const Values& weights) {
  const std::string name = "divergence_gradient of " + std::to_string(vocabulary) + " classes, apart " + std::to_string(apart);
  const int rows = int(weights.size());
  Rows student(rows, vocabulary, 2.0f);
  const Rows teacher = student;
  for (bf16& x : student.logits) x = to_bf16(to_float(x) + apart * normal());
  std::vector<double> losses, gradient;
  for (int row = 0; row < rows; row++) {
    const double zs = student.log_partition(row), zt = teacher.log_partition(row);
    double loss = 0;
    for (int i = 0; i < vocabulary; i++) {
      const double p = std::exp(teacher.at(row, i) - zt), log_q = student.at(row, i) - zs;
      loss += p * (teacher.at(row, i) - zt - log_q);
      gradient.push_back(weights[row] * (std::exp(log_q) - p));
    }
    losses.push_back(loss);
  }
  const auto outputs = in_every_order(name, [&] {
    Buffer<bf16> s = student.upload(), t = teacher.upload(), untouched = student.upload();
    Buffer<float> of(weights), out(rows), only(rows);
    const dim3 grid(rows);
    emulator::launch(grid, 512, 256, [&] { divergence_gradient(s, t, of, out, vocabulary, student.stride, 1); });
    emulator::launch(grid, 512, 256, [&] { divergence_gradient(untouched, t, nullptr, only, vocabulary, student.stride, 0); });
    return std::vector<Values>{values_of(out, "losses"), student.classes(s), values_of(only, "losses"), teacher.classes(t)};
  });
  expect_close(name + ", losses", losses, outputs[0], F32_BOUND);
  expect_close(name + ", gradient", gradient, outputs[1], BF16_BOUND);
  expect(outputs[0] == outputs[2], name + ": the losses differ without the gradient");
}

static void vocabularies() {
  for (int vocabulary : {1, 5, 8, 300, 4095, 4104}) {
    const uint32_t last = uint32_t(vocabulary) - 1;
    cross_entropy(vocabulary, 2.0f, 1e-3f, {0, last, last / 2, last}, {1.0f, 0.25f, 0.0f, 3.0f});
  }
  cross_entropy(49152, 3.0f, 0.0f, {49151, 0}, {1.0f, 1.0f});
  cross_entropy(49157, 3.0f, 1e-4f, {49156, 49151}, {1.0f, 0.5f});
  cross_entropy(300, 40.0f, 0.0f, {0, 299, 7}, {1.0f, 1.0f, 1.0f});
}

static void divergences() {
  for (int vocabulary : {2, 8, 300, 4099}) divergence(vocabulary, 1.0f, {1.0f, 0.0f, 0.3f});
  divergence(49157, 0.5f, {1.0f});
}

// What is not a number, and what is infinite, must show in the loss; a target without a chance has an infinite loss.
static void special_logits() {
  constexpr int VOCABULARY = 300;
  Rows data(5, VOCABULARY, 1.0f);
  auto set = [&](int row, int i, float x) { data.logits[size_t(row) * data.stride + i] = to_bf16(x); };
  set(0, 299, NAN);
  set(1, 4, INFINITY);
  set(2, 17, -INFINITY);
  set(3, 18, -INFINITY);
  Buffer<bf16> logits = data.upload(), teacher = data.upload();
  Buffer<uint32_t> targets(std::vector<uint32_t>{3, 3, 17, 3, 3});
  Buffer<float> weights(Values{1, 1, 1, 1, 0}), losses(5), divergences(5);
  emulator::launch(dim3(5), 512, 256, [&] { divergence_gradient(teacher, logits, weights, divergences, VOCABULARY, data.stride, 0); });
  emulator::launch(dim3(5), 512, 256, [&] { softmax_gradient(logits, targets, weights, losses, VOCABULARY, data.stride, 0, 1); });
  expect(std::isnan(losses[0]), "a loss of %f with a logit that is not a number", losses[0]);
  expect(std::isnan(losses[1]), "a loss of %f with an infinite logit", losses[1]);
  expect(losses[2] == INFINITY, "a loss of %f for a target without a chance", losses[2]);
  expect(std::isfinite(losses[3]) && to_float(logits[3 * size_t(data.stride) + 18]) == 0.0f, "a class without a chance takes part in the softmax");
  expect(std::isnan(divergences[0]) && std::isnan(divergences[1]), "a divergence of %f and %f with logits that are not finite", divergences[0], divergences[1]);
  for (float x : Values{to_float(logits[4 * size_t(data.stride)]), to_float(logits[4 * size_t(data.stride) + 3])})
    expect(x == 0.0f, "a gradient of %f for a row of weight 0", x);
}

// The last row of 65,536: its index does not fit in 31 bits.
static void last_row() {
  constexpr size_t ROWS = 65536, VOCABULARY = 49152, FIRST = (ROWS - 1) * VOCABULARY;
  Buffer<bf16> logits(ROWS * VOCABULARY), teacher(ROWS * VOCABULARY);
  Buffer<uint32_t> targets(ROWS);
  Buffer<float> weights(ROWS), losses(ROWS);
  const Rows data(1, VOCABULARY, 1.0f);
  for (size_t i = 0; i < VOCABULARY; i++) logits[FIRST + i] = teacher[FIRST + i] = data.logits[i];
  targets[ROWS - 1] = VOCABULARY - 1;
  weights[ROWS - 1] = 1.0f;
  const double z = data.log_partition(0);
  launch_last(ROWS, 512, 256, [&] { softmax_gradient(logits, targets, weights, losses, VOCABULARY, VOCABULARY, 0, 1); });
  Deviation deviation;
  deviation.add(z - data.at(0, VOCABULARY - 1), losses[ROWS - 1]);
  expect_close("loss of the last row", deviation, F32_BOUND);
  deviation = Deviation();
  for (size_t i = 0; i + 1 < VOCABULARY; i++) deviation.add(std::exp(data.at(0, int(i)) - z), to_float(logits[FIRST + i]));
  expect_close("gradient of the last row", deviation, BF16_BOUND);
  for (size_t i = 0; i < VOCABULARY; i++) logits[FIRST + i] = data.logits[i];
  launch_last(ROWS, 512, 256, [&] { divergence_gradient(logits, teacher, weights, losses, VOCABULARY, VOCABULARY, 1); });
  expect(std::fabs(losses[ROWS - 1]) < 1e-5f, "a divergence of %g from itself", losses[ROWS - 1]);
}

static void sums() {
  for (int rows : {1, 31, 512, 5003}) {
    const Values losses = normals(rows, 2.0f, 10.0f);
    Values weights(rows);
    double want = 3.25;
    for (int i = 0; i < rows; i++) {
      weights[i] = i % 7 == 2 ? 0.0f : normal();
      if (weights[i] != 0.0f) want += losses[i];
    }
    const auto outputs = in_every_order("loss_sum of " + std::to_string(rows), [&] {
      Buffer<float> from(losses), of(weights);
      Buffer<double> sum(1, 3.25);
      emulator::launch(dim3(1), 512, 128, [&] { loss_sum(from, of, sum, rows); });
      return std::vector<Values>{{float(sum[0]), float(sum[0] - double(float(sum[0])))}};
    });
    const double got = double(outputs[0][0]) + double(outputs[0][1]);
    expect(std::fabs(got - want) < 1e-12 * want, "loss_sum of %d rows: %.15g, expected %.15g", rows, got, want);
  }
}

static void traffic() {
  const CountTraffic counting;
  const Rows data(2, 4096 - 8, 1.0f);
  Buffer<bf16> logits = data.upload();
  Buffer<uint32_t> targets(std::vector<uint32_t>{5, 6});
  Buffer<float> weights(Values{1, 1}), losses(2);
  const auto counted = emulator::launch(dim3(2), 512, 256, [&] { softmax_gradient(logits, targets, weights, losses, data.vocabulary, data.stride, 0, 1); });
  expect(counted.store_bytes == 2 * 4088 * 2 + 8 && counted.store_sectors == 2 * 256 + 2,
         "softmax_gradient stores %llu bytes in %llu sectors", (unsigned long long)counted.store_bytes, (unsigned long long)counted.store_sectors);
  expect(counted.shared_conflicts == 0, "softmax_gradient has %llu bank conflicts", (unsigned long long)counted.shared_conflicts);
}

int main(int argc, char** argv) {
  return testing::run(argc, argv, {{"vocabularies", vocabularies}, {"divergences", divergences}, {"special_logits", special_logits},
                                   {"last_row", last_row}, {"sums", sums}, {"traffic", traffic}});
}
