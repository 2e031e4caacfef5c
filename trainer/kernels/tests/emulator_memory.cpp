// The emulator's global memory, its counters and its launches.
#include "../device.cuh"
#include "testing.h"

using emulator::Buffer;
using emulator::Counters;
using emulator::launch;
using testing::expect;
using testing::expect_fault;

static void global_faults() {
  const uint64_t seed = emulator::options.seed;
  Buffer<float> x(64, 1.0f);
  emulator::options.seed = 0;  // in another order a race may be a write after a read
  auto with = [&](void (*kernel)(Global<float>)) { return [&x, kernel] { launch(dim3(1), 64, 0, [&] { kernel(x); }); }; };
  with([](Global<float> x) { x[threadIdx.x] += 1.0f; })();
  expect(x[63] == 2.0f, "the kernel adds");
  expect_fault("global write out of range: bytes 256 to 260 of 256", with([](Global<float> x) { x[threadIdx.x + 1] = 1.0f; }));
  expect_fault("global read out of range: bytes -4 to 0 of 256", with([](Global<float> x) { (void)float(x[(long long)threadIdx.x - 1]); }));
  expect_fault("misaligned global read", with([](Global<float> x) { if (threadIdx.x == 0) (void)load_vector<float4>(x + 1); }));
  expect_fault("misaligned global write", with([](Global<float> x) { if (threadIdx.x == 0) store_vector(x + 2, float4{1, 2, 3, 4}); }));
  expect_fault("null pointer", [] { launch(dim3(1), 32, 0, [] { (void)float(Global<const float>()[threadIdx.x]); }); });
  expect_fault("race: read after write", with([](Global<float> x) { x[threadIdx.x] = 1.0f; (void)float(x[threadIdx.x / 2]); }));
  with([](Global<float> x) { x[threadIdx.x] = 1.0f; __syncthreads(); (void)float(x[threadIdx.x ^ 32]); })();
  Buffer<float> fresh(64);
  fresh[0] = 1.0f;
  launch(dim3(1), 32, 0, [&] { (void)float(fresh.device()[0]); });
  expect_fault("uninitialised global", [&] { launch(dim3(1), 32, 0, [&] { (void)float(fresh.device()[1]); }); });
  emulator::options.seed = seed;
}

static void races_between_blocks() {
  Buffer<bf16> x(128, bf16{0});
  auto with = [&](void (*kernel)(Global<bf16>)) { return [&x, kernel] { launch(dim3(2), 32, 0, [&] { kernel(x); }); }; };
  const auto own = [](Global<bf16> x) { x[blockIdx.x * 32 + threadIdx.x] = bf16{1}; };
  with(own)();
  with(own)();  // launches follow each other
  with([](Global<bf16> x) { (void)bf16(x[threadIdx.x]); })();
  expect_fault("race between blocks: write after write", with([](Global<bf16> x) { x[blockIdx.x * 31 + threadIdx.x] = bf16{1}; }));
  expect_fault("race between blocks", with([](Global<bf16> x) { if (blockIdx.x) x[threadIdx.x] = bf16{1}; else (void)bf16(x[threadIdx.x]); }));
  // A barrier of a block orders nothing between blocks.
  expect_fault("race between blocks", with([](Global<bf16> x) { (void)bf16(x[threadIdx.x]); __syncthreads(); if (blockIdx.x) x[threadIdx.x] = bf16{1}; }));
}

// The last block of a grid of logits of real size: an index of 32 bits would be negative.
static void addresses_of_real_size() {
  constexpr long long ROWS = 65536, COLUMNS = 49152;
  Buffer<bf16> logits(ROWS * COLUMNS);
  const auto fill = [&](bool narrow) {
    return [&logits, narrow] {
      emulator::launch_blocks(dim3(ROWS), {dim3(ROWS - 1, 0, 0)}, 32, 0, [&] {
        const Global<bf16> row = logits.device() + (narrow ? (long long)int(uint32_t(blockIdx.x) * uint32_t(COLUMNS)) : blockIdx.x * COLUMNS);
        for (int i = threadIdx.x; i < COLUMNS; i += 32) row[i] = bf16{1};
      });
    };
  };
  fill(false)();
  const Buffer<bf16>& read = logits;
  expect(read[ROWS * COLUMNS - 1].bits == 1 && !read.written((ROWS - 1) * COLUMNS - 1), "only the last row is written");
  expect_fault("out of range", fill(true));
}

static void traffic() {
  emulator::Options counting;
  counting.count_traffic = true;
  Buffer<bf16> x(1024, bf16{0}), y(1024);
  auto count = [&](const std::function<void()>& kernel) { return launch(dim3(1), 32, 32 * 33 * 4, kernel, counting); };
  Counters c = count([&] { store_vector(y.device() + threadIdx.x * 8, load_vector<uint4>(x.device() + threadIdx.x * 8)); });
  expect(c.load_accesses == 1 && c.load_sectors == 16 && c.load_ideal == 16 && c.load_bytes == 512, "512 bytes are 16 sectors, found %llu", (unsigned long long)c.load_sectors);
  expect(c.store_sectors == 16 && c.store_ideal == 16, "stores too, found %llu", (unsigned long long)c.store_sectors);
  c = count([&] { (void)bf16(x.device()[threadIdx.x * 16]); });
  expect(c.load_sectors == 32 && c.load_ideal == 2, "a stride of 32 bytes takes 32 sectors, found %llu", (unsigned long long)c.load_sectors);
  c = count([&] { for (int i = 0; i < 4; i++) (void)bf16(x.device()[i * 32 + threadIdx.x]); });
  expect(c.load_accesses == 4 && c.load_sectors == 8, "a loop is four accesses of two sectors, found %llu, %llu", (unsigned long long)c.load_accesses, (unsigned long long)c.load_sectors);

  auto shared_access = [&](int stride) {
    return count([stride] { SharedArena arena; arena.take<float>(32 * 33)[threadIdx.x * stride] = 1.0f; }).shared_conflicts;
  };
  expect(shared_access(1) == 0 && shared_access(33) == 0, "odd strides have no conflicts");
  expect(shared_access(2) == 1 && shared_access(32) == 31, "even ones have, found %llu, %llu", (unsigned long long)shared_access(2), (unsigned long long)shared_access(32));
  c = count([] { SharedArena arena; store_vector(arena.take<float>(128) + threadIdx.x * 4, float4{1, 2, 3, 4}); });
  expect(c.shared_conflicts == 0, "quarters of a warp are served in turn");
  // Rows of 128 bytes: ldmatrix finds all eight in the same banks, unless the chunks are swizzled.
  for (bool swizzled : {false, true}) {
    c = count([swizzled] {
      SharedArena arena;
      const Shared<bf16> tile = arena.take<bf16>(32 * 64);
      const int lane = threadIdx.x;
      for (int i = 0; i < 64; i++) tile[i * 32 + lane] = bf16{0};
      __syncthreads();
      uint32_t r[4];
      ldmatrix_x4(r, tile + lane * 64 + (swizzled ? lane % 8 * 8 : 0));
    });
    expect(c.ldmatrix_conflicts == (swizzled ? 0 : 28), "swizzled %d: %llu conflicts", swizzled, (unsigned long long)c.ldmatrix_conflicts);
  }
}

// Every order and number of workers gives the same bits; a kernel without a barrier's order does not hide.
static void orders() {
  Buffer<float> x(4096), out(16);
  for (size_t i = 0; i < x.size(); i++) x[i] = testing::normal();
  std::vector<float> first;
  for (uint64_t seed : {0, 1, 2, 3})
    for (unsigned workers : {1u, 2u}) {
      emulator::Options o;
      o.seed = seed;
      o.workers = workers;
      const Counters c = launch(dim3(4, 2, 2), 64, 64 * 4, [&] {
        SharedArena arena;
        const Shared<float> sums = arena.take<float>(64);
        const int number = (blockIdx.z * 2 + blockIdx.y) * 4 + blockIdx.x, thread = threadIdx.x;
        float sum = 0;
        for (int i = thread; i < 256; i += 64) sum += x.device()[number * 256 + i];
        sums[thread] = sum;
        for (int half = 32; half; half /= 2) {
          __syncthreads();
          if (thread < half) sums[thread] += sums[thread + half];
        }
        if (thread == 0) out.device()[number] = sums[0];
      }, o);
      expect(c.blocks == 16 && c.barriers == 96, "%llu blocks", (unsigned long long)c.blocks);
      std::vector<float> got;
      for (size_t i = 0; i < 16; i++) got.push_back(out[i]);
      if (first.empty()) first = got;
      expect(memcmp(first.data(), got.data(), 64) == 0, "seed %llu, %u workers: other bits", (unsigned long long)seed, workers);
    }
  // The first fault in the order of blocks wins, and the workers go on afterwards.
  emulator::Options two;
  two.workers = 2;
  expect_fault("out of range", [&] { launch(dim3(64), 32, 0, [&] { out.device()[16] = 1.0f; }, two); });
  expect_fault("whole warps", [] { launch(dim3(1), 33, 0, [] {}); });
}

int main(int argc, char** argv) {
  return testing::run(argc, argv, {{"global_faults", global_faults}, {"races_between_blocks", races_between_blocks},
                                   {"addresses_of_real_size", addresses_of_real_size}, {"traffic", traffic}, {"orders", orders}});
}
