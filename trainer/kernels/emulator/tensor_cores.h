// mma.sync and ldmatrix on registers as the lanes of a warp hold them.
#pragma once
#include "block.h"
#include "shared_memory.h"
#include "warps.h"

namespace emulator {

// Row and column of the i-th element of a lane. PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
inline void a_place(unsigned lane, unsigned i, unsigned& row, unsigned& column) {
  row = lane / 4 + (i & 2 ? 8 : 0);
  column = lane % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0);
}
inline void b_place(unsigned lane, unsigned i, unsigned& row, unsigned& column) {
  row = lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0);
  column = lane / 4;
}
inline void c_place(unsigned lane, unsigned i, unsigned& row, unsigned& column) {
  row = lane / 4 + (i >= 2 ? 8 : 0);
  column = lane % 4 * 2 + (i & 1);
}

struct Mma { float* d; const uint32_t* a; uint32_t b[2]; };

// Products are exact in float; each sum is taken in the order of k, which the hardware does not promise.
inline void multiply(Mma* const* all, uint32_t) {
  float a[16][16], b[16][8], d[16][8] = {};
  unsigned row, column;
  auto element = [](const uint32_t* registers, unsigned i) { return __uint_as_float(i % 2 ? registers[i / 2] & 0xffff0000u : registers[i / 2] << 16); };
  for (unsigned lane = 0; lane < LANES; lane++) {
    for (unsigned i = 0; i < 8; i++) { a_place(lane, i, row, column); a[row][column] = element(all[lane]->a, i); }
    for (unsigned i = 0; i < 4; i++) { b_place(lane, i, row, column); b[row][column] = element(all[lane]->b, i); }
  }
  for (unsigned r = 0; r < 16; r++)
    for (unsigned k = 0; k < 16; k++)
      for (unsigned c = 0; c < 8; c++) d[r][c] += a[r][k] * b[k][c];
  for (unsigned lane = 0; lane < LANES; lane++)
    for (unsigned i = 0; i < 4; i++) { c_place(lane, i, row, column); all[lane]->d[i] += d[row][column]; }
  block->counters.mma++;
}

struct LoadMatrix { uint32_t* result; Shared<bf16> row; bool transposed; Here here; };

inline void load_matrices(LoadMatrix* const* all, uint32_t) {
  Block& b = *block;
  b.counters.ldmatrix++;
  for (unsigned m = 0; m < 4; m++) {
    uint16_t rows[8][8];
    unsigned banks[8] = {}, worst = 0;
    size_t seen[8];
    for (unsigned r = 0; r < 8; r++) {
      const LoadMatrix& p = *all[m * 8 + r];
      p.row.check(16, 16, p.here);
      // The warp reads, not the lane that gives the address: its own write of the row needs a __syncwarp too.
      touch_shared(p.row.at, 16, false, true, p.here);
      memcpy(rows[r], &b.shared[p.row.at], 16);
      seen[r] = p.row.at;
      bool repeated = false;  // the same row twice is one access
      for (unsigned i = 0; i < r; i++) repeated |= seen[i] == p.row.at;
      if (!repeated) worst = std::max(worst, ++banks[p.row.at / 16 % 8]);
    }
    b.counters.ldmatrix_conflicts += worst - 1;
    for (unsigned lane = 0; lane < LANES; lane++) {
      const unsigned row = lane / 4, column = lane % 4 * 2;
      all[lane]->result[m] = all[lane]->transposed ? rows[column][row] | uint32_t(rows[column + 1][row]) << 16
                                                   : rows[row][column] | uint32_t(rows[row][column + 1]) << 16;
    }
  }
}

}  // namespace emulator

// d += a x b.
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMULATOR_HERE) {
  emulator::Mma mine{d, a, {b0, b1}};
  emulator::collective(emulator::ALL_LANES, &mine, {"mma.sync", here}, false, emulator::multiply);
}
// Four 8 x 8 matrices; lane i gives row i % 8 of matrix i / 8, 16 bytes.
inline void ldmatrix_x4(uint32_t (&r)[4], Shared<bf16> row, EMULATOR_HERE) {
  emulator::LoadMatrix mine{r, row, false, here};
  emulator::collective(emulator::ALL_LANES, &mine, {"ldmatrix", here}, false, emulator::load_matrices);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], Shared<bf16> row, EMULATOR_HERE) {
  emulator::LoadMatrix mine{r, row, true, here};
  emulator::collective(emulator::ALL_LANES, &mine, {"ldmatrix.trans", here}, false, emulator::load_matrices);
}
