// SPDX-License-Identifier: Apache-2.0
// Hopper's copy engine (sm_90a): boxes of a matrix that it brings to shared memory in the background, and barriers in
// shared memory that count what has arrived. Each function on the device is one instruction. PTX ISA 9.0, "Data
// Movement and Conversion Instructions: Tensor copy" and "mbarrier".
//
// In shared memory a box has lines of 64 elements, whose chunks lie as wgmma.h says.
#pragma once

#include <cuda.h>

#include <algorithm>

#include "base/check.h"
#include "cuda/cuda.h"
#include "cuda/mma.h"

namespace swarr {

constexpr int kPanel = 64;  // elements of a line; also rows of an instruction
constexpr int kLineBytes = 128;

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

// The same for `panels` of a matrix that DescribePanels describes with so many, from panel `first` and row y on.
__device__ inline void CopyPanels(void* to_shared, const CUtensorMap& matrix, int panels, int first, int y,
                                  std::uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];"
      :
      : "r"(SharedAddress(to_shared)), "l"(&matrix), "r"(panels > 1 ? 0 : first * kPanel), "r"(y),
        "r"(panels > 1 ? first : 0), "r"(SharedAddress(barrier))
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
// Comes to the barrier as one of them, and goes on.
__device__ inline void ArriveThreads(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" : : "r"(barrier), "r"(threads) : "memory");
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
// What was stored need not have arrived, but for barriers that were shown. First the two halves of that.
__device__ inline void ArriveAtPair() { asm volatile("barrier.cluster.arrive.relaxed;" : : : "memory"); }
__device__ inline void WaitForPair() { asm volatile("barrier.cluster.wait.acquire;" : : : "memory"); }
__device__ inline void SyncPair() {
  ArriveAtPair();
  WaitForPair();
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

// Describes bf16 numbers to the copy engine, which is to read them in such boxes: sizes and boxes in elements, the
// fastest dimension first; strides, of all but that, in bytes at multiples of 16.
template <int rank>
CUtensorMap DescribeBoxes(const BFloat16* data, const cuuint64_t (&sizes)[rank], const cuuint64_t (&strides)[rank - 1],
                          const cuuint32_t (&box)[rank]) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    SWARR_CUDA_CHECK(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
    return reinterpret_cast<Encode>(function);
  }();
  SWARR_CHECK(encode != nullptr, "this CUDA driver can't describe matrices to the copy engine; install a newer one");
  cuuint32_t steps[rank];
  std::fill_n(steps, rank, 1);
  CUtensorMap map;
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<BFloat16*>(data), sizes,
                                 strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SWARR_CHECK(result == CUDA_SUCCESS, "the copy engine can't read a matrix of ", sizes[1], " rows of ", sizes[0],
              " elements, ", strides[0], " bytes apart (CUDA error ", static_cast<int>(result), ")");
  return map;
}

// Describes a matrix that is read in boxes of 64 columns by `lines` rows. `stride` elements lie between the starts of
// two rows.
inline CUtensorMap DescribeMatrix(const BFloat16* data, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                                  int lines) {
  return DescribeBoxes<2>(data, {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)},
                          {static_cast<cuuint64_t>(stride) * sizeof(BFloat16)},
                          {kPanel, static_cast<cuuint32_t>(lines)});
}

// The same for a matrix without gaps that is read in panels of 64 columns, `panels` of them at once, which lie one
// behind another in shared memory. More than one need a whole number of them.
inline CUtensorMap DescribePanels(const BFloat16* data, std::int64_t rows, std::int64_t columns, int lines,
                                  int panels) {
  const auto row = static_cast<cuuint64_t>(columns), across = panels > 1 ? cuuint64_t{kPanel} : row;
  return DescribeBoxes<3>(data, {across, static_cast<cuuint64_t>(rows), row / across},
                          {row * sizeof(BFloat16), kLineBytes},
                          {kPanel, static_cast<cuuint32_t>(lines), static_cast<cuuint32_t>(panels)});
}

}  // namespace swarr
