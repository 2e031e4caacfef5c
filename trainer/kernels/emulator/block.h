// The state of a running block and of its threads.
#pragma once
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>
#include <sys/mman.h>
#include "cuda_types.h"
#include "fibers.h"
#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATOR_ASAN 1
#endif
#endif
#ifdef EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

constexpr unsigned LANES = 32;
constexpr uint32_t ALL_LANES = 0xffffffffu;
constexpr size_t STACK_BYTES = 256 << 10;

// What a launch throws: the first fault of its kernel.
struct Fault { std::string what; };

// A place in a kernel's source.
struct Here { const char* file; int line; };
#define EMULATOR_HERE emulator::Here here = {__builtin_FILE(), __builtin_LINE()}

struct Options {
  uint64_t seed = 1;               // of the order of blocks, warps and lanes; 0: ascending
  bool shared_races = true;        // races and uninitialised reads in shared memory
  bool global_races = true;        // races within and between the blocks of a launch in global memory
  bool global_initialised = true;  // reads of global memory that nobody has written
  bool count_traffic = false;      // bank conflicts of plain accesses and sectors of global ones
  unsigned workers = 1;            // OS threads; with one the check of races between blocks is exact
};
inline Options options;

struct Counters {
  uint64_t blocks = 0, switches = 0, barriers = 0, shuffles = 0, mma = 0;
  uint64_t ldmatrix = 0, ldmatrix_conflicts = 0;  // matrices of four; additional passes
  // With count_traffic. Accesses of a warp; passes beyond the least; 32-byte sectors, and those that the bytes would fill.
  uint64_t shared_accesses = 0, shared_conflicts = 0;
  uint64_t load_accesses = 0, load_bytes = 0, load_sectors = 0, load_ideal = 0;
  uint64_t store_accesses = 0, store_bytes = 0, store_sectors = 0, store_ideal = 0;

  void add(const Counters& o) {
    static_assert(sizeof(Counters) == 17 * sizeof(uint64_t), "nothing but counters");
    const uint64_t* from = &o.blocks;
    for (size_t i = 0; i < 17; i++) reinterpret_cast<uint64_t*>(this)[i] += from[i];
  }
};

enum class State { Ready, AtWarp, AtBarrier, Done };

struct Site {
  const char* what;
  Here here;
  bool operator==(const Site& o) const { return what == o.what && here.line == o.here.line && here.file == o.here.file; }
};

// A copy of 16 bytes that has not arrived; `from` null: zeros.
struct AsyncCopy { uint32_t to; const unsigned char* from; Here here; };

// A plain access of a lane, for the counters.
enum class Kind : uint8_t { GlobalLoad, GlobalStore, SharedLoad, SharedStore };
struct Access { Here here; Kind kind; uint8_t bytes; uint64_t address; };

struct Fiber {
  Context context{};
  char* stack = nullptr;
  void* fake_stack = nullptr;
  State state = State::Done;
  Site site{};
  unsigned id = 0, warp = 0, lane = 0;
  std::vector<AsyncCopy> copies;     // in order; the committed ones first
  std::vector<size_t> groups;        // sizes of the committed groups
  std::vector<Access> accesses;
};

// Lanes of a warp that have come to the same collective.
struct Arrival { uint32_t mask, arrived; Site site; };
struct Warp {
  void* arguments[LANES] = {};
  std::vector<Arrival> arrivals;
  uint32_t epoch = 1;  // grows with each __syncwarp
  uint32_t alive = ALL_LANES;
};

// Who last wrote or read two bytes, and when. Blocks are numbered through all launches, so that nothing needs clearing.
struct Touch { uint32_t block = 0, epoch = 0, warp_epoch = 0; int32_t thread = 0; };
struct Shadow { Touch write, read; };
constexpr size_t GRANULE = 2;

struct Block {
  Options options;
  Counters counters;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  dim3 index, grid;
  unsigned threads = 0;
  std::vector<unsigned char> shared;
  std::vector<Shadow> shared_shadow;
  std::vector<uint8_t> pending;  // a flag for each 16 bytes of shared memory: a copy is on its way
  uint32_t run = 0;              // number of this block on this worker
  uint32_t number = 0, first_number = 0;  // of this block, and of the first of its launch, through all launches
  uint32_t epoch = 1;            // grows with each __syncthreads
  Fiber* now = nullptr;
  Context main{};
  unsigned at_barrier = 0, alive = 0;
  Site barrier_site{};
  const std::function<void()>* body = nullptr;
  uint64_t random = 1;
  bool failed = false;
  char failure[512] = "";
#ifdef EMULATOR_ASAN
  void* main_fake = nullptr;
  const void* main_stack = nullptr;
  size_t main_bytes = 0;
#endif

  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    for (Fiber& f : fibers) if (f.stack) munmap(f.stack, STACK_BYTES);
  }
};
inline thread_local Block* block = nullptr;

// Leaves the running thread until the scheduler comes back to it.
inline void switch_out() {
  Block& b = *block;
  Fiber& f = *b.now;
  b.counters.switches++;
#ifdef EMULATOR_ASAN
  __sanitizer_start_switch_fiber(f.state == State::Done ? nullptr : &f.fake_stack, b.main_stack, b.main_bytes);
#endif
  switch_context(f.context, b.main);
#ifdef EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(b.now->fake_stack, &b.main_stack, &b.main_bytes);
#endif
}

[[noreturn]] inline void leave() {
  block->now->state = State::Done;
  for (;;) switch_out();
}

// Ends the launch; allocates nothing, because no destructor runs on the stack that is left.
[[noreturn]] __attribute__((format(printf, 2, 3))) inline void fail(Here here, const char* format, ...) {
  Block& b = *block;
  if (!b.failed) {
    va_list arguments;
    va_start(arguments, format);
    size_t n = size_t(vsnprintf(b.failure, sizeof b.failure, format, arguments));
    va_end(arguments);
    if (n > sizeof b.failure) n = sizeof b.failure;
    const char* name = strrchr(here.file, '/');
    snprintf(b.failure + n, sizeof b.failure - n, " (%s:%d, block %u,%u,%u, thread %u)", name ? name + 1 : here.file, here.line,
             b.index.x, b.index.y, b.index.z, b.now->id);
    b.failed = true;
  }
  leave();
}

inline uint64_t next_random(uint64_t& state) {  // xorshift64
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

// An index together with the place in the source that it is used in.
struct Index {
  long long i;
  Here here;
  template <class I, class = std::enable_if_t<std::is_convertible<I, long long>::value>>
  Index(const I& i, EMULATOR_HERE) : i((long long)(i)), here(here) {}
};

// One of threadIdx.x and so on: read from the running block.
template <unsigned (*READ)()> struct Register { operator unsigned() const { return READ(); } };
template <unsigned (*X)(), unsigned (*Y)(), unsigned (*Z)()> struct Registers { Register<X> x; Register<Y> y; Register<Z> z; };
inline unsigned zero() { return 0; }
inline unsigned one() { return 1; }
inline unsigned thread_x() { return block->now->id; }
inline unsigned threads_x() { return block->threads; }
inline unsigned block_x() { return block->index.x; }
inline unsigned block_y() { return block->index.y; }
inline unsigned block_z() { return block->index.z; }
inline unsigned grid_x() { return block->grid.x; }
inline unsigned grid_y() { return block->grid.y; }
inline unsigned grid_z() { return block->grid.z; }

}  // namespace emulator

inline constexpr emulator::Registers<emulator::thread_x, emulator::zero, emulator::zero> threadIdx{};
inline constexpr emulator::Registers<emulator::threads_x, emulator::one, emulator::one> blockDim{};
inline constexpr emulator::Registers<emulator::block_x, emulator::block_y, emulator::block_z> blockIdx{};
inline constexpr emulator::Registers<emulator::grid_x, emulator::grid_y, emulator::grid_z> gridDim{};
