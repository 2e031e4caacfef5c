// Runs the blocks of a grid, and within a block its threads, in an order that the seed decides.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#include "block.h"
#include "shared_memory.h"
#include "warps.h"

namespace emulator {

// Where each thread begins.
inline void thread_entry() {
  Block& b = *block;
#ifdef EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &b.main_stack, &b.main_bytes);
#endif
  (*b.body)();
  Fiber& f = *b.now;
  if (!f.copies.empty()) fail(f.copies.back().here, "the thread exits with cp.async on its way");
  b.alive--;
  Warp& w = b.warps[f.warp];
  w.alive &= ~(1u << f.lane);
  for (const Arrival& a : w.arrivals)
    if (a.mask >> f.lane & 1) fail(a.site.here, "%s: the mask %08x names lanes that have exited (%08x are alive)", a.site.what, a.mask, w.alive);
  if (!w.alive) count_warp(b, f.warp);
  leave();
}

inline void resume(Block& b, Fiber& f) {
  b.now = &f;
#ifdef EMULATOR_ASAN
  __sanitizer_start_switch_fiber(&b.main_fake, f.stack, STACK_BYTES);
#endif
  switch_context(b.main, f.context);
#ifdef EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(b.main_fake, nullptr, nullptr);
#endif
}

inline void explain_deadlock(Block& b) {
  for (Fiber& f : b.fibers)
    if (f.state == State::AtWarp || f.state == State::AtBarrier) {
      snprintf(b.failure, sizeof b.failure, "deadlock: thread %u waits at %s (%s:%d, block %u,%u,%u)", f.id, f.site.what,
               base_name(f.site.here.file), f.site.here.line, b.index.x, b.index.y, b.index.z);
      break;
    }
  b.failed = true;
}

// Gives a worker the fibers, and the shared memory, that a launch needs.
inline void prepare_worker(Block& b, dim3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& body) {
  b.grid = grid;
  b.body = &body;
  b.threads = threads;
  for (size_t i = threads; i < b.fibers.size(); i++) munmap(b.fibers[i].stack, STACK_BYTES);
  b.fibers.resize(threads);
  b.warps.resize(threads / LANES);
  for (Fiber& f : b.fibers) if (!f.stack) {
    f.stack = static_cast<char*>(mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (f.stack == MAP_FAILED) { f.stack = nullptr; throw Fault{"no memory for the stack of a thread"}; }
  }
  b.shared.assign(shared_bytes, 0xff);
  b.shared_shadow.resize((shared_bytes + GRANULE - 1) / GRANULE);
  b.failed = false;
}

inline void run_block(Block& b, dim3 index) {
  b.index = index;
  b.run++;
  b.epoch = 1;
  b.at_barrier = 0;
  b.alive = b.threads;
  std::fill(b.shared.begin(), b.shared.end(), (unsigned char)0xff);
  b.pending.assign((b.shared.size() + 15) / 16, 0);
  for (Warp& w : b.warps) { w.arrivals.clear(); w.epoch = 1; w.alive = ALL_LANES; }
  for (unsigned i = 0; i < b.threads; i++) {
    Fiber& f = b.fibers[i];
    f.id = i;
    f.warp = i / LANES;
    f.lane = i % LANES;
    f.state = State::Ready;
    f.copies.clear();
    f.groups.clear();
    f.accesses.clear();
#ifdef EMULATOR_ASAN
    __asan_unpoison_memory_region(f.stack, STACK_BYTES);  // frames of a thread that never returned
#endif
    prepare(f.context, f.stack, STACK_BYTES, thread_entry);
  }
  const bool shuffled = b.options.seed != 0;
  const unsigned warps = unsigned(b.warps.size());
  while (b.alive && !b.failed) {
    bool ran = false, waits = false;
    const unsigned first_warp = shuffled ? unsigned(next_random(b.random) % warps) : 0;
    for (unsigned i = 0; i < warps; i++) {
      // Every other warp sits out a round, so that warps drift apart as far as barriers let them.
      if (shuffled && next_random(b.random) >> 40 & 1) { waits = true; continue; }
      const unsigned warp = (first_warp + i) % warps, first_lane = shuffled ? unsigned(next_random(b.random) % LANES) : 0;
      for (unsigned lane = 0; lane < LANES && !b.failed; lane++) {
        Fiber& f = b.fibers[warp * LANES + (lane ^ first_lane)];
        if (f.state != State::Ready) continue;
        ran = true;
        resume(b, f);
      }
    }
    if (!ran && !waits && !b.failed) explain_deadlock(b);
  }
  b.counters.blocks++;
}

// Workers keep their stacks between launches.
inline std::unique_ptr<Block> take_worker(std::unique_ptr<Block> returned = nullptr) {
  static std::mutex mutex;
  static std::vector<std::unique_ptr<Block>> idle;
  std::lock_guard<std::mutex> lock(mutex);
  if (returned) { idle.push_back(std::move(returned)); return nullptr; }
  if (idle.empty()) return std::make_unique<Block>();
  std::unique_ptr<Block> worker = std::move(idle.back());
  idle.pop_back();
  return worker;
}

// Runs the given blocks of a grid of any size. Throws the first fault.
inline Counters launch_blocks(dim3 grid, std::vector<dim3> blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel,
                              const Options& options = emulator::options) {
  static std::atomic<uint64_t> launched{1};
  if (threads == 0 || threads % LANES || threads > 1024) throw Fault{"blocks have whole warps, at most 1,024 threads; found " + std::to_string(threads) + " threads"};
  const uint64_t first = launched.fetch_add(blocks.size());
  if (first + blocks.size() > UINT32_MAX) throw Fault{"more than 2^32 blocks in one process"};
  uint64_t random = (options.seed * 0x9e3779b97f4a7c15ull) | 1;
  if (options.seed)
    for (size_t i = blocks.size(); i > 1; i--) std::swap(blocks[i - 1], blocks[next_random(random) % i]);

  std::atomic<size_t> next{0};
  std::mutex mutex;
  Counters total;
  size_t failed_at = SIZE_MAX;
  std::string failure;
  auto work = [&] {
    std::unique_ptr<Block> worker = take_worker();
    Block& b = *worker;
    Block* outer = block;
    block = &b;
    b.options = options;
    b.counters = Counters{};
    size_t i = 0;
    try {
      prepare_worker(b, grid, threads, shared_bytes, kernel);
      while (!b.failed && (i = next++) < blocks.size()) {
        b.first_number = uint32_t(first);
        b.number = uint32_t(first + i);
        b.random = (random + i * 0x9e3779b97f4a7c15ull) | 1;
        run_block(b, blocks[i]);
      }
    } catch (const Fault& fault) {
      b.failed = true;
      snprintf(b.failure, sizeof b.failure, "%s", fault.what.c_str());
    }
    block = outer;
    std::lock_guard<std::mutex> lock(mutex);
    total.add(b.counters);
    if (b.failed) {
      next = blocks.size();
      if (i < failed_at) { failed_at = i; failure = b.failure; }
    }
    take_worker(std::move(worker));
  };
  std::vector<std::thread> others;
  for (unsigned i = 1; i < options.workers && i < blocks.size(); i++) others.emplace_back(work);
  work();
  for (std::thread& t : others) t.join();
  if (failed_at != SIZE_MAX) throw Fault{failure};
  return total;
}

// Runs all blocks of a grid. Throws the first fault.
inline Counters launch(dim3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel, const Options& options = emulator::options) {
  std::vector<dim3> blocks;
  blocks.reserve(size_t(grid.x) * grid.y * grid.z);
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) blocks.emplace_back(x, y, z);
  return launch_blocks(grid, std::move(blocks), threads, shared_bytes, kernel, options);
}

}  // namespace emulator
