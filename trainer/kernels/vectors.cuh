// Accesses of 16 bytes, and elements as f32.
#pragma once
#include "device.cuh"

__device__ __forceinline__ void unpack_bf16(float (&low_high)[2], uint32_t packed) {
  low_high[0] = to_float(bf16{uint16_t(packed)});
  low_high[1] = to_float(bf16{uint16_t(packed >> 16)});
}

__device__ __forceinline__ void unpack(float (&x)[8], uint4 packed) {
  const uint32_t pairs[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float pair[2];
    unpack_bf16(pair, pairs[i]);
    x[2 * i] = pair[0];
    x[2 * i + 1] = pair[1];
  }
}

// Eight elements; `from` lies on 16 bytes.
__device__ __forceinline__ void load(float (&x)[8], Global<const bf16> from) { unpack(x, load_vector<uint4>(from)); }

__device__ __forceinline__ void load(float (&x)[4], Global<const float> from) {
  const float4 v = load_vector<float4>(from);
  x[0] = v.x;
  x[1] = v.y;
  x[2] = v.z;
  x[3] = v.w;
}

__device__ __forceinline__ void load(float (&x)[8], Global<const float> from) {
  float low[4], high[4];
  load(low, from);
  load(high, from + 4);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    x[i] = low[i];
    x[i + 4] = high[i];
  }
}

// Four elements; `from` lies on 8 bytes.
__device__ __forceinline__ void load(float (&x)[4], Global<const bf16> from) {
  const uint2 packed = load_vector<uint2>(from);
  float low[2], high[2];
  unpack_bf16(low, packed.x);
  unpack_bf16(high, packed.y);
  x[0] = low[0];
  x[1] = low[1];
  x[2] = high[0];
  x[3] = high[1];
}

// Rounds to the nearest bf16, ties to even.
__device__ __forceinline__ void store(Global<bf16> to, const float (&x)[8]) {
  store_vector(to, uint4{pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7])});
}

__device__ __forceinline__ void store(Global<bf16> to, const float (&x)[4]) {
  store_vector(to, uint2{pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3])});
}

__device__ __forceinline__ void store(Global<float> to, const float (&x)[4]) {
  store_vector(to, float4{x[0], x[1], x[2], x[3]});
}
