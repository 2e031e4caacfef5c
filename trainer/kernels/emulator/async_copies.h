// cp.async. Data arrives when it is waited for and no sooner.
#pragma once
#include "block.h"
#include "global_memory.h"
#include "shared_memory.h"

// 16 bytes; zeros where `in` is false, and then `from` is not read.
template <class S, class T> void cp_async_16(Shared<S> to, Global<T> from, bool in, EMULATOR_HERE) {
  using namespace emulator;
  Block& b = *block;
  to.check(16, 16, here);
  touch_shared(to.at, 16, true, false, here);
  record(here, Kind::SharedStore, 16, to.at);
  if (in) {
    touch_global(from.region, from.at, 16, 16, false, here);
    record(here, Kind::GlobalLoad, 16, uintptr_t(from.at));
  }
  b.pending[to.at / 16] = 1;
  b.now->copies.push_back({uint32_t(to.at), in ? from.at : nullptr, here});
}

inline void cp_async_commit() {
  emulator::Fiber& f = *emulator::block->now;
  size_t committed = 0;
  for (size_t n : f.groups) committed += n;
  f.groups.push_back(f.copies.size() - committed);
}

// Waits until at most N committed groups of this thread are on their way. Other threads see the data after a barrier.
template <int N> void cp_async_wait() {
  using namespace emulator;
  Block& b = *block;
  Fiber& f = *b.now;
  size_t arrived = 0;
  while (f.groups.size() > size_t(N)) {
    arrived += f.groups.front();
    f.groups.erase(f.groups.begin());
  }
  for (size_t i = 0; i < arrived; i++) {
    const AsyncCopy copy = f.copies[i];
    if (copy.from) memcpy(&b.shared[copy.to], copy.from, 16);
    else memset(&b.shared[copy.to], 0, 16);
    b.pending[copy.to / 16] = 0;
    for (size_t g = copy.to / GRANULE; g < (copy.to + 16) / GRANULE; g++) b.shared_shadow[g].write = touch_now(b.run);
  }
  f.copies.erase(f.copies.begin(), f.copies.begin() + long(arrived));
}
