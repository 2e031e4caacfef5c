// Barriers, shuffles and votes. The last lane to come does the work for all.
#pragma once
#include "block.h"
#include "traffic.h"

namespace emulator {

inline const char* base_name(const char* file) {
  const char* slash = strrchr(file, '/');
  return slash ? slash + 1 : file;
}

// Meets the lanes of `mask`; `work` gets every lane's arguments and the mask. Only __syncwarp (`fence`) orders memory.
template <class Arguments, class Work>
void collective(uint32_t mask, Arguments* arguments, Site site, bool fence, Work work) {
  Block& b = *block;
  Fiber& f = *b.now;
  Warp& w = b.warps[f.warp];
  if (!(mask >> f.lane & 1)) fail(site.here, "%s: lane %u is not in its own mask %08x", site.what, f.lane, mask);
  if (mask & ~w.alive) fail(site.here, "%s: the mask %08x names lanes that have exited (%08x are alive)", site.what, mask, w.alive);
  Arrival* arrival = nullptr;
  for (Arrival& a : w.arrivals)
    if (a.mask & mask) {
      if (a.mask != mask) fail(site.here, "divergent warp: %s with mask %08x meets %s with mask %08x", site.what, mask, a.site.what, a.mask);
      if (!(a.site == site))
        fail(site.here, "divergent warp: %s meets %s at %s:%d", site.what, a.site.what, base_name(a.site.here.file), a.site.here.line);
      arrival = &a;
    }
  if (!arrival) {
    w.arrivals.push_back({mask, 0, site});
    arrival = &w.arrivals.back();
  }
  w.arguments[f.lane] = arguments;
  arrival->arrived |= 1u << f.lane;
  if (arrival->arrived != mask) {
    f.state = State::AtWarp;
    f.site = site;
    switch_out();
    return;
  }
  w.arrivals.erase(w.arrivals.begin() + (arrival - w.arrivals.data()));
  Arguments* all[LANES];
  for (unsigned i = 0; i < LANES; i++) all[i] = mask >> i & 1 ? static_cast<Arguments*>(w.arguments[i]) : nullptr;
  work(all, mask);
  if (mask == ALL_LANES) count_warp(b, f.warp);
  if (fence) w.epoch++;
  for (unsigned i = 0; i < LANES; i++)
    if (mask >> i & 1) b.fibers[f.warp * LANES + i].state = State::Ready;
}

inline void barrier(Site site) {
  Block& b = *block;
  Fiber& f = *b.now;
  if (b.alive != b.fibers.size()) fail(site.here, "__syncthreads after a thread has exited");
  if (b.at_barrier && !(b.barrier_site == site))
    fail(site.here, "divergent __syncthreads: meets the one at %s:%d", base_name(b.barrier_site.here.file), b.barrier_site.here.line);
  b.barrier_site = f.site = site;
  if (++b.at_barrier < b.fibers.size()) {
    f.state = State::AtBarrier;
    switch_out();
    return;
  }
  for (unsigned warp = 0; warp < b.warps.size(); warp++) count_warp(b, warp);
  b.at_barrier = 0;
  b.epoch++;
  b.counters.barriers++;
  for (Fiber& other : b.fibers) other.state = State::Ready;
}

template <class T> struct ShuffleArguments { T value; unsigned from; T result; };
template <class T> T shuffle(uint32_t mask, T value, unsigned from, Site site) {
  ShuffleArguments<T> mine{value, from, value};
  collective(mask, &mine, site, false, [site](ShuffleArguments<T>* const* all, uint32_t mask) {
    block->counters.shuffles++;
    for (unsigned i = 0; i < LANES; i++) {
      if (!(mask >> i & 1)) continue;
      if (!(mask >> all[i]->from & 1)) fail(site.here, "%s: lane %u reads lane %u, which the mask %08x does not name", site.what, i, all[i]->from, mask);
      all[i]->result = all[all[i]->from]->value;
    }
  });
  return mine.result;
}

// The lanes whose predicate holds.
inline uint32_t ballot(uint32_t mask, bool predicate, Site site) {
  struct Arguments { bool predicate; uint32_t result; } mine{predicate, 0};
  collective(mask, &mine, site, false, [](Arguments* const* all, uint32_t mask) {
    uint32_t result = 0;
    for (unsigned i = 0; i < LANES; i++) if (mask >> i & 1 && all[i]->predicate) result |= 1u << i;
    for (unsigned i = 0; i < LANES; i++) if (mask >> i & 1) all[i]->result = result;
  });
  return mine.result;
}

}  // namespace emulator

inline void __syncthreads(EMULATOR_HERE) { emulator::barrier({"__syncthreads", here}); }

inline void __syncwarp(uint32_t mask = emulator::ALL_LANES, EMULATOR_HERE) {
  if (mask != emulator::ALL_LANES) emulator::fail(here, "__syncwarp of part of a warp (%08x) is not emulated", mask);
  int none = 0;
  emulator::collective(mask, &none, {"__syncwarp", here}, true, [](int* const*, uint32_t) {});
}

// Shuffles within segments of `width` lanes, as in the CUDA C++ Programming Guide, "Warp Shuffle Functions".
template <class T> T __shfl_sync(uint32_t mask, T value, int from, int width = 32, EMULATOR_HERE) {
  const unsigned lane = emulator::block->now->lane, segment = lane & ~unsigned(width - 1);
  return emulator::shuffle(mask, value, segment | (unsigned(from) & unsigned(width - 1)), {"__shfl_sync", here});
}
template <class T> T __shfl_xor_sync(uint32_t mask, T value, int by, int width = 32, EMULATOR_HERE) {
  const unsigned lane = emulator::block->now->lane, segment = lane & ~unsigned(width - 1), from = (lane ^ unsigned(by)) % 32;
  return emulator::shuffle(mask, value, from < segment + unsigned(width) ? from : lane, {"__shfl_xor_sync", here});
}
template <class T> T __shfl_up_sync(uint32_t mask, T value, unsigned by, int width = 32, EMULATOR_HERE) {
  const unsigned lane = emulator::block->now->lane, segment = lane & ~unsigned(width - 1);
  return emulator::shuffle(mask, value, lane >= segment + by ? lane - by : lane, {"__shfl_up_sync", here});
}
template <class T> T __shfl_down_sync(uint32_t mask, T value, unsigned by, int width = 32, EMULATOR_HERE) {
  const unsigned lane = emulator::block->now->lane, segment = lane & ~unsigned(width - 1);
  return emulator::shuffle(mask, value, lane + by < segment + unsigned(width) ? lane + by : lane, {"__shfl_down_sync", here});
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate, EMULATOR_HERE) { return emulator::ballot(mask, predicate, {"__ballot_sync", here}); }
inline int __any_sync(uint32_t mask, int predicate, EMULATOR_HERE) { return emulator::ballot(mask, predicate, {"__any_sync", here}) != 0; }
inline int __all_sync(uint32_t mask, int predicate, EMULATOR_HERE) { return emulator::ballot(mask, predicate, {"__all_sync", here}) == mask; }
