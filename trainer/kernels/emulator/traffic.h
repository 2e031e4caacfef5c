// Counts what a warp's plain accesses cost: passes over the banks of shared memory, 32-byte sectors of global memory.
// Fibers do not run in lockstep. The accesses that lanes make between two meetings of the warp are put together by place in the
// source and by how often the lane has been there.
#pragma once
#include <algorithm>
#include "block.h"

namespace emulator {

inline void record(Here here, Kind kind, size_t bytes, uint64_t address) {
  Block& b = *block;
  if (b.options.count_traffic) b.now->accesses.push_back({here, kind, uint8_t(bytes), address});
}

struct LaneAccess { Access access; unsigned occurrence, lane; };

inline bool same_place(const Access& a, const Access& b) {
  return a.here.line == b.here.line && a.here.file == b.here.file && a.kind == b.kind && a.bytes == b.bytes;
}

// Passes beyond the first of each phase: a phase moves 128 bytes, and a bank gives one 4-byte word.
inline uint64_t bank_conflicts(const LaneAccess* first, const LaneAccess* last) {
  const unsigned bytes = first->access.bytes, lanes_per_phase = bytes <= 4 ? 32 : 128 / bytes;
  uint64_t conflicts = 0;
  for (unsigned phase = 0; phase < LANES; phase += lanes_per_phase) {
    std::vector<uint64_t> words;
    for (const LaneAccess* a = first; a != last; a++)
      if (a->lane >= phase && a->lane < phase + lanes_per_phase)
        for (uint64_t w = a->access.address / 4; w <= (a->access.address + bytes - 1) / 4; w++) words.push_back(w);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    unsigned banks[32] = {}, worst = 1;
    for (uint64_t w : words) worst = std::max(worst, ++banks[w % 32]);
    conflicts += worst - 1;
  }
  return conflicts;
}

inline void count_access(Counters& c, const LaneAccess* first, const LaneAccess* last) {
  const Kind kind = first->access.kind;
  if (kind == Kind::SharedLoad || kind == Kind::SharedStore) {
    c.shared_accesses++;
    c.shared_conflicts += bank_conflicts(first, last);
    return;
  }
  std::vector<uint64_t> sectors;
  std::vector<uint64_t> addresses;
  const uint64_t bytes = first->access.bytes;
  for (const LaneAccess* a = first; a != last; a++) {
    addresses.push_back(a->access.address);
    for (uint64_t s = a->access.address / 32; s <= (a->access.address + bytes - 1) / 32; s++) sectors.push_back(s);
  }
  auto distinct = [](std::vector<uint64_t>& values) {
    std::sort(values.begin(), values.end());
    return uint64_t(std::unique(values.begin(), values.end()) - values.begin());
  };
  const uint64_t moved = distinct(addresses) * bytes, touched = distinct(sectors), ideal = (moved + 31) / 32;
  const bool load = kind == Kind::GlobalLoad;
  (load ? c.load_accesses : c.store_accesses)++;
  (load ? c.load_bytes : c.store_bytes) += moved;
  (load ? c.load_sectors : c.store_sectors) += touched;
  (load ? c.load_ideal : c.store_ideal) += ideal;
}

// All lanes of the warp have come to one place.
inline void count_warp(Block& b, unsigned warp) {
  if (!b.options.count_traffic) return;
  std::vector<LaneAccess> all;
  for (unsigned lane = 0; lane < LANES; lane++) {
    auto& accesses = b.fibers[warp * LANES + lane].accesses;
    std::vector<std::pair<Access, unsigned>> seen;
    for (const Access& a : accesses) {
      auto at = std::find_if(seen.begin(), seen.end(), [&](auto& s) { return same_place(s.first, a); });
      if (at == seen.end()) at = seen.insert(at, {a, 0});
      all.push_back({a, at->second++, lane});
    }
    accesses.clear();
  }
  auto key = [](const LaneAccess& a) {
    return std::make_tuple(a.access.here.line, a.access.here.file, a.access.kind, a.access.bytes, a.occurrence);
  };
  std::stable_sort(all.begin(), all.end(), [&](auto& a, auto& b) { return key(a) < key(b); });
  for (size_t i = 0, end; i < all.size(); i = end) {
    for (end = i + 1; end < all.size() && key(all[end]) == key(all[i]);) end++;
    count_access(b.counters, &all[i], &all[i] + (end - i));
  }
}

}  // namespace emulator
