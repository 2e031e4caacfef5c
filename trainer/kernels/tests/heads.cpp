// Split into heads with the rotary embedding, and back, against double precision.
#include "../heads.cuh"
#include "comparison.h"

using namespace testing;

struct Split {
  int sequences, context, heads, kv_heads, head_dim;
  bool rotate;
  Values cosine, sine;

  Split(int sequences, int context, int heads, int kv_heads, int head_dim, bool rotate)
      : sequences(sequences), context(context), heads(heads), kv_heads(kv_heads), head_dim(head_dim), rotate(rotate) {
    for (int position = 0; position < context; position++)
      for (int i = 0; i < head_dim / 2; i++) {
        const double angle = position * std::pow(10000.0, -2.0 * i / head_dim);
        cosine.push_back(float(std::cos(angle)));
        sine.push_back(float(std::sin(angle)));
      }
  }
  std::string name() const {
    return std::to_string(sequences) + " x " + std::to_string(context) + ", heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) +
           " of " + std::to_string(head_dim) + ", rotate " + std::to_string(rotate);
  }
  int all_heads() const { return heads + 2 * kv_heads; }
  size_t elements() const { return size_t(sequences) * context * all_heads() * head_dim; }
  // Index in the concatenation of queries, keys and values of a dimension of one of all heads.
  size_t place(int sequence, int position, int head, int dimension) const {
    size_t first = 0;
    int count = heads;
    if (head >= heads) first = size_t(sequences) * context * heads * head_dim, head -= heads, count = kv_heads;
    if (head >= count) first += size_t(sequences) * context * kv_heads * head_dim, head -= kv_heads;
    return first + ((size_t(sequence) * count + head) * context + position) * head_dim + dimension;
  }
  // From the fused matrix to the heads, or with `back` the reverse with the rotation transposed.
  std::vector<double> reference(const std::vector<bf16>& from, bool back) const {
    std::vector<double> to(from.size());
    size_t row = 0;
    for (int s = 0; s < sequences; s++)
      for (int p = 0; p < context; p++)
        for (int h = 0; h < all_heads(); h++, row += head_dim)
          for (int i = 0; i < head_dim / 2; i++) {
            const size_t low = place(s, p, h, i), high = place(s, p, h, i + head_dim / 2);
            const bool turns = rotate && h < heads + kv_heads;
            const double c = turns ? cosine[size_t(p) * head_dim / 2 + i] : 1.0, n = turns ? sine[size_t(p) * head_dim / 2 + i] : 0.0;
            const double a = to_float(from[back ? low : row + i]), b = to_float(from[back ? high : row + i + head_dim / 2]);
            to[back ? row + i : low] = back ? a * c + b * n : a * c - b * n;
            to[back ? row + i + head_dim / 2 : high] = back ? b * c - a * n : b * c + a * n;
          }
    return to;
  }
};

static void check(const Split& split) {
  const std::vector<bf16> fused = normals_bf16(split.elements()), d_heads = normals_bf16(split.elements());
  const size_t query = size_t(split.sequences) * split.context * split.heads * split.head_dim;
  const size_t key = size_t(split.sequences) * split.context * split.kv_heads * split.head_dim;
  const int positions = 2048 / split.head_dim;
  const dim3 grid((split.context + positions - 1) / positions, split.sequences);
  const auto outputs = in_every_order("split_heads " + split.name(), [&] {
    Buffer<float> cosines(split.cosine), sines(split.sine);
    const Global<const float> cosine = split.rotate ? Global<const float>(cosines) : nullptr, sine = split.rotate ? Global<const float>(sines) : nullptr;
    Buffer<bf16> from(fused), q(query), k(key), v(key), d_fused(split.elements());
    Buffer<bf16> dq(std::vector<bf16>(d_heads.begin(), d_heads.begin() + query)), dk(std::vector<bf16>(d_heads.begin() + query, d_heads.end() - key));
    Buffer<bf16> dv(std::vector<bf16>(d_heads.end() - key, d_heads.end()));
    emulator::launch(grid, 128, 0, [&] { split_heads(from, cosine, sine, q, k, v, split.context, split.heads, split.kv_heads, split.head_dim); });
    emulator::launch(grid, 128, 0,
                     [&] { split_heads_backward(dq, dk, dv, cosine, sine, d_fused, split.context, split.heads, split.kv_heads, split.head_dim); });
    Values all = values_of(q, "query");
    for (const Values& more : {values_of(k, "key"), values_of(v, "value")}) all.insert(all.end(), more.begin(), more.end());
    return std::vector<Values>{all, values_of(d_fused, "d_fused")};
  });
  for (int back = 0; back < 2; back++) {
    const auto want = split.reference(back ? d_heads : fused, back);
    const std::string name = (back ? "split_heads_backward " : "split_heads ") + split.name();
    expect_close(name, want, outputs[back], BF16_BOUND);
    expect_rounded(name, want, outputs[back], split.rotate ? 0.02 : 0.0);
  }
}

static void rotated() {
  check(Split(1, 1, 6, 2, 64, true));
  check(Split(2, 33, 6, 2, 64, true));
  check(Split(1, 70, 9, 3, 64, true));
  check(Split(1, 40, 2, 2, 128, true));
  check(Split(3, 130, 3, 1, 16, true));
}

static void not_rotated() { check(Split(2, 33, 3, 1, 64, false)); }

// The last positions of 60,000 sequences: indices beyond 32 bits.
static void last_sequence() {
  constexpr int SEQUENCES = 60000, CONTEXT = 128, HEADS = 6, KV_HEADS = 2, DIM = 64, ALL = HEADS + 2 * KV_HEADS;
  constexpr size_t TOKENS = size_t(SEQUENCES) * CONTEXT;
  Buffer<bf16> fused(TOKENS * ALL * DIM), q(TOKENS * HEADS * DIM), k(TOKENS * KV_HEADS * DIM), v(TOKENS * KV_HEADS * DIM), back(TOKENS * ALL * DIM);
  const std::vector<bf16> some = normals_bf16(32 * ALL * DIM);
  const size_t first = (TOKENS - 32) * ALL * DIM;
  for (size_t i = 0; i < some.size(); i++) fused[first + i] = some[i];
  const dim3 grid(CONTEXT / 32, SEQUENCES);
  const std::vector<dim3> last{dim3(CONTEXT / 32 - 1, SEQUENCES - 1, 0)};
  emulator::launch_blocks(grid, last, 128, 0, [&] { split_heads(fused, nullptr, nullptr, q, k, v, CONTEXT, HEADS, KV_HEADS, DIM); });
  emulator::launch_blocks(grid, last, 128, 0, [&] { split_heads_backward(q, k, v, nullptr, nullptr, back, CONTEXT, HEADS, KV_HEADS, DIM); });
  for (size_t i = 0; i < some.size(); i++)
    if (!expect(back[first + i].bits == some[i].bits, "element %zu of the last positions has changed on its way to the heads and back", i)) break;
  expect(q[q.size() - 1].bits == some[(31 * ALL + HEADS) * DIM - 1].bits, "the last query is another");
}

static void traffic() {
  const CountTraffic counting;
  constexpr size_t TOKENS = 40, Q = TOKENS * 6 * 64, K = TOKENS * 2 * 64, ALL = Q + 2 * K;
  Buffer<bf16> fused(normals_bf16(ALL)), q(Q), k(K), v(K);
  for (int back = 0; back < 2; back++) {
    const auto counted = emulator::launch(dim3(2), 128, 0, [&] {
      if (back) split_heads_backward(q, k, v, nullptr, nullptr, fused, TOKENS, 6, 2, 64);
      else split_heads(fused, nullptr, nullptr, q, k, v, TOKENS, 6, 2, 64);
    });
    expect(counted.load_sectors == ALL / 16 && counted.store_sectors == ALL / 16, "heads of %zu sectors are loaded in %llu and stored in %llu",
           ALL / 16, (unsigned long long)counted.load_sectors, (unsigned long long)counted.store_sectors);
  }
}

int main(int argc, char** argv) { return testing::run(argc, argv, {{"rotated", rotated}, {"not_rotated", not_rotated}, {"last_sequence", last_sequence}, {"traffic", traffic}}); }
