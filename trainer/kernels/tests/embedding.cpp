// Rows of the embedding and their gradient against double precision.
#include "../embedding.cuh"
#include "comparison.h"
#include <algorithm>

using namespace testing;

// What the host makes of a batch's ids.
struct Segments {
  std::vector<uint32_t> order, starts, id_starts, ids;

  explicit Segments(const std::vector<uint32_t>& tokens) {
    for (uint32_t i = 0; i < tokens.size(); i++) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return tokens[a] < tokens[b]; });
    for (uint32_t i = 0; i < order.size(); i++) {
      const bool new_id = ids.empty() || tokens[order[i]] != ids.back();
      if (new_id) ids.push_back(tokens[order[i]]), id_starts.push_back(uint32_t(starts.size()));
      if (new_id || i - starts.back() == 64) starts.push_back(i);
    }
    id_starts.push_back(uint32_t(starts.size()));
    starts.push_back(uint32_t(order.size()));
  }
};

static void check(int tokens, int columns, int vocabulary, int frequent) {
  const std::string name = std::to_string(tokens) + " tokens x " + std::to_string(columns);
  std::vector<uint32_t> ids(tokens);
  for (int i = 0; i < tokens; i++) ids[i] = i < frequent ? uint32_t(vocabulary) - 1 : below(unsigned(vocabulary));
  std::shuffle(ids.begin(), ids.end(), generator());
  const std::vector<bf16> table = normals_bf16(size_t(vocabulary) * columns), d_output = normals_bf16(size_t(tokens) * columns);
  const Values old = normals(size_t(vocabulary) * columns);
  std::vector<double> rows, gradient(old.begin(), old.end());
  for (int i = 0; i < tokens; i++)
    for (int c = 0; c < columns; c++) {
      rows.push_back(to_float(table[size_t(ids[i]) * columns + c]));
      gradient[size_t(ids[i]) * columns + c] += to_float(d_output[size_t(i) * columns + c]);
    }
  const Segments sorted(ids);
  const int segments = int(sorted.starts.size()) - 1, distinct = int(sorted.ids.size());
  const auto outputs = in_every_order("embedding of " + name, [&] {
    Buffer<bf16> from(table), out(size_t(tokens) * columns), d(d_output);
    Buffer<uint32_t> all(ids), order(sorted.order), starts(sorted.starts), id_starts(sorted.id_starts), different(sorted.ids);
    Buffer<float> partial(size_t(segments) * columns), sums(old);
    emulator::launch(dim3((tokens + 7) / 8), 256, 0, [&] { embedding(from, all, out, tokens, columns); });
    emulator::launch(dim3((segments + 7) / 8), 256, 0, [&] { embedding_segment_sums(order, starts, d, partial, segments, columns); });
    emulator::launch(dim3((distinct + 7) / 8), 256, 0, [&] { embedding_backward(partial, id_starts, different, sums, distinct, columns); });
    return std::vector<Values>{values_of(out, "output"), values_of(sums, "gradient")};
  });
  expect(Values(rows.begin(), rows.end()) == outputs[0], "embedding of " + name + ": rows differ from the table's");
  expect_close("embedding_backward of " + name, gradient, outputs[1], F32_BOUND);
}

static void sizes() {
  check(1, 384, 3, 0);
  check(9, 8, 5, 2);
  check(300, 384, 100, 0);
  check(200, 576, 50, 65);
  check(40, 2048, 49, 3);
}

static void frequent_id() { check(700, 384, 300, 450); }

// The last tokens of 2^21 x 2,048: indices beyond 32 bits.
static void last_tokens() {
  constexpr int TOKENS = 1 << 21, COLUMNS = 2048, VOCABULARY = 1 << 21;
  constexpr size_t N = size_t(TOKENS) * COLUMNS, LAST = N - COLUMNS;
  const std::vector<bf16> row = normals_bf16(COLUMNS);
  Buffer<bf16> table(N), output(N);
  Buffer<float> partial(N), gradient(N);
  Buffer<uint32_t> ids(TOKENS), order(TOKENS), starts(size_t(TOKENS) + 1);
  for (size_t i = 0; i < COLUMNS; i++) table[LAST + i] = row[i], gradient[LAST + i] = 1.0f;
  for (size_t i = TOKENS - 8; i < TOKENS; i++) ids[i] = order[i] = VOCABULARY - 1, starts[i] = uint32_t(i);
  starts[TOKENS] = TOKENS;
  launch_last(TOKENS / 8, 256, 0, [&] { embedding(table, ids, output, TOKENS, COLUMNS); });
  launch_last(TOKENS / 8, 256, 0, [&] { embedding_segment_sums(order, starts, output, partial, TOKENS, COLUMNS); });
  // One id has all eight segments; the last of the distinct ones.
  for (size_t i = TOKENS - 8; i < TOKENS; i++) starts[i] = TOKENS - 8;
  for (size_t i = TOKENS - 8; i + 1 < TOKENS; i++) ids[i] = uint32_t(i);
  for (size_t i = N - 8 * COLUMNS; i < LAST; i++) gradient[i] = 0.0f;
  launch_last(TOKENS / 8, 256, 0, [&] { embedding_backward(partial, starts, ids, gradient, TOKENS, COLUMNS); });
  Deviation deviation;
  for (size_t i = 0; i < COLUMNS; i++) deviation.add(1.0 + 8.0 * to_float(row[i]), gradient[LAST + i]);
  expect_close("gradient of the last row of the table", deviation, F32_BOUND);
}

int main(int argc, char** argv) { return testing::run(argc, argv, {{"sizes", sizes}, {"frequent_id", frequent_id}, {"last_tokens", last_tokens}}); }
