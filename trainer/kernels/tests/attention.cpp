// Attention and its gradients on the emulator against double precision: every group, sizes that are no multiple of a tile, documents.
#include "../attention_backward.cuh"
#include "../attention_forward.cuh"
#include "attention_reference.h"
#include "testing.h"
using emulator::Buffer;
using testing::expect;

static unsigned tiles(int context, int rows) { return unsigned((context + rows - 1) / rows); }

// What the kernels of one group need to be launched.
struct Kernels {
  decltype(&attention_forward_1) forward;
  decltype(&attention_backward_query_1) backward_query;
  int forward_queries, forward_threads, forward_shared, backward_queries, backward_threads, backward_shared;
};
template <int GROUP> static Kernels kernels(decltype(&attention_forward_1) forward, decltype(&attention_backward_query_1) backward_query) {
  using F = ForwardShape<GROUP>;
  using B = BackwardQueryShape<GROUP>;
  return {forward, backward_query, F::QUERIES, F::THREADS, F::SHARED_BYTES, B::QUERIES, B::THREADS, B::SHARED_BYTES};
}
static Kernels kernels(int group) {
  switch (group) {
    case 1: return kernels<1>(attention_forward_1, attention_backward_query_1);
    case 2: return kernels<2>(attention_forward_2, attention_backward_query_2);
    case 3: return kernels<3>(attention_forward_3, attention_backward_query_3);
    default: return kernels<4>(attention_forward_4, attention_backward_query_4);
  }
}

struct Result {
  Buffer<bf16> output, d_query, d_key, d_value;
  Buffer<float> log_sum;
  emulator::Counters counters;
};

static Result run(const Reference& r, emulator::Options options) {
  const Size& size = r.size;
  const Kernels k = kernels(size.heads / size.kv_heads);
  Buffer<bf16> query(r.query), key(r.key), value(r.value), d_output(r.d_output);
  Buffer<uint32_t> starts(r.starts);
  Buffer<float> statistics(size.rows() * size.heads * STATISTICS);
  Result out{Buffer<bf16>(size.query_elements()), Buffer<bf16>(size.query_elements()), Buffer<bf16>(size.key_elements()), Buffer<bf16>(size.key_elements()),
             Buffer<float>(size.rows() * size.heads), {}};
  const Global<const uint32_t> first = size.documents == Documents::None ? Global<const uint32_t>() : Global<const uint32_t>(starts);
  const unsigned s = unsigned(size.sequences), kv = unsigned(size.kv_heads);
  const int c = size.context, h = size.heads, g = size.kv_heads;
  out.counters.add(emulator::launch(dim3(kv, s, tiles(c, k.forward_queries)), unsigned(k.forward_threads), size_t(k.forward_shared),
                                    [&] { k.forward(query, key, value, first, out.output, out.log_sum, c, h, g, r.scale); }, options));
  out.counters.add(emulator::launch(dim3(kv, s, tiles(c, k.backward_queries)), unsigned(k.backward_threads), size_t(k.backward_shared),
                                    [&] { k.backward_query(query, key, value, first, out.output, d_output, out.log_sum, statistics, out.d_query, c, h, g, r.scale); }, options));
  out.counters.add(emulator::launch(dim3(kv, s, tiles(c, BackwardKeyShape::KEYS)), unsigned(BackwardKeyShape::THREADS), size_t(BackwardKeyShape::SHARED_BYTES),
                                    [&] { attention_backward_key(query, key, value, first, d_output, statistics, out.d_key, out.d_value, c, h, g, r.scale); }, options));
  return out;
}

// What was never written counts as not a number. An absolute floor, because gradients vanish where a query sees one key only.
static testing::Deviation deviation(const Buffer<bf16>& found, const std::vector<double>& wanted) {
  testing::Deviation d;
  for (size_t i = 0; i < wanted.size(); i++) d.add(wanted[i], found.written(i) ? to_float(found[i]) : NAN);
  d.square += 1e-4 * double(wanted.size());
  return d;
}

static void check(Size size, unsigned seed, double gradient_bound = 0.005) {
  const Reference r(size, seed);
  emulator::Options options = emulator::options;
  options.seed += seed;
  const Result found = run(r, options);
  testing::Deviation logs;
  const Buffer<float>& log_sum = found.log_sum;
  for (size_t i = 0; i < r.log_sum.size(); i++) logs.add(r.log_sum[i], log_sum.written(i) ? log_sum[i] : NAN);
  const testing::Deviation output = deviation(found.output, r.output), d_query = deviation(found.d_query, r.d_query), d_key = deviation(found.d_key, r.d_key),
                           d_value = deviation(found.d_value, r.d_value);
  printf("  %d x %3d, %d/%d heads, documents %d: output %.5f d_query %.5f d_key %.5f d_value %.5f log_sum %.1e\n", size.sequences, size.context, size.heads,
         size.kv_heads, int(size.documents), output.relative(), d_query.relative(), d_key.relative(), d_value.relative(), logs.worst);
  testing::expect_close("output", output, 0.005);
  testing::expect_close("d_query", d_query, gradient_bound);
  testing::expect_close("d_key", d_key, gradient_bound);
  testing::expect_close("d_value", d_value, gradient_bound);
  expect(logs.worst < 1e-3, "log_sum: error %.3g, expected less than 1e-3", logs.worst);
  expect(found.counters.ldmatrix_conflicts == 0, "bank conflicts of ldmatrix: %llu", (unsigned long long)found.counters.ldmatrix_conflicts);
}

constexpr Documents NONE = Documents::None, SINGLE = Documents::OfOneToken, SOME = Documents::Random;

// Every group of query heads, documents, no multiple of a tile.
static void groups() {
  check({1, 161, 1, 1, SOME}, 1);
  check({1, 161, 2, 1, SOME}, 2);
  check({1, 200, 3, 1, SOME}, 3);
  check({1, 97, 4, 1, SOME}, 4);
}

// Several sequences, key heads and tiles, with and without a mask.
static void shapes() {
  check({1, 1, 3, 1, NONE}, 5);
  check({2, 2, 6, 2, NONE}, 6);
  check({1, 70, 3, 1, SINGLE}, 7);
  check({2, 129, 6, 2, SOME}, 8);
  check({1, 260, 1, 1, NONE}, 9);
  check({1, 96, 3, 3, SOME}, 10);
  check({2, 65, 4, 1, NONE}, 11);
  check({1, 130, 4, 2, SOME}, 12);
  check({1, 300, 3, 1, NONE}, 13);
  check({1, 290, 3, 1, SOME}, 14);
  check({1, 700, 3, 1, SOME, 1.5f, 250}, 15);
}

// Every edge of a strip, a tile and a block.
static void edges() {
  for (int context : {15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128}) check({1, context, 3, 1, context % 2 ? SOME : NONE}, 30 + context);
}

// Scores of a standard deviation of 6, so that the largest one of a row grows and sums are rescaled. The gradients' bound is wider:
// dot(d_output, output) takes the output as bf16 rounded it, and what is left of the difference with it is small.
static void large_scores() {
  check({1, 300, 3, 1, NONE, 6.0f}, 20, 0.01);
  check({1, 200, 1, 1, SOME, 6.0f}, 21, 0.01);
}

// Elements beyond 2^31: the last sequence of 700 with 8,192 positions. Its first queries, and its last keys as seen by the last queries,
// whose document begins with the last 64 positions.
static void real_sizes() {
  constexpr int HEADS = 6, KV_HEADS = 2, CONTEXT = 8192, SEQUENCES = 700, LAST = SEQUENCES - 1, AT_END = CONTEXT - 64;
  const Reference r({1, 64, HEADS, KV_HEADS, NONE}, 23);
  const Size size{SEQUENCES, CONTEXT, HEADS, KV_HEADS, NONE};
  Buffer<bf16> query(size.query_elements()), key(size.key_elements()), value(size.key_elements()), output(size.query_elements()), d_output(size.query_elements()),
      d_query(size.query_elements()), d_key(size.key_elements()), d_value(size.key_elements());
  Buffer<float> log_sum(size.rows() * HEADS), statistics(size.rows() * HEADS * STATISTICS);
  for (int h = 0; h < HEADS; h++)
    for (int p = 0; p < 64; p++)
      for (int first : {0, AT_END}) {
        double dot = 0;
        for (int i = 0; i < 64; i++) {
          query[size.query_row(LAST, h, first + p) + i] = r.query[r.size.query_row(0, h, p) + i];
          key[size.key_row(LAST, h, first + p) + i] = r.key[r.size.key_row(0, h, p) + i];
          value[size.key_row(LAST, h, first + p) + i] = r.value[r.size.key_row(0, h, p) + i];
          const size_t out = r.size.token_head(0, h, p) * 64 + i;
          d_output[size.token_head(LAST, h, first + p) * 64 + i] = r.d_output[out];
          dot += to_float(r.d_output[out]) * r.output[out];
        }
        if (first == 0) continue;  // attention_backward_query writes the statistics of these
        const float of_query[STATISTICS] = {float(r.log_sum[r.size.token_head(0, h, p)]) * LOG2_E, float(dot), __int_as_float(AT_END), 0};
        for (int i = 0; i < STATISTICS; i++) statistics[size.query_row(LAST, h, first + p) / 64 * STATISTICS + i] = of_query[i];
      }
  const Kernels k = kernels(HEADS / KV_HEADS);
  const Global<const uint32_t> none;
  // The block of the last head and sequence with the given piece of the context.
  const auto launch_one = [&](int rows, unsigned piece, int threads, int shared, const std::function<void()>& kernel) {
    emulator::launch_blocks(dim3(KV_HEADS, SEQUENCES, tiles(CONTEXT, rows)), {dim3(KV_HEADS - 1, LAST, piece)}, unsigned(threads), size_t(shared), kernel);
  };
  launch_one(k.forward_queries, tiles(CONTEXT, k.forward_queries) - 1, k.forward_threads, k.forward_shared,
             [&] { k.forward(query, key, value, none, output, log_sum, CONTEXT, HEADS, KV_HEADS, r.scale); });
  launch_one(k.backward_queries, tiles(CONTEXT, k.backward_queries) - 1, k.backward_threads, k.backward_shared,
             [&] { k.backward_query(query, key, value, none, output, d_output, log_sum, statistics, d_query, CONTEXT, HEADS, KV_HEADS, r.scale); });
  const unsigned key_blocks = tiles(CONTEXT, BackwardKeyShape::KEYS);
  launch_one(BackwardKeyShape::KEYS, key_blocks - 1, BackwardKeyShape::THREADS, BackwardKeyShape::SHARED_BYTES,
             [&] { attention_backward_key(query, key, value, none, d_output, statistics, d_key, d_value, CONTEXT, HEADS, KV_HEADS, r.scale); });
  testing::Deviation outputs, queries, keys, values;
  const int first_key = int(key_blocks - 1) * BackwardKeyShape::KEYS;
  for (int h = HEADS / 2; h < HEADS; h++)
    for (int p = 0; p < 64; p++)
      for (int i = 0; i < 64; i++) {
        const size_t of_query = r.size.query_row(0, h, p) + i, of_key = r.size.key_row(0, h, p) + i, of_token = r.size.token_head(0, h, p) * 64 + i;
        outputs.add(r.output[of_token], to_float(output[size.token_head(LAST, h, p) * 64 + i]));
        if (p < k.backward_queries) queries.add(r.d_query[of_query], to_float(d_query[size.query_row(LAST, h, p) + i]));
        if (AT_END + p < first_key) continue;
        keys.add(r.d_key[of_key], to_float(d_key[size.key_row(LAST, h, AT_END + p) + i]));
        values.add(r.d_value[of_key], to_float(d_value[size.key_row(LAST, h, AT_END + p) + i]));
      }
  testing::expect_close("output", outputs, 0.005);
  testing::expect_close("d_query", queries, 0.005);
  testing::expect_close("d_key", keys, 0.005);
  testing::expect_close("d_value", values, 0.005);
}

// The same bits whatever the order of blocks, warps and lanes.
static void deterministic() {
  const Reference r({2, 130, 3, 1, SOME}, 5);
  emulator::Options one = emulator::options, other = emulator::options;
  one.seed = 11;
  other.seed = 12;
  const Result a = run(r, one), b = run(r, other);
  const auto differing = [](const Buffer<bf16>& x, const Buffer<bf16>& y) {
    size_t n = 0;
    for (size_t i = 0; i < x.size(); i++) n += x[i].bits != y[i].bits;
    return n;
  };
  const size_t n = differing(a.output, b.output) + differing(a.d_query, b.d_query) + differing(a.d_key, b.d_key) + differing(a.d_value, b.d_value);
  expect(n == 0, "%zu elements differ between two orders", n);
}

// Plain accesses to shared memory have no bank conflicts, and loads touch whole sectors of global memory.
static void traffic() {
  const Reference r({1, 192, 3, 1, SOME}, 6);
  emulator::Options options = emulator::options;
  options.count_traffic = true;
  const emulator::Counters c = run(r, options).counters;
  const auto n = [](uint64_t x) { return (unsigned long long)x; };
  printf("  shared accesses %llu, conflicts %llu; sectors loaded %llu (ideal %llu), stored %llu (ideal %llu)\n", n(c.shared_accesses), n(c.shared_conflicts),
         n(c.load_sectors), n(c.load_ideal), n(c.store_sectors), n(c.store_ideal));
  expect(c.shared_conflicts == 0, "bank conflicts of plain accesses: %llu", n(c.shared_conflicts));
  expect(double(c.load_sectors) < 1.05 * double(c.load_ideal), "%llu sectors loaded, ideally %llu", n(c.load_sectors), n(c.load_ideal));
}

int main(int argc, char** argv) {
  return testing::run(argc, argv, {{"groups", groups}, {"shapes", shapes}, {"edges", edges}, {"large_scores", large_scores},
                                   {"real_sizes", real_sizes}, {"deterministic", deterministic},
                                   {"traffic", traffic}});
}
