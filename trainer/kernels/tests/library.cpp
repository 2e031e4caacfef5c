// The C interface that the trainer launches kernels through.
#include "../emulator/library.cpp"
#include "testing.h"

using testing::expect;

static void expect_error(const char* error, const char* text) {
  expect(error && strstr(error, text), "expected an error with \"%s\", found \"%s\"", text, error ? error : "none");
}
static void expect_none(const char* error) { expect(!error, "%s", error ? error : ""); }

static void memory() {
  const uint64_t a = emulator_allocate(64);
  float from[16], to[16];
  for (int i = 0; i < 16; i++) from[i] = float(i);
  expect_error(emulator_download(to, a, 64), "uninitialised");
  expect_none(emulator_upload(a, from, 60));
  expect_none(emulator_download(to, a, 60));
  expect(!memcmp(from, to, 60), "what was written is read");
  expect_error(emulator_download(to, a, 64), "uninitialised device memory, byte 60 of an allocation of 64");
  expect_error(emulator_upload(a + 4, from, 64), "bytes 4 to 68 of an allocation of 64");
  const uint64_t b = emulator_allocate(64);
  expect_none(emulator_copy(b, a + 8, 8));
  expect_none(emulator_fill(b + 8, 0, 56));
  expect_none(emulator_download(to, b, 64));
  expect(to[0] == 2 && to[1] == 3 && to[15] == 0, "copies and fills");
  expect_error(emulator_free(a + 4), "not the beginning");
  expect_none(emulator_free(a));
  expect_error(emulator_upload(a, from, 4), "not in device memory");
  expect_none(emulator_free(b));
}

// round_to_bf16(values, rounded, count).
static void launches() {
  constexpr uint32_t COUNT = 100;
  std::vector<float> values(COUNT);
  for (float& v : values) v = testing::normal();
  const uint64_t from = emulator_allocate(COUNT * 4), to = emulator_allocate(4096);
  expect_none(emulator_upload(from, values.data(), COUNT * 4));
  const uint32_t grid[3] = {1, 1, 1};
  emulator_argument arguments[3] = {{EMULATOR_POINTER + EMULATOR_F32, 0, from, COUNT * 4},
                                    {EMULATOR_POINTER + EMULATOR_BF16, 0, to, COUNT * 2}, {EMULATOR_I64, 0, COUNT, 0}};
  const auto run = [&](const char* name, uint32_t count) { return emulator_launch(name, grid, 256, 0, arguments, count); };
  emulator_reset_counters();
  expect_none(run("round_to_bf16", 3));
  expect(emulator_read_counters().blocks == 1, "a block is counted");
  std::vector<uint16_t> rounded(COUNT);
  expect_none(emulator_download(rounded.data(), to, COUNT * 2));
  for (uint32_t i = 0; i < COUNT; i++) expect(rounded[i] == to_bf16(values[i]).bits, "element %u", i);

  expect_error(run("no_such", 3), "kernels.def has no such kernel");
  expect_error(run("round_to_bf16", 2), "expected 3 arguments, found 2");
  expect_error(emulator_launch("round_to_bf16", grid, 128, 0, arguments, 3), "expected blocks of 256 threads, found 128");
  const uint32_t no_blocks[3] = {0, 1, 1};
  expect_error(emulator_launch("round_to_bf16", no_blocks, 256, 0, arguments, 3), "at least one block");
  // The argument's own bytes bound the kernel, not the allocation.
  arguments[1].bytes -= 2;
  expect_error(run("round_to_bf16", 3), "global write out of range");
  arguments[1].bytes = 5000;
  expect_error(run("round_to_bf16", 3), "parameter 1: bytes 0 to 5000 of an allocation of 4096");
  arguments[1] = {EMULATOR_POINTER + EMULATOR_F32, 0, to, COUNT * 4};
  expect_error(run("round_to_bf16", 3), "parameter 1 is bf16*, found f32*");
  arguments[1] = {EMULATOR_POINTER + EMULATOR_CONST + EMULATOR_BF16, 0, to, COUNT * 2};
  expect_error(run("round_to_bf16", 3), "parameter 1 is bf16*, found const bf16*");
  arguments[1] = {EMULATOR_POINTER + EMULATOR_BF16, 0, 0, 0};
  expect_error(run("round_to_bf16", 3), "null pointer");
  arguments[2].type = EMULATOR_I32;
  expect_error(run("round_to_bf16", 3), "parameter 2 is i64, found i32");
  expect_none(emulator_free(from));
  expect_none(emulator_free(to));
}

static void table() {
  uint32_t count = 0;
  bool found = false;
  for (; const emulator_kernel* k = emulator_kernel_at(count); count++) {
    expect(k->threads % 32 == 0 && k->threads >= 32 && k->threads <= 1024, "%s: blocks of %u threads", k->name, k->threads);
    for (uint32_t i = 0; i < count; i++) expect(strcmp(emulator_kernel_at(i)->name, k->name) != 0, "%s is listed twice", k->name);
    if (strcmp(k->name, "round_to_bf16")) continue;
    found = k->parameter_count == 3 && k->parameters[0] == EMULATOR_POINTER + EMULATOR_CONST + EMULATOR_F32 && k->parameters[2] == EMULATOR_I64;
  }
  expect(found, "round_to_bf16 is listed with its parameters");
}

static void options() {
  const emulator_options before = emulator_configuration();
  emulator_options o = {5, 0, 0, 1, 1, 2};
  emulator_configure(&o);
  const emulator_options after = emulator_configuration();
  expect(after.seed == 5 && !after.shared_races && !after.global_races && after.global_initialised && after.count_traffic && after.workers == 2, "options are kept");
  emulator_configure(&before);
}

int main(int argc, char** argv) {
  return testing::run(argc, argv, {{"memory", memory}, {"launches", launches}, {"table", table}, {"options", options}});
}
