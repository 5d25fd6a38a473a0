// SPDX-License-Identifier: Apache-2.0
// What every CUDA file shares: checked calls, the stream, launches, and sums over a warp and over a block.
//
// Rules of the CUDA kernels, beside those of ops.h: There are no atomics on floats and no fast-math. Contraction is off
// (cmake/cuda.cmake) and a fused multiply-add is written fma(), so that inlining can't change bits. A row's result
// depends on that row alone: the map of threads to elements never depends on the number of rows.
#pragma once

#include <cuda_runtime.h>

#include <limits>
#include <memory>
#include <type_traits>

#include "tensor/context.h"

namespace swarr {

// The stream of a Context, and what launches need to know about its device.
struct CudaStream {
  cudaStream_t handle = nullptr;
  int multiprocessors = 0;
  int shared_memory = 0;          // bytes that a block can ask for
  bool has_warpgroups = false;    // that multiply (sm_90a: gemm_wgmma.cu)
  bool begins_early = false;      // a kernel, where it may (LaunchShape)
  std::shared_ptr<void> library;  // cuBLAS's handle, from its first product on (gemm_cublas.cu)
};

[[noreturn]] void ThrowCuda(cudaError_t error, const char* what, const char* file, int line);

// Throws Error unless the call succeeds.
#define SWARR_CUDA_CHECK(call)                                                                  \
  do {                                                                                          \
    const cudaError_t swarr_error = (call);                                                     \
    if (swarr_error != cudaSuccess) ::swarr::ThrowCuda(swarr_error, #call, __FILE__, __LINE__); \
  } while (0)

constexpr int kWarp = 32;
constexpr int kThreads = 256;  // of a block, where nothing else is said
constexpr int kWarps = kThreads / kWarp;

constexpr std::int64_t Blocks(std::int64_t work, std::int64_t per_block) { return (work + per_block - 1) / per_block; }

// How a kernel is launched: its blocks, the threads of a block, and the shared memory that it asks for. An early kernel
// may begin before the one before it is done, if that lets it (programmatic dependent launch, CUDA C++ Programming
// Guide): it calls WaitForPrevious, and before that it neither writes nor reads anything that a kernel writes, but for
// what was written before the last kernel that is not early, or copy, began.
struct LaunchShape {
  dim3 blocks, threads = kThreads;
  std::size_t shared_bytes = 0;
  bool early = false;
  unsigned cluster = 0;  // blocks that run on neighbouring multiprocessors, if the kernel itself does not say
};
// Waits until the kernels before are done and what they wrote can be read. Every thread of an early kernel calls this.
__device__ inline void WaitForPrevious() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" : : : "memory");
#endif
}
// From when all blocks have called this, an early kernel that comes next may begin.
__device__ inline void LetNextBegin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" : : : "memory");
#endif
}

// The argument for a kernel's parameter of type P: the elements of a tensor, null if it is empty, or the value itself.
template <class P, class A>
P ArgumentOf(const A& a) {
  if constexpr (std::is_same_v<A, Tensor> && std::is_pointer_v<P>) {
    return a.empty() ? nullptr : a.template data<std::remove_const_t<std::remove_pointer_t<P>>>();
  } else {
    return a;
  }
}

// Launches a kernel on the context's stream; where there are no blocks, there is nothing to do. A bad launch shape is
// reported here.
template <class... P, class... A>
void Launch(const Context& ctx, const LaunchShape& shape, void (*kernel)(P...), const A&... arguments) {
  if (shape.blocks.x == 0) return;
  // More than 48 KiB of shared memory, what the kernel declares included, has to be asked for.
  if (shape.shared_bytes > 24 * 1024) {
    SWARR_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(shape.shared_bytes)));
  }
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (shape.early && ctx.stream->begins_early) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 0) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {shape.cluster, 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.blocks;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = ctx.stream->handle;
  config.attrs = attributes;
  config.numAttrs = count;
  SWARR_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, ArgumentOf<P>(arguments)...));
}

// A gradient in device code: null if it is not wanted, written where it is fresh.
template <class T>
struct Gradient {
  T* data;
  bool fresh;

  explicit Gradient(const Tensor& t) : data(t.empty() ? nullptr : t.data<T>()), fresh(t.fresh()) {}
  // + 0 makes one zero of two: terms that weigh nothing may or may not have turned -0 into 0.
  __device__ void Add(std::int64_t i, Accumulator<T> x) const {
    using Sum = Accumulator<T>;
    if (data) data[i] = static_cast<T>((fresh ? x : Sum(data[i]) + x) + Sum(0));
  }
};

// Sums and maxima over the 32 lanes of a warp. Every lane gets the result, with the same bits: a butterfly adds the
// same pairs in every lane.
template <class T>
__device__ inline T WarpSum(T x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
template <class T>
__device__ inline T WarpMax(T x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, x, distance);
    x = x < other ? other : x;
  }
  return x;
}

// The same over a block of whole warps: each warp reduces by a butterfly, then every warp reduces the warps' results by
// one more. All threads must call. OfWarp gives lane i of every warp the value of warp i, or `none` if there is no such
// warp.
template <class T>
__device__ inline T OfWarp(T of_this_warp, T none) {
  __shared__ T of_warp[kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  __syncthreads();  // an earlier call's values have been read
  if (lane == 0) of_warp[warp] = of_this_warp;
  __syncthreads();
  return lane < static_cast<int>(blockDim.x) / kWarp ? of_warp[lane] : none;
}
template <class T>
__device__ inline T BlockSum(T x) {
  return WarpSum(OfWarp(WarpSum(x), T(0)));
}
template <class T>
__device__ inline T BlockMax(T x) {
  return WarpMax(OfWarp(WarpMax(x), -std::numeric_limits<T>::infinity()));
}

}  // namespace swarr
