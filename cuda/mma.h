// SPDX-License-Identifier: Apache-2.0
// The instructions of tensor cores for bf16, and those that feed them: copies from global to shared memory that run in
// the background, and loads of 8 x 8 matrices from shared memory. Each function is one instruction.
//
// A warp holds an 8 x 8 matrix of bf16 so: lane l has the element (l / 4, 2 (l % 4)) and its right neighbour in one
// register, the left one in the lower half. An 8 x 8 matrix of f32 lies in the same lanes, in two registers each.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace swarr {

__device__ inline std::uint32_t SharedAddress(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// Loads four matrices of 8 x 8 bf16. Lane l passes the address of row l % 8 of matrix l / 8: 16 bytes, at a multiple of
// 16.
__device__ inline void LoadMatrix4(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// The same, each matrix transposed.
__device__ inline void LoadMatrix4Transposed(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// sums[16, 8] += a[16, 16] b[8, 16]^T. a: the matrices (rows 0-7, k 0-7), (rows 8-15, k 0-7), (rows 0-7, k 8-15),
// (rows 8-15, k 8-15). b: k 0-7 and k 8-15. sums: rows 0-7, then rows 8-15.
__device__ inline void MultiplyAccumulate(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                                          std::uint32_t b_high) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}

// Begins to copy `bytes` <= 16 bytes to shared memory, with zeros behind them up to 16. Both addresses are multiples
// of 16. No more than `bytes` bytes of global memory are read.
__device__ inline void CopyAsync16(void* to_shared, const void* from_global, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :
               : "r"(SharedAddress(to_shared)), "l"(__cvta_generic_to_global(from_global)), "r"(bytes)
               : "memory");
}

// The same for 4 bytes, or 0: zeros.
__device__ inline void CopyAsync4(void* to_shared, const void* from_global, int bytes = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
               :
               : "r"(SharedAddress(to_shared)), "l"(__cvta_generic_to_global(from_global)), "r"(bytes)
               : "memory");
}

// Closes a group of copies: those that this thread began since it closed the last one.
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" : : : "memory"); }

// Waits until all but the last n groups of this thread have arrived. A barrier must follow before other threads' copies
// are read.
template <int n>
__device__ inline void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(n) : "memory");
}

// Two floats rounded to bf16 as BFloat16 does, but with one NaN for all; `low` is in the lower half.
__device__ inline std::uint32_t RoundPair(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

}  // namespace swarr
