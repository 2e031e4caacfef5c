// Comparison of kernels with double-precision references, under several orders of blocks, warps and lanes.
#pragma once
#include "../device.cuh"
#include "testing.h"

namespace testing {

using emulator::Buffer;
using Values = std::vector<float>;

// Relative root mean square of what is stored as bf16 and as f32.
constexpr double BF16_BOUND = 0.005, F32_BOUND = 1e-5;

inline bool expect(bool good, const std::string& what) { return expect(good, "%s", what.c_str()); }

inline std::vector<bf16> normals_bf16(size_t n, float scale = 1.0f) {
  std::vector<bf16> values(n);
  for (bf16& x : values) x = to_bf16(scale * normal());
  return values;
}
inline Values normals(size_t n, float scale = 1.0f, float mean = 0.0f) {
  Values values(n);
  for (float& x : values) x = mean + scale * normal();
  return values;
}

// What the device holds. An element that nobody wrote fails the test.
template <class T> Values values_of(const Buffer<T>& buffer, const char* name) {
  Values values(buffer.size());
  for (size_t i = 0; i < values.size(); i++) {
    if (!expect(buffer.written(i), "%s: element %zu of %zu was never written", name, i, values.size())) break;
    if constexpr (std::is_same<T, bf16>::value) values[i] = to_float(buffer[i]);
    else values[i] = float(buffer[i]);
  }
  return values;
}

inline void expect_close(const std::string& name, const std::vector<double>& want, const Values& got, double bound) {
  if (!expect(want.size() == got.size(), name + ": another number of elements")) return;
  Deviation deviation;
  for (size_t i = 0; i < want.size(); i++) deviation.add(want[i], got[i]);
  expect_close(name.c_str(), deviation, bound);
}

// The share of elements that another rounding of the reference than to the nearest bf16 explains is small: arithmetic in f32 moves few
// numbers past the middle between two.
inline void expect_rounded(const std::string& name, const std::vector<double>& want, const Values& got, double share) {
  size_t others = 0;
  for (size_t i = 0; i < want.size(); i++) others += to_float(to_bf16(float(want[i]))) != got[i];
  expect(double(others) <= share * double(want.size()), "%s: %zu of %zu elements are not the bf16 nearest to the reference, expected at most %.0f%%",
         name.c_str(), others, want.size(), share * 100);
}

// Runs `run` in ascending order and in random ones; all must give the same bits. Returns the outputs.
inline std::vector<Values> in_every_order(const std::string& name, const std::function<std::vector<Values>()>& run) {
  const uint64_t chosen = emulator::options.seed;
  std::vector<Values> first;
  for (uint64_t seed : {uint64_t(0), chosen, chosen + 1}) {
    emulator::options.seed = seed;
    std::vector<Values> outputs;
    try {
      outputs = run();
    } catch (emulator::Fault& fault) {
      emulator::options.seed = chosen;
      throw emulator::Fault{name + ": " + fault.what};
    }
    if (first.empty()) first = outputs;
    for (size_t i = 0; i < first.size(); i++) {
      const bool same = outputs[i].size() == first[i].size() && !memcmp(outputs[i].data(), first[i].data(), first[i].size() * sizeof(float));
      expect(same, name + ": output " + std::to_string(i) + " depends on the order of blocks and warps");
    }
  }
  emulator::options.seed = chosen;
  return first;
}

// Runs only the last block of a grid.
inline void launch_last(unsigned grid, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel) {
  emulator::launch_blocks(dim3(grid), {dim3(grid - 1, 0, 0)}, threads, shared_bytes, kernel);
}

// Counts the traffic of what runs while it lives.
struct CountTraffic {
  CountTraffic() { emulator::options.count_traffic = true; }
  ~CountTraffic() { emulator::options.count_traffic = false; }
};

}  // namespace testing
