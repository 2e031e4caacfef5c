/* The emulator as a library: device memory, and launches by name. Functions that can fail return null, or a text that stays valid until
   the thread's next call. Addresses of device memory are those of the process, so that a stand-in of a library can compute on them; it
   says so through emulator_touch. */
#ifndef EMULATOR_LIBRARY_H
#define EMULATOR_LIBRARY_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Types of parameters. A pointer is EMULATOR_POINTER + the type of its elements, + EMULATOR_CONST if the kernel only reads. */
enum {
  EMULATOR_I32 = 1, EMULATOR_U32 = 2, EMULATOR_F32 = 3, EMULATOR_I64 = 4, EMULATOR_U64 = 5, EMULATOR_F64 = 6, EMULATOR_BF16 = 7,
  EMULATOR_POINTER = 16, EMULATOR_CONST = 32
};

/* A scalar's bits in the low bytes of `bits`; or an address, and how many bytes from it belong to the argument: the kernel may reach no
   others. Address 0 is a null pointer. An argument for a pointer to const may be given without EMULATOR_CONST. */
struct emulator_argument { uint32_t type, unused; uint64_t bits, bytes; };

/* A kernel of kernels.def; `threads` is the size of its blocks. */
struct emulator_kernel { const char* name; uint32_t threads, parameter_count; const uint32_t* parameters; };

/* `seed` orders blocks, warps and lanes (0: ascending); the checks are 0 or 1; `workers` is a number of OS threads. */
struct emulator_options { uint64_t seed; uint32_t shared_races, global_races, global_initialised, count_traffic, workers; };

/* Sums over all launches since emulator_reset_counters; see Counters in block.h. */
struct emulator_counters {
  uint64_t blocks, switches, barriers, shuffles, mma, ldmatrix, ldmatrix_conflicts, shared_accesses, shared_conflicts;
  uint64_t load_accesses, load_bytes, load_sectors, load_ideal, store_accesses, store_bytes, store_sectors, store_ideal;
};

/* The kernel's place in a table of all, or null past its end. */
const struct emulator_kernel* emulator_kernel_at(uint32_t index);
const char* emulator_launch(const char* kernel, const uint32_t grid[3], uint32_t threads, uint32_t shared_bytes,
                            const struct emulator_argument* arguments, uint32_t count);

/* Reserves memory whose contents are unspecified, aligned to a page. 0 without address space. */
uint64_t emulator_allocate(uint64_t bytes);
const char* emulator_free(uint64_t address);
const char* emulator_upload(uint64_t to, const void* from, uint64_t bytes);
const char* emulator_download(void* to, uint64_t from, uint64_t bytes);
const char* emulator_copy(uint64_t to, uint64_t from, uint64_t bytes);
const char* emulator_fill(uint64_t to, uint8_t value, uint64_t bytes);
/* Before host code reads bytes of device memory (write 0) or after it has written them (write 1): checks bounds and initialisation. */
const char* emulator_touch(uint64_t address, uint64_t bytes, int write);

void emulator_configure(const struct emulator_options* options);
struct emulator_options emulator_configuration(void);
struct emulator_counters emulator_read_counters(void);
void emulator_reset_counters(void);

#ifdef __cplusplus
}
#endif
#endif
