// The emulator itself: what it computes against the formulas, and that it finds each kind of fault.
#include "../device.cuh"
#include "testing.h"

using emulator::Buffer;
using emulator::Counters;
using emulator::launch;
using testing::expect;
using testing::expect_fault;

// CuTe's traits state the same layouts as (lane, element) to a column-major index: A is M x K, B is N x K, C is M x N.
static void fragment_layouts() {
  unsigned row, column;
  int wrong = 0;
  for (unsigned lane = 0; lane < 32; lane++) {
    const unsigned low = lane % 4, high = lane / 4;
    for (unsigned i = 0; i < 8; i++) {
      const unsigned a = low * 32 + high + (i & 1) * 16 + (i >> 1 & 1) * 8 + (i >> 2) * 128;
      emulator::a_place(lane, i, row, column);
      wrong += row != a % 16 || column != a / 16;
    }
    for (unsigned i = 0; i < 4; i++) {
      const unsigned b = low * 16 + high + (i & 1) * 8 + (i >> 1) * 64, c = low * 32 + high + (i & 1) * 16 + (i >> 1) * 8;
      emulator::b_place(lane, i, row, column);
      wrong += column != b % 8 || row != b / 8;
      emulator::c_place(lane, i, row, column);
      wrong += row != c % 16 || column != c / 16;
    }
  }
  expect(wrong == 0, "%d of 512 places differ", wrong);
}

// One warp multiplies 16 x 16 by 16 x 8 through shared memory, as attention does.
static void multiply_tile(Global<const bf16> a, Global<const bf16> b, Global<float> d) {
  SharedArena arena;
  Shared<bf16> a_tile = arena.take<bf16>(16 * 16), b_tile = arena.take<bf16>(16 * 16);
  const int lane = threadIdx.x;
  cp_async_16(a_tile + lane * 8, a + lane * 8, true);
  cp_async_16(b_tile + lane * 8, b + lane * 8, lane / 2 < 15);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  uint32_t x[4], y[4];
  ldmatrix_x4(x, a_tile + lane % 16 * 16 + lane / 16 * 8);
  ldmatrix_x4_trans(y, b_tile + lane % 16 * 16 + lane / 16 * 8);
  float sum[2][4] = {};
  mma_m16n8k16(sum[0], x, y[0], y[1]);
  mma_m16n8k16(sum[1], x, y[2], y[3]);
  for (int n = 0; n < 2; n++)
    for (int i = 0; i < 4; i++) d[(lane / 4 + i / 2 * 8) * 16 + n * 8 + lane % 4 * 2 + i % 2] = sum[n][i];
}
static void products() {
  Buffer<bf16> a(256), b(256);
  Buffer<float> d(256);
  for (int i = 0; i < 256; i++) a[i] = to_bf16(testing::normal()), b[i] = to_bf16(testing::normal());
  const Counters counted = launch(dim3(1), 32, 1024, [&] { multiply_tile(a, b, d); });
  testing::Deviation deviation;
  for (int r = 0; r < 16; r++)
    for (int c = 0; c < 16; c++) {
      double sum = 0;
      for (int k = 0; k < 15; k++) sum += double(to_float(a[r * 16 + k])) * to_float(b[k * 16 + c]);  // row 15 of b is zeros
      deviation.add(sum, d[r * 16 + c]);
    }
  testing::expect_close("product", deviation, 1e-6);
  expect(counted.mma == 2 && counted.ldmatrix == 2, "%llu mma, %llu ldmatrix", (unsigned long long)counted.mma, (unsigned long long)counted.ldmatrix);
}

static void rounding() {
  expect(to_bf16(1.00390625f).bits == 0x3f80, "a tie goes to even, down");
  expect(to_bf16(1.01171875f).bits == 0x3f82, "a tie goes to even, up");
  expect(to_bf16(-3.4e38f).bits == 0xff80, "beyond the largest is infinite");
  expect(to_bf16(NAN).bits == 0x7fff, "the GPU's NaN");
  expect(pack_bf16(1.0f, -2.0f) == 0xc0003f80u, "the first is low");
}

static void shuffles() {
  Buffer<int> out(32 * 6);
  launch(dim3(1), 32, 0, [&] {
    Global<int> o = out;
    const int lane = threadIdx.x;
    o[lane] = __shfl_xor_sync(~0u, lane, 5);
    o[32 + lane] = __shfl_sync(~0u, lane, 3, 8);
    o[64 + lane] = __shfl_up_sync(~0u, lane, 2, 16);
    o[96 + lane] = __shfl_down_sync(~0u, lane, 2, 16);
    o[128 + lane] = int(__ballot_sync(~0u, lane % 3 == 0));
    // Halves of a warp that meet apart.
    int sum = lane;
    if (lane < 16) for (int by = 8; by; by /= 2) sum += __shfl_xor_sync(0x0000ffffu, sum, by);
    else sum = __shfl_sync(0xffff0000u, sum, 20) + 10 * __any_sync(0xffff0000u, lane == 31) + 100 * __all_sync(0xffff0000u, lane > 16);
    o[160 + lane] = sum;
  });
  int wrong = 0;
  uint32_t thirds = 0;
  for (int lane = 0; lane < 32; lane++) if (lane % 3 == 0) thirds |= 1u << lane;
  for (int lane = 0; lane < 32; lane++) {
    wrong += out[lane] != (lane ^ 5);
    wrong += out[32 + lane] != lane / 8 * 8 + 3;
    wrong += out[64 + lane] != (lane % 16 >= 2 ? lane - 2 : lane);
    wrong += out[96 + lane] != (lane % 16 < 14 ? lane + 2 : lane);
    wrong += uint32_t(out[128 + lane]) != thirds;
    wrong += out[160 + lane] != (lane < 16 ? 120 : 30);
  }
  expect(wrong == 0, "%d values differ", wrong);
}

// A fault has one name in ascending order; in another order the same one may show as its counterpart.
struct Ascending {
  const uint64_t seed = emulator::options.seed;
  Ascending() { emulator::options.seed = 0; }
  ~Ascending() { emulator::options.seed = seed; }
};

static void shared_faults() {
  const Ascending order;
  auto with = [](void (*kernel)(Shared<float>)) {
    return [kernel] { launch(dim3(2), 64, 512, [kernel] { SharedArena arena; kernel(arena.take<float>(64)); }); };
  };
  const auto exchange = [](Shared<float> x) {
    x[threadIdx.x] = 1.0f;
    __syncthreads();
    (void)float(x[63 - threadIdx.x]);
  };
  with(exchange)();
  expect_fault("race: read after write", with([](Shared<float> x) { x[threadIdx.x] = 1.0f; (void)float(x[threadIdx.x / 2]); }));
  expect_fault("uninitialised shared", with([](Shared<float> x) { if (threadIdx.x > 40) x[threadIdx.x] = 1.0f; __syncthreads(); (void)float(x[threadIdx.x]); }));
  expect_fault("race: write after read", with([](Shared<float> x) {
    x[threadIdx.x] = 1.0f;
    __syncthreads();
    (void)float(x[(threadIdx.x + 1) % 64]);
    x[threadIdx.x] = 2.0f;
  }));
  expect_fault("race: write after write", with([](Shared<float> x) { x[threadIdx.x / 2] = 1.0f; }));
  // Within a warp __syncwarp is enough, between warps it is not.
  with([](Shared<float> x) { x[threadIdx.x] = 1.0f; __syncwarp(); (void)float(x[threadIdx.x ^ 31]); })();
  expect_fault("race: read after write", with([](Shared<float> x) { x[threadIdx.x] = 1.0f; __syncwarp(); (void)float(x[threadIdx.x % 32]); }));
  // A shuffle orders no memory.
  expect_fault("race: read after write", with([](Shared<float> x) { x[threadIdx.x] = 1.0f; __shfl_xor_sync(~0u, 1, 1); (void)float(x[threadIdx.x ^ 1]); }));
  // ldmatrix reads for the whole warp, also what the lane itself wrote.
  expect_fault("race: read after write", with([](Shared<float> x) {
    if (threadIdx.x >= 32) return;
    if (threadIdx.x < 8) store_vector(x + threadIdx.x * 4, float4{1, 2, 3, 4});
    uint32_t r[4];
    ldmatrix_x4(r, x.as<bf16>() + threadIdx.x % 8 * 8);
  }));
  expect_fault("shared index out of range: byte 256 of an array of 256", with([](Shared<float> x) { x[threadIdx.x + 1] = 1.0f; }));
  expect_fault("misaligned shared access", with([](Shared<float> x) { if (threadIdx.x == 0) store_vector(x + 1, float4{1, 2, 3, 4}); }));
  expect_fault("takes 256 bytes of shared memory, the launch gives 128", [] { launch(dim3(1), 32, 128, [] { SharedArena().take<float>(64); }); });
}

static void warp_faults() {
  const Ascending order;
  auto with = [](void (*kernel)()) { return [kernel] { launch(dim3(1), 64, 0, [kernel] { kernel(); }); }; };
  expect_fault("divergent __syncthreads", with([] {
    if (threadIdx.x < 7) __syncthreads();
    else
      __syncthreads();
  }));
  expect_fault("deadlock", with([] { if (threadIdx.x == 3) __syncthreads(); else __syncwarp(); }));
  expect_fault("__syncthreads after a thread has exited", with([] { if (threadIdx.x == 3) return; __syncthreads(); }));
  expect_fault("names lanes that have exited", with([] { if (threadIdx.x < 16) return; __shfl_xor_sync(~0u, 1, 1); }));
  expect_fault("names lanes that have exited", with([] { if (threadIdx.x >= 16) return; __shfl_xor_sync(~0u, 1, 1); }));
  expect_fault("is not in its own mask", with([] { __shfl_xor_sync(0xffffu, 1, 1); }));
  expect_fault("does not name", with([] { if (threadIdx.x % 32 < 16) __shfl_xor_sync(0xffffu, 1, 16); }));
  expect_fault("divergent warp", with([] {
    if (threadIdx.x < 16) __shfl_xor_sync(~0u, 1, 1);
    else
      __shfl_xor_sync(~0u, 1, 1);
  }));
}

static void copy_faults() {
  const Ascending order;
  Buffer<bf16> from(64, bf16{0});
  auto with = [&](void (*kernel)(Shared<bf16>, Global<const bf16>)) {
    return [&from, kernel] { launch(dim3(1), 32, 256, [&] { SharedArena arena; kernel(arena.take<bf16>(128), from); }); };
  };
  expect_fault("read of the target of a cp.async on its way", with([](Shared<bf16> to, Global<const bf16> from) {
    if (threadIdx.x == 0) cp_async_16(to, from, true);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    (void)bf16(to[threadIdx.x % 8]);
  }));
  expect_fault("exits with cp.async on its way", with([](Shared<bf16> to, Global<const bf16> from) { cp_async_16(to + threadIdx.x % 16 * 0, from, threadIdx.x == 0); }) );
  expect_fault("race: read after write", with([](Shared<bf16> to, Global<const bf16> from) {
    if (threadIdx.x == 0) cp_async_16(to, from, true);
    cp_async_commit();
    cp_async_wait<0>();
    (void)bf16(to[threadIdx.x % 8]);
  }));
  expect_fault("misaligned global read", with([](Shared<bf16> to, Global<const bf16> from) { if (threadIdx.x == 0) cp_async_16(to, from + 1, true); }));
  expect_fault("global read out of range", with([](Shared<bf16> to, Global<const bf16> from) { if (threadIdx.x == 0) cp_async_16(to, from + 64, true); }));
}

int main(int argc, char** argv) {
  return testing::run(argc, argv, {{"fragment_layouts", fragment_layouts}, {"products", products}, {"rounding", rounding}, {"shuffles", shuffles},
                                   {"shared_faults", shared_faults}, {"warp_faults", warp_faults}, {"copy_faults", copy_faults}});
}
