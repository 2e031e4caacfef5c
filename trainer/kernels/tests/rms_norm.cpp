// RMSNorm and column sums against double precision.
#include "../rms_norm.cuh"
#include "comparison.h"

using namespace testing;

struct Norm {
  int rows, columns;
  std::vector<bf16> x, dy, old;
  Values weight;
  std::vector<double> inverse, y, dx, d_weight;

  Norm(int rows, int columns, double epsilon) : rows(rows), columns(columns) {
    const size_t n = size_t(rows) * columns;
    x = normals_bf16(n, 2.0f), dy = normals_bf16(n), old = normals_bf16(n), weight = normals(columns, 0.2f, 1.0f);
    inverse.resize(rows), y.resize(n), dx.resize(n), d_weight.resize(columns);
    for (int row = 0; row < rows; row++) {
      double square = 0, dot = 0;
      for (int i = 0; i < columns; i++) {
        const double a = at(x, row, i);
        square += a * a;
        dot += a * weight[i] * at(dy, row, i);
      }
      const double r = inverse[row] = 1 / std::sqrt(square / columns + epsilon);
      for (int i = 0; i < columns; i++) {
        const double a = at(x, row, i), g = at(dy, row, i);
        y[size_t(row) * columns + i] = a * r * weight[i];
        dx[size_t(row) * columns + i] = r * (weight[i] * g - a * r * r * dot / columns);
        d_weight[i] += g * a * r;
      }
    }
  }
  double at(const std::vector<bf16>& m, int row, int column) const { return to_float(m[size_t(row) * columns + column]); }
};

static void forward(int rows, int columns) {
  const std::string name = "rms_norm " + std::to_string(rows) + " x " + std::to_string(columns);
  const float epsilon = 1e-5f;
  const Norm norm(rows, columns, epsilon);
  const auto outputs = in_every_order(name, [&] {
    Buffer<bf16> x(norm.x), y(norm.x.size());
    Buffer<float> weight(norm.weight), inverse(rows);
    const dim3 grid((rows + 7) / 8);
    emulator::launch(grid, 256, 0, [&] { rms_norm(x, weight, inverse, y, rows, columns, epsilon); });
    return std::vector<Values>{values_of(inverse, "inverse_rms"), values_of(y, "output")};
  });
  expect_close(name + ", inverse_rms", norm.inverse, outputs[0], F32_BOUND);
  expect_close(name + ", output", norm.y, outputs[1], BF16_BOUND);
  expect_rounded(name + ", output", norm.y, outputs[1], 0.02);
}

enum class Again { No, Elsewhere, InPlace };

static void backward(int rows, int columns, int parts, bool add, Again again, bool trains) {
  const std::string name = "rms_norm_backward " + std::to_string(rows) + " x " + std::to_string(columns) + ", " + std::to_string(parts) +
                           " parts, add " + std::to_string(add) + ", again " + std::to_string(int(again)) + ", trains " + std::to_string(trains);
  Norm norm(rows, columns, 1e-5);
  const Values old_sums = normals(columns);
  const auto outputs = in_every_order(name, [&] {
    Buffer<bf16> x(norm.x), dy(norm.dy), elsewhere(norm.x.size());
    Buffer<bf16> dx = add ? Buffer<bf16>(norm.old) : Buffer<bf16>(norm.old.size());
    Buffer<float> weight(norm.weight), inverse(Values(norm.inverse.begin(), norm.inverse.end())), partial(size_t(parts) * columns), sums(old_sums);
    const Global<bf16> output = again == Again::No ? Global<bf16>() : again == Again::InPlace ? dy.device() : elsewhere.device();
    const Global<float> to = trains ? partial.device() : Global<float>();
    emulator::launch(dim3(parts), 128, 16 * columns, [&] { rms_norm_backward(x, weight, inverse, dy, dx, output, to, rows, columns, add); });
    if (trains) emulator::launch(dim3((columns + 31) / 32), 256, 1024, [&] { column_sums(partial, sums, parts, columns); });
    std::vector<Values> results{values_of(dx, "d_input"), values_of(sums, "gradient of the weight")};
    if (again != Again::No) results.push_back(values_of(again == Again::InPlace ? dy : elsewhere, "output"));
    return results;
  });
  for (size_t i = 0; add && i < norm.dx.size(); i++) norm.dx[i] += to_float(norm.old[i]);
  for (int i = 0; i < columns; i++) norm.d_weight[i] = old_sums[i] + (trains ? norm.d_weight[i] : 0.0);
  expect_close(name + ", d_input", norm.dx, outputs[0], BF16_BOUND);
  expect_close(name + ", gradient of the weight", norm.d_weight, outputs[1], F32_BOUND);
  if (again != Again::No) expect_close(name + ", output", norm.y, outputs[2], BF16_BOUND);
}

static void sums_of_columns(int parts, int columns) {
  const std::string name = "column_sums " + std::to_string(parts) + " x " + std::to_string(columns);
  const Values partial = normals(size_t(parts) * columns), old = normals(columns);
  std::vector<double> want(old.begin(), old.end());
  for (int part = 0; part < parts; part++)
    for (int i = 0; i < columns; i++) want[i] += partial[size_t(part) * columns + i];
  const auto outputs = in_every_order(name, [&] {
    Buffer<float> from(partial), sums(old);
    emulator::launch(dim3((columns + 31) / 32), 256, 1024, [&] { column_sums(from, sums, parts, columns); });
    return std::vector<Values>{values_of(sums, "sums")};
  });
  expect_close(name, want, outputs[0], F32_BOUND);
}

// 16-byte accesses of whole sectors, and no two lanes at one bank.
static void traffic() {
  const CountTraffic counting;
  const Norm norm(8, 384, 1e-5);
  Buffer<bf16> x(norm.x), dy(norm.dy), dx(norm.old), y(norm.x.size());
  Buffer<float> weight(norm.weight), inverse(8), partial(2 * 384);
  const auto forward = emulator::launch(dim3(1), 256, 0, [&] { rms_norm(x, weight, inverse, y, 8, 384, 1e-5f); });
  const auto backward = emulator::launch(dim3(2), 128, 16 * 384, [&] { rms_norm_backward(x, weight, inverse, dy, dx, y, partial, 8, 384, 1); });
  // A row's inverse root has four bytes of a sector.
  expect(forward.store_sectors == 8 * 384 / 16 + 8, "rms_norm stores " + std::to_string(forward.store_sectors) + " sectors");
  expect(backward.shared_accesses > 0 && backward.shared_conflicts == 0,
         "rms_norm_backward has " + std::to_string(backward.shared_conflicts) + " bank conflicts");
  // The sums of a block are written in pieces of 16 bytes, half a sector: once a block.
  expect(backward.store_sectors == 2 * 8 * 384 / 16 + 2 * 2 * 384 / 8, "rms_norm_backward stores " + std::to_string(backward.store_sectors) + " sectors");
}

static void all_forward() {
  for (int columns : {8, 40, 264, 384, 576, 960, 2048})
    for (int rows : {1, 11}) forward(rows, columns);
  forward(64, 384);
}

static void all_backward() {
  for (int columns : {8, 40, 264, 384, 576, 960, 2048}) backward(11, columns, 2, true, Again::InPlace, true);
  backward(1, 384, 1, true, Again::No, true);
  backward(37, 384, 3, false, Again::Elsewhere, true);
  backward(37, 384, 10, true, Again::InPlace, false);
}

static void all_sums() {
  for (int parts : {1, 7, 100})
    for (int columns : {8, 40, 384}) sums_of_columns(parts, columns);
}

// The last rows of 2^21 x 2,048: indices beyond 32 bits.
static void last_rows() {
  constexpr int ROWS = 1 << 21, COLUMNS = 2048, SOME = 8;
  constexpr size_t FIRST = size_t(ROWS - SOME) * COLUMNS;
  Norm norm(SOME, COLUMNS, 1e-5);
  Buffer<bf16> x(size_t(ROWS) * COLUMNS), y(size_t(ROWS) * COLUMNS), dy(size_t(ROWS) * COLUMNS), dx(size_t(ROWS) * COLUMNS);
  Buffer<float> weight(norm.weight), inverse(ROWS);
  for (size_t i = 0; i < norm.x.size(); i++) x[FIRST + i] = norm.x[i], dy[FIRST + i] = norm.dy[i], dx[FIRST + i] = norm.old[i];
  launch_last(ROWS / 8, 256, 0, [&] { rms_norm(x, weight, inverse, y, ROWS, COLUMNS, 1e-5f); });
  Deviation forward, backward;
  for (size_t i = 0; i < norm.x.size(); i++) forward.add(norm.y[i], to_float(y[FIRST + i]));
  expect_close("output of the last rows", forward, BF16_BOUND);
  const std::vector<dim3> two{dim3(ROWS / 4 - 1, 0, 0), dim3(ROWS / 4 - 2, 0, 0)};
  emulator::launch_blocks(dim3(ROWS / 4), two, 128, 16 * COLUMNS,
                          [&] { rms_norm_backward(x, weight, inverse, dy, dx, dy, nullptr, ROWS, COLUMNS, 1); });
  for (size_t i = 0; i < norm.x.size(); i++) backward.add(norm.dx[i] + to_float(norm.old[i]), to_float(dx[FIRST + i]));
  expect_close("d_input of the last rows", backward, BF16_BOUND);
  // The last of 2^21 rows of sums, of a block that has no row.
  constexpr int PARTS = 1 << 21;
  Buffer<float> partial(size_t(PARTS) * COLUMNS);
  launch_last(PARTS, 128, 16 * COLUMNS, [&] {
    rms_norm_backward(x, weight, inverse, dy, dx, nullptr, partial, ROWS, COLUMNS, 0);
  });
  for (int i = 0; i < COLUMNS; i++) expect(partial[size_t(PARTS - 1) * COLUMNS + i] == 0.0f, "a block without rows has a sum");
}

int main(int argc, char** argv) {
  return testing::run(argc, argv, {{"rms_norm", all_forward}, {"rms_norm_backward", all_backward}, {"column_sums", all_sums}, {"traffic", traffic}, {"last_rows", last_rows}});
}
