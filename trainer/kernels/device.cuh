// What kernels are written against: PTX under nvcc, the emulator on the host.
#pragma once
#ifndef __CUDACC__
#include "emulator/emulator.h"
#define KERNEL inline
#else
#include <cstdint>
#define KERNEL extern "C" __global__

// A bfloat16 number. Arithmetic is in float.
struct bf16 { uint16_t bits; };
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
// Two numbers rounded to nearest even; `low` is the first in memory.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
__device__ __forceinline__ bf16 to_bf16(float f) { return {uint16_t(pack_bf16(f, 0.0f) & 0xffff)}; }
__device__ __forceinline__ float exp2_approx(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ __forceinline__ float log2_approx(float x) {
  float r;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// A pointer to global memory; the emulator's checks bounds, alignment, initialisation and races.
template <class T> using Global = T*;
// `V` (uint2, uint4, float2, float4) at an address aligned to its size.
template <class V, class T> __device__ __forceinline__ V load_vector(T* p) { return *reinterpret_cast<const V*>(p); }
template <class V, class T> __device__ __forceinline__ void store_vector(T* p, V v) { *reinterpret_cast<V*>(p) = v; }

// A pointer into shared memory, 32 bits wide: half the registers of a generic one.
template <class T> struct Shared {
  uint32_t at;
  __device__ __forceinline__ T& operator[](int i) const { return *reinterpret_cast<T*>(__cvta_shared_to_generic(at + i * uint32_t(sizeof(T)))); }
  __device__ __forceinline__ Shared operator+(int i) const { return {at + i * uint32_t(sizeof(T))}; }
  template <class U> __device__ __forceinline__ Shared<U> as() const { return {at}; }
};
template <class V, class T> __device__ __forceinline__ V load_vector(Shared<T> p) { return p.template as<V>()[0]; }
template <class V, class T> __device__ __forceinline__ void store_vector(Shared<T> p, V v) { p.template as<V>()[0] = v; }

// Hands out the dynamic shared memory of a launch in arrays of 128-byte alignment.
extern __shared__ __align__(128) unsigned char shared_bytes[];
struct SharedArena {
  uint32_t used = 0;
  template <class T> __device__ __forceinline__ Shared<T> take(uint32_t n) {
    used = (used + 127) / 128 * 128;
    Shared<T> s{uint32_t(__cvta_generic_to_shared(shared_bytes)) + used};
    used += n * uint32_t(sizeof(T));
    return s;
  }
};

// d += a x b. PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Four 8 x 8 matrices; lane i gives row i % 8 of matrix i / 8, 16 bytes.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], Shared<bf16> row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row.at) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], Shared<bf16> row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row.at) : "memory");
}
// Copies 16 bytes to shared memory without waiting; zeros where `in` is false, and then `from` is not read.
template <class S, class T> __device__ __forceinline__ void cp_async_16(Shared<S> to, const T* from, bool in) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to.at), "l"(from), "r"(in ? 16 : 0) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most N committed groups of this thread are on their way.
template <int N> __device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
#endif
