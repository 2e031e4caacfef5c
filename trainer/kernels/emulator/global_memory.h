// Device memory: allocations, and checked pointers into them.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <vector>
#include "block.h"
#include "shadow.h"
#include "traffic.h"

namespace emulator {

// Pages that cost nothing until they are touched, so that a kernel can be tried at the addresses of real sizes.
inline void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw Fault{"cannot reserve " + std::to_string(bytes) + " bytes of address space"};
  return p;
}

// Device memory of one owner. What nobody has written holds NaN where it is small enough to fill.
struct Allocation {
  unsigned char* data;
  size_t bytes, mapped;
  uint8_t* written;  // a flag for each granule
  Shadow* shadow;    // one for each granule

  explicit Allocation(size_t bytes)
      : data(nullptr), bytes(bytes), mapped((bytes + 4095) / 4096 * 4096 + 4096), written(nullptr), shadow(nullptr) {
    data = static_cast<unsigned char*>(reserve(mapped));
    written = static_cast<uint8_t*>(reserve(mapped / GRANULE));
    shadow = static_cast<Shadow*>(reserve(mapped / GRANULE * sizeof(Shadow)));
    if (bytes <= 64 << 20) memset(data, 0xff, bytes);
    std::lock_guard<std::mutex> lock(mutex());
    all()[uintptr_t(data)] = this;
  }
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
  ~Allocation() {
    {
      std::lock_guard<std::mutex> lock(mutex());
      all().erase(uintptr_t(data));
    }
    munmap(data, mapped);
    munmap(written, mapped / GRANULE);
    munmap(shadow, mapped / GRANULE * sizeof(Shadow));
  }
  void mark_written(size_t offset, size_t n) {
    if (n) memset(written + offset / GRANULE, 1, (offset + n - 1) / GRANULE - offset / GRANULE + 1);
  }

  // The allocation that holds an address, or null.
  static Allocation* find(uint64_t address) {
    std::lock_guard<std::mutex> lock(mutex());
    auto next = all().upper_bound(address);
    if (next == all().begin()) return nullptr;
    Allocation* a = std::prev(next)->second;
    return address - uintptr_t(a->data) <= a->bytes ? a : nullptr;
  }

 private:
  static std::map<uintptr_t, Allocation*>& all() { static std::map<uintptr_t, Allocation*> map; return map; }
  static std::mutex& mutex() { static std::mutex m; return m; }
};

// The part of an allocation that a pointer may reach.
struct Region { Allocation* allocation; unsigned char* begin; size_t bytes; };

// Checks an access of the running thread and notes it.
inline void touch_global(const Region* region, const unsigned char* at, size_t bytes, size_t alignment, bool write, Here here) {
  Block& b = *block;
  const char* verb = write ? "write" : "read";
  if (!region) fail(here, "global %s through a null pointer", verb);
  const long long offset = (long long)(uintptr_t(at) - uintptr_t(region->begin));
  if (offset < 0 || size_t(offset) + bytes > region->bytes)
    fail(here, "global %s out of range: bytes %lld to %lld of %zu", verb, offset, offset + (long long)bytes, region->bytes);
  if (uintptr_t(at) % alignment) fail(here, "misaligned global %s: byte %lld for an alignment of %zu", verb, offset, alignment);
  Allocation& a = *region->allocation;
  const size_t first = size_t(at - a.data) / GRANULE, last = (size_t(at - a.data) + bytes - 1) / GRANULE;
  for (size_t i = first; i <= last; i++)
    if (write) a.written[i] = 1;
    else if (b.options.global_initialised && !a.written[i]) fail(here, "read of uninitialised global memory, byte %lld", offset);
  if (!b.options.global_races) return;
  const Touch now = touch_now(b.number);
  for (size_t i = first; i <= last; i++)
    if (const char* race = touch(a.shadow[i], now, b.first_number, write)) fail(here, "%s, global byte %lld", race, offset);
}

}  // namespace emulator

// A checked pointer. Arithmetic keeps the region: an index that leaves it is found even where other memory follows.
template <class T> class Global {
  using Value = std::remove_const_t<T>;
  static_assert(sizeof(T) % emulator::GRANULE == 0, "the shadow knows two bytes at a time");

 public:
  unsigned char* at = nullptr;
  const emulator::Region* region = nullptr;

  Global() = default;
  Global(std::nullptr_t) {}
  Global(unsigned char* at, const emulator::Region* region) : at(at), region(region) {}
  template <class U, class = std::enable_if_t<std::is_same<const U, T>::value>> Global(Global<U> other) : at(other.at), region(other.region) {}

  template <class V> V load(emulator::Here here) const {
    emulator::touch_global(region, at, sizeof(V), alignof(V), false, here);
    emulator::record(here, emulator::Kind::GlobalLoad, sizeof(V), uintptr_t(at));
    V value;
    memcpy(&value, at, sizeof value);
    return value;
  }
  template <class V> void store(V value, emulator::Here here) const {
    static_assert(!std::is_const<T>::value, "a write through a pointer to const");
    emulator::touch_global(region, at, sizeof(V), alignof(V), true, here);
    emulator::record(here, emulator::Kind::GlobalStore, sizeof(V), uintptr_t(at));
    memcpy(at, &value, sizeof value);
  }

  struct Element {
    Global place;
    emulator::Here here;
    operator Value() const { return place.template load<Value>(here); }
    const Element& operator=(Value value) const { place.template store<Value>(value, here); return *this; }
    const Element& operator=(const Element& other) const { return *this = Value(other); }
    const Element& operator+=(Value value) const { return *this = Value(*this) + value; }
    const Element& operator-=(Value value) const { return *this = Value(*this) - value; }
    const Element& operator*=(Value value) const { return *this = Value(*this) * value; }
  };
  Element operator[](emulator::Index index) const { return {*this + index.i, index.here}; }
  Global operator+(long long i) const { return {at + i * (long long)sizeof(T), region}; }
  Global operator-(long long i) const { return *this + -i; }
  Global& operator+=(long long i) { return *this = *this + i; }
  explicit operator bool() const { return region != nullptr; }
  bool operator==(std::nullptr_t) const { return region == nullptr; }
  bool operator!=(std::nullptr_t) const { return region != nullptr; }
};
template <class V, class T> V load_vector(Global<T> p, EMULATOR_HERE) { return p.template load<V>(here); }
template <class V, class T> void store_vector(Global<T> p, V value, EMULATOR_HERE) { p.template store<V>(value, here); }

namespace emulator {

// Device memory of a test. Elements that the host writes count as written; the others do not.
template <class T> class Buffer {
  std::unique_ptr<Allocation> allocation;
  Region region;

 public:
  explicit Buffer(size_t n) : allocation(new Allocation(n * sizeof(T))), region{allocation.get(), allocation->data, n * sizeof(T)} {}
  Buffer(size_t n, T value) : Buffer(n) { fill(value); }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    for (size_t i = 0; i < values.size(); i++) (*this)[i] = values[i];
  }
  size_t size() const { return region.bytes / sizeof(T); }
  // Marks the element as written.
  T& operator[](size_t i) {
    if (i >= size()) throw Fault{"host index " + std::to_string(i) + " of a buffer of " + std::to_string(size())};
    allocation->mark_written(i * sizeof(T), sizeof(T));
    return reinterpret_cast<T*>(allocation->data)[i];
  }
  const T& operator[](size_t i) const { return reinterpret_cast<const T*>(allocation->data)[i]; }
  bool written(size_t i) const { return allocation->written[i * sizeof(T) / GRANULE]; }
  void fill(T value) { for (size_t i = 0; i < size(); i++) (*this)[i] = value; }
  Global<T> device() const { return {allocation->data, &region}; }
  operator Global<T>() const { return device(); }
  operator Global<const T>() const { return device(); }
};

}  // namespace emulator
