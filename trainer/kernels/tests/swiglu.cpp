// SwiGLU and its gradient against double precision.
#include "../swiglu.cuh"
#include "comparison.h"

using namespace testing;

static void check(int rows, int ffn, float gates) {
  const std::string name = "swiglu " + std::to_string(rows) + " x " + std::to_string(ffn) + ", gates of " + std::to_string(gates);
  const size_t n = size_t(rows) * ffn;
  std::vector<bf16> fused = normals_bf16(2 * n);
  const std::vector<bf16> d_product = normals_bf16(n);
  std::vector<double> product(n), d_fused(2 * n);
  for (size_t i = 0; i < n; i++) {
    const size_t gate = i / ffn * 2 * ffn + i % ffn, up = gate + ffn;
    fused[gate] = to_bf16(gates * to_float(fused[gate]));
    const double g = to_float(fused[gate]), u = to_float(fused[up]), d = to_float(d_product[i]), s = 1 / (1 + std::exp(-g));
    product[i] = g * s * u;
    d_fused[gate] = d * u * s * (1 + g * (1 - s));
    d_fused[up] = d * g * s;
  }
  const auto outputs = in_every_order(name, [&] {
    Buffer<bf16> from(fused), to(n), d(d_product);
    const dim3 grid((n + 2047) / 2048);
    emulator::launch(grid, 256, 0, [&] { swiglu(from, to, rows, ffn); });
    emulator::launch(grid, 256, 0, [&] { swiglu_backward(from, d, rows, ffn); });
    return std::vector<Values>{values_of(to, "product"), values_of(d, "product again"), values_of(from, "d_fused")};
  });
  expect_close(name + ", product", product, outputs[0], BF16_BOUND);
  expect_rounded(name + ", product", product, outputs[0], 0.02);
  expect_close(name + ", gradient", d_fused, outputs[2], BF16_BOUND);
  expect(outputs[0] == outputs[1], name + ": the product again differs from the product");
}

static void traffic() {
  const CountTraffic counting;
  const size_t n = 3 * 1024;
  Buffer<bf16> fused(normals_bf16(2 * n)), d(normals_bf16(n)), product(n);
  const auto forward = emulator::launch(dim3(2), 256, 0, [&] { swiglu(fused, product, 3, 1024); });
  const auto backward = emulator::launch(dim3(2), 256, 0, [&] { swiglu_backward(fused, d, 3, 1024); });
  expect(forward.load_sectors + forward.store_sectors == 6 * n / 32, "swiglu moves sectors of which parts are unused");
  expect(backward.load_sectors + backward.store_sectors == 12 * n / 32, "swiglu_backward moves sectors of which parts are unused");
}

static void sizes() {
  check(1, 8, 1.0f);
  check(1, 1024, 2.0f);
  check(5, 1024, 2.0f);
  check(3, 1536, 50.0f);
  check(2, 2568, 1.0f);
}

static void large_gates() { check(1, 256, 1e30f); }

// The last rows of 2^18 x 8,192: indices beyond 32 bits.
static void last_rows() {
  constexpr int ROWS = 1 << 18, FFN = 8192;
  constexpr size_t N = size_t(ROWS) * FFN, FIRST = N - 2048;
  constexpr size_t GATE = FIRST + size_t(ROWS - 1) * FFN, UP = GATE + FFN;
  Buffer<bf16> fused(2 * N), d(N), product(N);
  const std::vector<bf16> gates = normals_bf16(2048), ups = normals_bf16(2048);
  for (size_t i = 0; i < 2048; i++) fused[GATE + i] = gates[i], fused[UP + i] = ups[i], d[FIRST + i] = to_bf16(1.0f);
  constexpr unsigned BLOCKS = N / 2048;
  launch_last(BLOCKS, 256, 0, [&] { swiglu(fused, product, ROWS, FFN); });
  launch_last(BLOCKS, 256, 0, [&] { swiglu_backward(fused, d, ROWS, FFN); });
  Deviation products, again, gradients;
  for (size_t i = 0; i < 2048; i++) {
    const double g = to_float(gates[i]), silu = g / (1 + std::exp(-g));
    products.add(silu * to_float(ups[i]), to_float(product[FIRST + i]));
    again.add(silu * to_float(ups[i]), to_float(d[FIRST + i]));
    gradients.add(silu, to_float(fused[UP + i]));
  }
  expect_close("products of the last row", products, BF16_BOUND);
  expect_close("products of the last row again", again, BF16_BOUND);
  expect_close("gradient of the last row's up", gradients, BF16_BOUND);
}

int main(int argc, char** argv) {
  return testing::run(argc, argv, {{"sizes", sizes}, {"large_gates", large_gates}, {"traffic", traffic}, {"last_rows", last_rows}});
}
