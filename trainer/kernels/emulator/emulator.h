// The part of CUDA that our kernels use, on the host. A thread of a block is a fiber, a block runs on one OS thread.
// What it checks: races, uninitialised reads, bounds and alignment of shared and global memory, divergent barriers and warps,
// copies that nobody waited for. What it counts: products, bank conflicts, sectors. What it cannot see: inline assembly, which the
// PTX interpreter runs, the rounding of tensor cores, and time.
#pragma once
#include "cuda_types.h"
#include "fibers.h"
#include "block.h"
#include "traffic.h"
#include "warps.h"
#include "shadow.h"
#include "shared_memory.h"
#include "global_memory.h"
#include "async_copies.h"
#include "tensor_cores.h"
#include "launch.h"
