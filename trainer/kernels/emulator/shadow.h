// The rule for races: two accesses to the same bytes, one of them a write, need a barrier between them.
#pragma once
#include "block.h"

namespace emulator {

// In place of a thread: several lanes of a warp, several warps, several blocks.
constexpr int32_t LANES_OF = 1 << 20, WARPS = 1 << 29, BLOCKS = 1 << 30;
inline int32_t lanes_of(unsigned warp) { return LANES_OF + int32_t(warp); }
inline unsigned warp_of(int32_t thread) { return thread >= LANES_OF ? unsigned(thread - LANES_OF) : unsigned(thread) / LANES; }

// Has `before`, an access in the same launch, been made visible to `now`?
inline bool ordered(const Touch& before, const Touch& now) {
  if (before.block != now.block || before.thread == BLOCKS) return false;
  if (before.thread == now.thread && before.thread < LANES_OF) return true;
  if (before.epoch < now.epoch) return true;
  return before.thread != WARPS && warp_of(before.thread) == warp_of(now.thread) && before.warp_epoch < now.warp_epoch;
}

// Notes a read or write of one granule; the text of the race if it is one. Accesses of blocks before `first` are forgotten.
inline const char* touch(Shadow& s, const Touch& now, uint32_t first, bool write) {
  const bool was_written = s.write.block >= first, was_read = s.read.block >= first;
  if (was_written && !ordered(s.write, now)) {
    if (s.write.block != now.block) return write ? "race between blocks: write after write" : "race between blocks: read after write";
    return write ? "race: write after write" : "race: read after write";
  }
  if (write) {
    if (was_read && !ordered(s.read, now))
      return s.read.block != now.block || s.read.thread == BLOCKS ? "race between blocks: write after read" : "race: write after read";
    s.write = now;
    s.read.block = 0;
    return nullptr;
  }
  int32_t reader = now.thread;
  if (was_read) {
    if (s.read.thread == BLOCKS || s.read.block != now.block) reader = BLOCKS;
    else if (s.read.epoch == now.epoch && s.read.thread != now.thread)
      reader = s.read.thread != WARPS && warp_of(s.read.thread) == warp_of(now.thread) ? lanes_of(warp_of(now.thread)) : WARPS;
  }
  s.read = now;
  s.read.thread = reader;
  return nullptr;
}

// The running thread, or its whole warp.
inline Touch touch_now(uint32_t number, bool whole_warp = false) {
  const Block& b = *block;
  const Fiber& f = *b.now;
  return {number, b.epoch, b.warps[f.warp].epoch, whole_warp ? lanes_of(f.warp) : int32_t(f.id)};
}

}  // namespace emulator
