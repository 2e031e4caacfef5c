// Checked pointers into shared memory, each with the bounds of its own array.
#pragma once
#include "block.h"
#include "shadow.h"
#include "traffic.h"

namespace emulator {

// Notes an access to bytes `at`..`at + bytes` of shared memory.
inline void touch_shared(size_t at, size_t bytes, bool write, bool whole_warp, Here here) {
  Block& b = *block;
  if (!b.options.shared_races) return;
  for (size_t i = at / 16; i <= (at + bytes - 1) / 16; i++)
    if (b.pending[i]) fail(here, "%s of a cp.async on its way, shared byte %zu", write ? "write over the target" : "read of the target", at);
  const Touch now = touch_now(b.run, whole_warp);
  for (size_t i = at / GRANULE; i <= (at + bytes - 1) / GRANULE; i++) {
    Shadow& s = b.shared_shadow[i];
    if (!write && s.write.block != b.run) fail(here, "read of uninitialised shared memory, byte %zu", i * GRANULE);
    if (const char* race = touch(s, now, b.run, write)) fail(here, "%s, shared byte %zu", race, i * GRANULE);
  }
}

}  // namespace emulator

template <class T> struct Shared {
  static_assert(sizeof(T) % emulator::GRANULE == 0, "the shadow knows two bytes at a time");
  size_t at = 0, begin = 0, end = 0;  // bytes

  void check(size_t bytes, size_t alignment, emulator::Here here) const {
    if (at < begin || at > end || end - at < bytes)
      emulator::fail(here, "shared index out of range: byte %lld of an array of %zu", (long long)(at - begin), end - begin);
    if (at % alignment) emulator::fail(here, "misaligned shared access: byte %zu for an alignment of %zu", at, alignment);
  }
  T load(emulator::Here here) const {
    check(sizeof(T), alignof(T), here);
    emulator::touch_shared(at, sizeof(T), false, false, here);
    emulator::record(here, emulator::Kind::SharedLoad, sizeof(T), at);
    T value;
    memcpy(&value, &emulator::block->shared[at], sizeof value);
    return value;
  }
  void store(T value, emulator::Here here) const {
    check(sizeof(T), alignof(T), here);
    emulator::touch_shared(at, sizeof(T), true, false, here);
    emulator::record(here, emulator::Kind::SharedStore, sizeof(T), at);
    memcpy(&emulator::block->shared[at], &value, sizeof value);
  }

  struct Element {
    Shared place;
    emulator::Here here;
    operator T() const { return place.load(here); }
    const Element& operator=(T value) const { place.store(value, here); return *this; }
    const Element& operator=(const Element& other) const { return *this = T(other); }
    const Element& operator+=(T value) const { return *this = T(*this) + value; }
    const Element& operator-=(T value) const { return *this = T(*this) - value; }
    const Element& operator*=(T value) const { return *this = T(*this) * value; }
  };
  Element operator[](emulator::Index index) const { return {*this + index.i, index.here}; }
  Shared operator+(long long i) const { return {at + size_t(i * (long long)sizeof(T)), begin, end}; }
  template <class U> Shared<U> as() const { return {at, begin, end}; }
};
template <class V, class T> V load_vector(Shared<T> p, EMULATOR_HERE) { return p.template as<V>().load(here); }
template <class V, class T> void store_vector(Shared<T> p, V value, EMULATOR_HERE) { p.template as<V>().store(value, here); }

// Hands out the dynamic shared memory of a launch in arrays of 128-byte alignment.
struct SharedArena {
  size_t used = 0;
  template <class T> Shared<T> take(size_t n, EMULATOR_HERE) {
    used = (used + 127) / 128 * 128;
    const Shared<T> array{used, used, used + n * sizeof(T)};
    used = array.end;
    if (used > emulator::block->shared.size())
      emulator::fail(here, "the kernel takes %zu bytes of shared memory, the launch gives %zu", used, emulator::block->shared.size());
    return array;
  }
};
