// Implements library.h over the kernels of kernels.cu.
#include "library.h"
#include <exception>
#include <tuple>
#include <utility>
#include "../kernels.cu"

namespace {

using emulator::Allocation;
using emulator::Region;

thread_local std::string last_error;
std::mutex counters_mutex;
emulator::Counters counters;

const char* error(std::string text) {
  last_error = std::move(text);
  return last_error.c_str();
}

template <class T> constexpr uint32_t scalar_type() {
  if (std::is_same<T, bf16>::value) return EMULATOR_BF16;
  if (std::is_same<T, float>::value) return EMULATOR_F32;
  if (std::is_same<T, double>::value) return EMULATOR_F64;
  if (std::is_integral<T>::value && sizeof(T) == 4) return std::is_signed<T>::value ? EMULATOR_I32 : EMULATOR_U32;
  if (std::is_integral<T>::value && sizeof(T) == 8) return std::is_signed<T>::value ? EMULATOR_I64 : EMULATOR_U64;
  return 0;
}

// How a parameter of a kernel is named and made from an argument.
template <class T> struct Parameter {
  static constexpr uint32_t type = scalar_type<T>();
  static_assert(type != 0, "a kernel has a parameter of a type that the launcher does not know");
  static T make(const emulator_argument& a, const Region*) {
    T value;
    memcpy(&value, &a.bits, sizeof value);
    return value;
  }
};
template <class T> struct Parameter<Global<T>> {
  static constexpr uint32_t type = EMULATOR_POINTER + scalar_type<std::remove_const_t<T>>() + (std::is_const<T>::value ? EMULATOR_CONST : 0);
  static Global<T> make(const emulator_argument&, const Region* region) { return region->allocation ? Global<T>(region->begin, region) : Global<T>(); }
};

struct Kernel {
  emulator_kernel description;
  void (*call)(const emulator_argument*, const Region*);
};

template <auto KERNEL_FUNCTION, class... P, size_t... I>
void call_with(void (*)(P...), std::index_sequence<I...>, const emulator_argument* arguments, const Region* regions) {
  KERNEL_FUNCTION(Parameter<P>::make(arguments[I], &regions[I])...);
}
template <class... P> struct Types { static constexpr uint32_t values[] = {Parameter<P>::type...}; };
template <class... P> constexpr uint32_t count_of(void (*)(P...)) { return sizeof...(P); }
template <class... P> constexpr const uint32_t* types_of(void (*)(P...)) { return Types<P...>::values; }

template <auto KERNEL_FUNCTION> Kernel entry(const char* name, uint32_t threads) {
  return {{name, threads, count_of(KERNEL_FUNCTION), types_of(KERNEL_FUNCTION)}, [](const emulator_argument* arguments, const Region* regions) {
            call_with<KERNEL_FUNCTION>(KERNEL_FUNCTION, std::make_index_sequence<count_of(KERNEL_FUNCTION)>(), arguments, regions);
          }};
}

// The list's parameters must be those of the kernel, which the compiler checks by the type of the pointer.
const std::vector<Kernel>& kernels() {
  static const std::vector<Kernel> all = {
#define KERNEL_ENTRY(name, parameters, threads) entry<static_cast<void(*) parameters>(&name)>(#name, threads),
#include "../kernels.def"
#undef KERNEL_ENTRY
  };
  return all;
}

// The allocation that holds all of the bytes, or an error text.
const char* find(uint64_t address, uint64_t bytes, Region& region) {
  Allocation* a = Allocation::find(address);
  if (!a) return error("address " + std::to_string(address) + " is not in device memory");
  const uint64_t offset = address - uintptr_t(a->data);
  if (bytes > a->bytes - offset)
    return error("bytes " + std::to_string(offset) + " to " + std::to_string(offset + bytes) + " of an allocation of " + std::to_string(a->bytes));
  region = {a, a->data + offset, bytes};
  return nullptr;
}

std::string type_name(uint32_t type) {
  static const char* const names[] = {"?", "i32", "u32", "f32", "i64", "u64", "f64", "bf16"};
  const uint32_t element = type & 15;
  return std::string(type & EMULATOR_CONST ? "const " : "") + (element < 8 ? names[element] : "?") + (type & EMULATOR_POINTER ? "*" : "");
}

}  // namespace

extern "C" {

const emulator_kernel* emulator_kernel_at(uint32_t index) { return index < kernels().size() ? &kernels()[index].description : nullptr; }

const char* emulator_launch(const char* name, const uint32_t grid[3], uint32_t threads, uint32_t shared_bytes, const emulator_argument* arguments,
                            uint32_t count) {
  const std::string in = std::string(name) + ": ";
  const Kernel* kernel = nullptr;
  for (const Kernel& k : kernels()) if (!strcmp(k.description.name, name)) kernel = &k;
  if (!kernel) return error(in + "kernels.def has no such kernel");
  if (count != kernel->description.parameter_count)
    return error(in + "expected " + std::to_string(kernel->description.parameter_count) + " arguments, found " + std::to_string(count));
  if (threads != kernel->description.threads)
    return error(in + "expected blocks of " + std::to_string(kernel->description.threads) + " threads, found " + std::to_string(threads));
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535)
    return error(in + "expected a grid of at least one block and at most 65,535 along y and z, found " + std::to_string(grid[0]) + " x " + std::to_string(grid[1]) + " x " + std::to_string(grid[2]));
  if (shared_bytes > 227 << 10) return error(in + "no GPU gives a block " + std::to_string(shared_bytes) + " bytes of shared memory");
  std::vector<Region> regions(count);
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t want = kernel->description.parameters[i], found = arguments[i].type;
    if (found != want && !(want & EMULATOR_CONST && found == (want & ~uint32_t(EMULATOR_CONST))))
      return error(in + "parameter " + std::to_string(i) + " is " + type_name(want) + ", found " + type_name(found));
    regions[i] = {nullptr, nullptr, 0};
    if (want & EMULATOR_POINTER && arguments[i].bits && find(arguments[i].bits, arguments[i].bytes, regions[i]))
      return error(in + "parameter " + std::to_string(i) + ": " + last_error);
  }
  try {
    const emulator::Counters counted = emulator::launch(dim3(grid[0], grid[1], grid[2]), threads, shared_bytes, [&] { kernel->call(arguments, regions.data()); });
    std::lock_guard<std::mutex> lock(counters_mutex);
    counters.add(counted);
  } catch (const emulator::Fault& fault) {
    return error(in + fault.what);
  } catch (const std::exception& problem) {  // no memory, no thread: nothing may pass into the caller's language
    return error(in + problem.what());
  }
  return nullptr;
}

uint64_t emulator_allocate(uint64_t bytes) {
  try {
    return uintptr_t((new Allocation(bytes))->data);
  } catch (const emulator::Fault& fault) {
    error(fault.what);
  } catch (const std::exception& problem) {
    error(problem.what());
  }
  return 0;
}
const char* emulator_free(uint64_t address) {
  Allocation* a = Allocation::find(address);
  if (!a || uintptr_t(a->data) != address) return error("address " + std::to_string(address) + " is not the beginning of an allocation");
  delete a;
  return nullptr;
}
const char* emulator_touch(uint64_t address, uint64_t bytes, int write) {
  Region r;
  if (const char* problem = find(address, bytes, r)) return problem;
  const size_t offset = size_t(r.begin - r.allocation->data);
  if (write) r.allocation->mark_written(offset, bytes);
  else if (emulator::options.global_initialised)
    for (size_t i = offset / emulator::GRANULE; i * emulator::GRANULE < offset + bytes; i++)
      if (!r.allocation->written[i])
        return error("read of uninitialised device memory, byte " + std::to_string(i * emulator::GRANULE) + " of an allocation of " + std::to_string(r.allocation->bytes));
  return nullptr;
}
const char* emulator_upload(uint64_t to, const void* from, uint64_t bytes) {
  if (const char* problem = emulator_touch(to, bytes, 1)) return problem;
  memcpy(reinterpret_cast<void*>(to), from, bytes);
  return nullptr;
}
const char* emulator_download(void* to, uint64_t from, uint64_t bytes) {
  if (const char* problem = emulator_touch(from, bytes, 0)) return problem;
  memcpy(to, reinterpret_cast<void*>(from), bytes);
  return nullptr;
}
const char* emulator_copy(uint64_t to, uint64_t from, uint64_t bytes) {
  if (const char* problem = emulator_touch(from, bytes, 0)) return problem;
  if (const char* problem = emulator_touch(to, bytes, 1)) return problem;
  memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
  return nullptr;
}
const char* emulator_fill(uint64_t to, uint8_t value, uint64_t bytes) {
  if (const char* problem = emulator_touch(to, bytes, 1)) return problem;
  memset(reinterpret_cast<void*>(to), value, bytes);
  return nullptr;
}

void emulator_configure(const emulator_options* o) {
  emulator::options = {o->seed, o->shared_races != 0, o->global_races != 0, o->global_initialised != 0, o->count_traffic != 0, o->workers ? o->workers : 1};
}
emulator_options emulator_configuration(void) {
  const emulator::Options& o = emulator::options;
  return {o.seed, o.shared_races, o.global_races, o.global_initialised, o.count_traffic, o.workers};
}
emulator_counters emulator_read_counters(void) {
  static_assert(sizeof(emulator_counters) == sizeof(emulator::Counters), "the same counters");
  std::lock_guard<std::mutex> lock(counters_mutex);
  emulator_counters result;
  memcpy(&result, &counters, sizeof result);
  return result;
}
void emulator_reset_counters(void) {
  std::lock_guard<std::mutex> lock(counters_mutex);
  counters = {};
}

}  // extern "C"
