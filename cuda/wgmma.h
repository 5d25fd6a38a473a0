// SPDX-License-Identifier: Apache-2.0
// Hopper's instructions for products of tiles in shared memory (sm_90a), and those that feed them: boxes of a matrix
// that the copy engine brings to shared memory in the background, and barriers in shared memory that count what has
// arrived. Each function is one instruction. PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate
// Instructions".
//
// A group is four warps, 128 threads, that multiply together. Lane l of warp w has of sums[64, n] the elements
// (16 w + l / 4, 8 j + 2 (l % 4)) and its right neighbour in sums[4 j] and sums[4 j + 1], and those 8 rows below in the
// next two.
//
// Tiles in shared memory are panels: lines of 64 elements, 128 bytes, at multiples of 1024 bytes. Swizzle: chunk c (16
// bytes) of line l stands at the place of chunk c ^ (l % 8), so that eight lines' chunks c are in different banks. The
// copy engine and products both know this as the swizzle of 128 bytes.
#pragma once

#include <cuda.h>

#include "base/check.h"
#include "cuda/cuda.h"
#include "cuda/mma.h"

namespace swarr {

constexpr int kGroup = 128;  // threads of a group
constexpr int kPanel = 64;   // elements of a line; also rows of an instruction
constexpr int kLineBytes = 128;
constexpr int kPanelBytes = kPanel * kLineBytes;  // of a panel of 64 lines

// A barrier is passed when `arrivals` threads have arrived at it and all bytes that it expects are there; it then
// begins anew. Its rounds have the parities 0, 1, 0, ...
__device__ inline void InitBarrier(std::uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(SharedAddress(barrier)), "r"(arrivals) : "memory");
}
// Lets the copy engine see barriers that this thread has made.
__device__ inline void ShowBarriers() { asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory"); }
__device__ inline void Arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" : : "r"(SharedAddress(barrier)) : "memory");
}
__device__ inline void ArriveAndExpect(std::uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               :
               : "r"(SharedAddress(barrier)), "r"(bytes)
               : "memory");
}
// Waits for the end of the barrier's present round, if it has this parity. If not, the round before is over: returns.
__device__ inline void WaitBarrier(std::uint64_t* barrier, unsigned parity) {
  asm volatile(
      "{ .reg .pred over;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
      "@!over bra again; }"
      :
      : "r"(SharedAddress(barrier)), "r"(parity)
      : "memory");
}

// Begins to copy the box at (x, y) of a matrix to shared memory; its bytes arrive at the barrier. x counts along the
// rows as they are stored. Zeros stand for what is outside the matrix.
__device__ inline void CopyBox(void* to_shared, const CUtensorMap& matrix, int x, int y, std::uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
               :
               : "r"(SharedAddress(to_shared)), "l"(&matrix), "r"(x), "r"(y), "r"(SharedAddress(barrier))
               : "memory");
}

// The same, for what the second-level cache is to keep as `policy` says.
__device__ inline void CopyBox(void* to_shared, const CUtensorMap& matrix, int x, int y, std::uint64_t* barrier,
                               std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;"
      :
      : "r"(SharedAddress(to_shared)), "l"(&matrix), "r"(x), "r"(y), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// Begins to bring the box to the second-level cache, or the description of the matrix itself to where it is read.
__device__ inline void PrefetchBox(const CUtensorMap& matrix, int x, int y) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global [%0, {%1, %2}];"
               :
               : "l"(&matrix), "r"(x), "r"(y)
               : "memory");
}
__device__ inline void PrefetchMatrix(const CUtensorMap& matrix) {
  asm volatile("prefetch.tensormap [%0];" : : "l"(&matrix) : "memory");
}

// Lets the copy engine and products see what this thread has stored in shared memory.
__device__ inline void ShowStores() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }
// Waits until `threads` threads of the block have come to barrier `barrier`, 1 to 15; __syncthreads has number 0.
__device__ inline void SyncThreads(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" : : "r"(barrier), "r"(threads) : "memory");
}

// CopyBox to that place in all blocks of a pair or cluster, and to the barrier at that place in each.
template <int blocks>
__device__ inline void CopyBoxToAll(void* to_shared, const CUtensorMap& matrix, int x, int y, std::uint64_t* barrier) {
  constexpr std::uint16_t kAll = (1 << blocks) - 1;
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%2, %3}], [%4], %5;"
      :
      : "r"(SharedAddress(to_shared)), "l"(&matrix), "r"(x), "r"(y), "r"(SharedAddress(barrier)), "h"(kAll)
      : "memory");
}
// Begins to copy a box from shared memory to (x, y) of a matrix. What would be outside the matrix is left out.
__device__ inline void StoreBox(const CUtensorMap& matrix, int x, int y, const void* from_shared) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];"
               :
               : "l"(&matrix), "r"(x), "r"(y), "r"(SharedAddress(from_shared))
               : "memory");
}
// Closes a batch of stores: those that this thread began since it closed the last one.
__device__ inline void CommitStores() { asm volatile("cp.async.bulk.commit_group;" : : : "memory"); }
// Waits until all but the last n batches of this thread have read what they store.
template <int n>
__device__ inline void WaitStoresRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;" : : "n"(n) : "memory");
}

// Of blocks that are launched in pairs: waits until all threads of both have come here, but for those that are done.
// What was stored need not have arrived, but for barriers that were shown.
__device__ inline void SyncPair() {
  asm volatile("barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait.acquire;" : : : "memory");
}
// Arrives at the barrier at this place in block `rank` of the pair. Written with the scope of the pair it would wait
// for the memory of the whole device, which nobody here needs: products have read their operands when they are done.
__device__ inline void ArriveIn(unsigned rank, std::uint64_t* barrier) {
  asm volatile(
      "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there]; }"
      :
      : "r"(SharedAddress(barrier)), "r"(rank)
      : "memory");
}

// Stores four matrices of 8 x 8 bf16, held as mma.h says. Lane l passes the address of row l % 8 of matrix l / 8.
__device__ inline void StoreMatrix4(void* row, const std::uint32_t (&from)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
               :
               : "r"(SharedAddress(row)), "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
               : "memory");
}

// Between other uses of the registers that hold sums, and products.
__device__ inline void FenceSums() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }
// Closes a batch of products: those that this group began since it closed the last one.
__device__ inline void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
// Keeps the compiler from computing with these numbers later than here, or earlier.
template <int n>
__device__ inline void KeepHere(float (&numbers)[n]) {
#pragma unroll
  for (float& x : numbers) asm volatile("" : "+f"(x) : : "memory");
}
// Waits until all but the last n batches of this group are done. `sums` are those that have changed until then.
template <int n>
__device__ inline void WaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(n) : "memory");
}
template <int n, int kSums>
__device__ inline void WaitProducts(float (&sums)[kSums]) {
  WaitProducts<n>();
  KeepHere(sums);
}

// How many registers each thread of the group has from here on.
template <int n>
__device__ inline void GrowRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(n));
}
template <int n>
__device__ inline void ShrinkRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(n));
}

// Begin sums[64, n] = a[64, 16] b[n, 16]^T, plus sums if `keep`. a and b are descriptors of tiles in shared memory; a
// transposed one is stored as [16, 64] or [16, n].
template <bool kTransposedA, bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[4], std::uint64_t a, std::uint64_t b, int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %6, 0; wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3}, "
      "%4, %5, keep, 1, 1, %7, %8; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "l"(a), "l"(b), "r"(keep), "n"(int{kTransposedA}), "n"(int{kTransposedB}));
}

template <bool kTransposedA, bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[8], std::uint64_t a, std::uint64_t b, int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %10, 0; wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7}, "
      "%8, %9, keep, 1, 1, %11, %12; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7])
      : "l"(a), "l"(b), "r"(keep), "n"(int{kTransposedA}), "n"(int{kTransposedB}));
}

template <bool kTransposedA, bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[16], std::uint64_t a, std::uint64_t b, int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %18, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "%16, %17, keep, 1, 1, %19, %20; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]),
        "+f"(sums[14]), "+f"(sums[15])
      : "l"(a), "l"(b), "r"(keep), "n"(int{kTransposedA}), "n"(int{kTransposedB}));
}

template <bool kTransposedA, bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[32], std::uint64_t a, std::uint64_t b, int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, keep, 1, 1, %35, %36; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]),
        "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]),
        "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]),
        "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31])
      : "l"(a), "l"(b), "r"(keep), "n"(int{kTransposedA}), "n"(int{kTransposedB}));
}

template <bool kTransposedA, bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[64], std::uint64_t a, std::uint64_t b, int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, keep, 1, 1, %67, %68; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]),
        "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]),
        "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]),
        "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31]), "+f"(sums[32]), "+f"(sums[33]), "+f"(sums[34]),
        "+f"(sums[35]), "+f"(sums[36]), "+f"(sums[37]), "+f"(sums[38]), "+f"(sums[39]), "+f"(sums[40]), "+f"(sums[41]),
        "+f"(sums[42]), "+f"(sums[43]), "+f"(sums[44]), "+f"(sums[45]), "+f"(sums[46]), "+f"(sums[47]), "+f"(sums[48]),
        "+f"(sums[49]), "+f"(sums[50]), "+f"(sums[51]), "+f"(sums[52]), "+f"(sums[53]), "+f"(sums[54]), "+f"(sums[55]),
        "+f"(sums[56]), "+f"(sums[57]), "+f"(sums[58]), "+f"(sums[59]), "+f"(sums[60]), "+f"(sums[61]), "+f"(sums[62]),
        "+f"(sums[63])
      : "l"(a), "l"(b), "r"(keep), "n"(int{kTransposedA}), "n"(int{kTransposedB}));
}

template <bool kTransposedA, bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[96], std::uint64_t a, std::uint64_t b, int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %98, 0; wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, "
      "%96, %97, keep, 1, 1, %99, %100; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]),
        "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]),
        "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]),
        "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31]), "+f"(sums[32]), "+f"(sums[33]), "+f"(sums[34]),
        "+f"(sums[35]), "+f"(sums[36]), "+f"(sums[37]), "+f"(sums[38]), "+f"(sums[39]), "+f"(sums[40]), "+f"(sums[41]),
        "+f"(sums[42]), "+f"(sums[43]), "+f"(sums[44]), "+f"(sums[45]), "+f"(sums[46]), "+f"(sums[47]), "+f"(sums[48]),
        "+f"(sums[49]), "+f"(sums[50]), "+f"(sums[51]), "+f"(sums[52]), "+f"(sums[53]), "+f"(sums[54]), "+f"(sums[55]),
        "+f"(sums[56]), "+f"(sums[57]), "+f"(sums[58]), "+f"(sums[59]), "+f"(sums[60]), "+f"(sums[61]), "+f"(sums[62]),
        "+f"(sums[63]), "+f"(sums[64]), "+f"(sums[65]), "+f"(sums[66]), "+f"(sums[67]), "+f"(sums[68]), "+f"(sums[69]),
        "+f"(sums[70]), "+f"(sums[71]), "+f"(sums[72]), "+f"(sums[73]), "+f"(sums[74]), "+f"(sums[75]), "+f"(sums[76]),
        "+f"(sums[77]), "+f"(sums[78]), "+f"(sums[79]), "+f"(sums[80]), "+f"(sums[81]), "+f"(sums[82]), "+f"(sums[83]),
        "+f"(sums[84]), "+f"(sums[85]), "+f"(sums[86]), "+f"(sums[87]), "+f"(sums[88]), "+f"(sums[89]), "+f"(sums[90]),
        "+f"(sums[91]), "+f"(sums[92]), "+f"(sums[93]), "+f"(sums[94]), "+f"(sums[95])
      : "l"(a), "l"(b), "r"(keep), "n"(int{kTransposedA}), "n"(int{kTransposedB}));
}

template <bool kTransposedA, bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[128], std::uint64_t a, std::uint64_t b, int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "%128, %129, keep, 1, 1, %131, %132; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]),
        "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]),
        "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]),
        "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31]), "+f"(sums[32]), "+f"(sums[33]), "+f"(sums[34]),
        "+f"(sums[35]), "+f"(sums[36]), "+f"(sums[37]), "+f"(sums[38]), "+f"(sums[39]), "+f"(sums[40]), "+f"(sums[41]),
        "+f"(sums[42]), "+f"(sums[43]), "+f"(sums[44]), "+f"(sums[45]), "+f"(sums[46]), "+f"(sums[47]), "+f"(sums[48]),
        "+f"(sums[49]), "+f"(sums[50]), "+f"(sums[51]), "+f"(sums[52]), "+f"(sums[53]), "+f"(sums[54]), "+f"(sums[55]),
        "+f"(sums[56]), "+f"(sums[57]), "+f"(sums[58]), "+f"(sums[59]), "+f"(sums[60]), "+f"(sums[61]), "+f"(sums[62]),
        "+f"(sums[63]), "+f"(sums[64]), "+f"(sums[65]), "+f"(sums[66]), "+f"(sums[67]), "+f"(sums[68]), "+f"(sums[69]),
        "+f"(sums[70]), "+f"(sums[71]), "+f"(sums[72]), "+f"(sums[73]), "+f"(sums[74]), "+f"(sums[75]), "+f"(sums[76]),
        "+f"(sums[77]), "+f"(sums[78]), "+f"(sums[79]), "+f"(sums[80]), "+f"(sums[81]), "+f"(sums[82]), "+f"(sums[83]),
        "+f"(sums[84]), "+f"(sums[85]), "+f"(sums[86]), "+f"(sums[87]), "+f"(sums[88]), "+f"(sums[89]), "+f"(sums[90]),
        "+f"(sums[91]), "+f"(sums[92]), "+f"(sums[93]), "+f"(sums[94]), "+f"(sums[95]), "+f"(sums[96]), "+f"(sums[97]),
        "+f"(sums[98]), "+f"(sums[99]), "+f"(sums[100]), "+f"(sums[101]), "+f"(sums[102]), "+f"(sums[103]),
        "+f"(sums[104]), "+f"(sums[105]), "+f"(sums[106]), "+f"(sums[107]), "+f"(sums[108]), "+f"(sums[109]),
        "+f"(sums[110]), "+f"(sums[111]), "+f"(sums[112]), "+f"(sums[113]), "+f"(sums[114]), "+f"(sums[115]),
        "+f"(sums[116]), "+f"(sums[117]), "+f"(sums[118]), "+f"(sums[119]), "+f"(sums[120]), "+f"(sums[121]),
        "+f"(sums[122]), "+f"(sums[123]), "+f"(sums[124]), "+f"(sums[125]), "+f"(sums[126]), "+f"(sums[127])
      : "l"(a), "l"(b), "r"(keep), "n"(int{kTransposedA}), "n"(int{kTransposedB}));
}

// The same with a in registers: warp w has rows 16 w .., as MultiplyAccumulate of mma.h takes them. The registers may
// not change before the products are waited for.
template <bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[32], const std::uint32_t (&a)[4], std::uint64_t b,
                                               int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, keep, 1, 1, %38; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]),
        "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]),
        "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]),
        "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(int{kTransposedB}));
}

template <bool kTransposedB>
__device__ inline void MultiplyAccumulateGroup(float (&sums)[64], const std::uint32_t (&a)[4], std::uint64_t b,
                                               int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, keep, 1, 1, %70; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]),
        "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]),
        "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]),
        "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31]), "+f"(sums[32]), "+f"(sums[33]), "+f"(sums[34]),
        "+f"(sums[35]), "+f"(sums[36]), "+f"(sums[37]), "+f"(sums[38]), "+f"(sums[39]), "+f"(sums[40]), "+f"(sums[41]),
        "+f"(sums[42]), "+f"(sums[43]), "+f"(sums[44]), "+f"(sums[45]), "+f"(sums[46]), "+f"(sums[47]), "+f"(sums[48]),
        "+f"(sums[49]), "+f"(sums[50]), "+f"(sums[51]), "+f"(sums[52]), "+f"(sums[53]), "+f"(sums[54]), "+f"(sums[55]),
        "+f"(sums[56]), "+f"(sums[57]), "+f"(sums[58]), "+f"(sums[59]), "+f"(sums[60]), "+f"(sums[61]), "+f"(sums[62]),
        "+f"(sums[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(int{kTransposedB}));
}

// Where products find a tile: address, and the distances of panels (of 64 lines each) and of groups of 8 lines, all in
// units of 16 bytes. The upper bits of an address in shared memory tell the blocks of a pair apart, and have no place
// here.
__device__ inline std::uint64_t Describe(const char* tile) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint32_t kWithinBlock = (1 << 18) - 1;
  return (SharedAddress(tile) & kWithinBlock) / 16 | std::uint64_t{kPanelBytes / 16} << 16 |
         std::uint64_t{8 * kLineBytes / 16} << 32 | kSwizzle128;
}
// The place `units` further. It does not leave the lower word.
__device__ inline std::uint64_t Advance(std::uint64_t place, int units) {
  constexpr std::uint64_t kUpper = ~std::uint64_t{0} << 32;
  return (place & kUpper) | (static_cast<std::uint32_t>(place) + static_cast<std::uint32_t>(units));
}
// From 16 k to the next 16, in the same units: along the lines, or 16 lines further.
template <bool kTransposed>
constexpr int kNextSlice = kTransposed ? 16 * kLineBytes / 16 : 2;

// Describes a matrix of bf16 to the copy engine: it is read in boxes of 64 columns by `lines` rows. `stride` elements
// lie between the starts of two rows, at multiples of 16 bytes.
inline CUtensorMap DescribeMatrix(const BFloat16* data, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                                  int lines) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    SWARR_CUDA_CHECK(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
    return reinterpret_cast<Encode>(function);
  }();
  SWARR_CHECK(encode != nullptr, "this CUDA driver can't describe matrices to the copy engine; install a newer one");
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)},
                   row_bytes = static_cast<cuuint64_t>(stride) * sizeof(BFloat16);
  const cuuint32_t box[] = {kPanel, static_cast<cuuint32_t>(lines)}, steps[] = {1, 1};
  CUtensorMap map;
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<BFloat16*>(data), sizes,
                                 &row_bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SWARR_CHECK(result == CUDA_SUCCESS, "the copy engine can't read a matrix of ", rows, " rows of ", columns,
              " elements, ", stride, " apart (CUDA error ", static_cast<int>(result), ")");
  return map;
}

}  // namespace swarr
