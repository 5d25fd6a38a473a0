// SPDX-License-Identifier: Apache-2.0
// Packs: consecutive elements that a thread loads, computes and stores together, in one access if their address allows
// it. What a thread computes does not depend on how they are moved, so alignment changes no bits; only rmsnorm's
// backward has another kernel for rows of whole packs, which adds up rows of few packs in another order.
#pragma once

#include <cstdint>

#include "cuda/cuda.h"

namespace swarr {

template <class T, int k>
struct alignas(sizeof(T) * k) Pack {
  T at[k];
};

template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));  // elements of the widest access

// Whether packs of k elements, counted from the first element, can be moved whole. A null pointer, for a gradient that
// is not wanted, counts as aligned.
template <int k, class... T>
bool Aligned(const T*... tensors) {
  return ((reinterpret_cast<std::uintptr_t>(tensors) % sizeof(Pack<T, k>) == 0) && ...);
}
// Whether they can be moved whole in every row of this width.
template <int k, class... T>
bool RowsAligned(std::int64_t width, const T*... tensors) {
  return width % k == 0 && Aligned<k>(tensors...);
}

// Elements i to i + k - 1 of n; zeros stand for those past the end.
template <int k, class T>
__device__ inline Pack<T, k> LoadPack(const T* from, std::int64_t i, std::int64_t n, bool aligned) {
  if (aligned && i + k <= n) return *reinterpret_cast<const Pack<T, k>*>(from + i);
  Pack<T, k> pack{};
#pragma unroll
  for (int j = 0; j < k; ++j) {
    if (i + j < n) pack.at[j] = from[i + j];
  }
  return pack;
}

template <int k, class T>
__device__ inline void StorePack(T* to, std::int64_t i, std::int64_t n, bool aligned, const Pack<T, k>& pack) {
  if (aligned && i + k <= n) {
    *reinterpret_cast<Pack<T, k>*>(to + i) = pack;
    return;
  }
#pragma unroll
  for (int j = 0; j < k; ++j) {
    if (i + j < n) to[i + j] = pack.at[j];
  }
}

// The same where it is known when compiling that packs are whole: aligned, and n a multiple of k, or i + k <= n. A
// kernel that loads several packs should know: with the choice between two ways in each load, every load waits for the
// one before.
template <int k, class T>
__device__ inline Pack<T, k> LoadPack(const T* from, std::int64_t i, std::int64_t n, std::true_type) {
  Pack<T, k> pack{};
  if (i < n) pack = *reinterpret_cast<const Pack<T, k>*>(from + i);
  return pack;
}
template <int k, class T>
__device__ inline void StorePack(T* to, std::int64_t i, std::int64_t n, std::true_type, const Pack<T, k>& pack) {
  if (i < n) *reinterpret_cast<Pack<T, k>*>(to + i) = pack;
}
// Calls f.template operator()<whole>().
template <class F>
void WithWhole(bool whole, F&& f) {
  whole ? f.template operator()<true>() : f.template operator()<false>();
}

// A pack of a gradient, to be added to: zeros if it is fresh. (0 + g is g, but for the sign of a zero.)
template <int k, class T, class Aligned>
__device__ inline Pack<T, k> LoadGradient(bool fresh, const T* from, std::int64_t i, std::int64_t n, Aligned aligned) {
  return fresh ? Pack<T, k>{} : LoadPack<k>(from, i, n, aligned);
}

// The first element of this thread's pack: the threads of a grid take packs of k in turn.
template <int k>
__device__ inline std::int64_t FirstOfThread() {
  return (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * k;
}
// The launch for n elements, early.
template <int k>
LaunchShape PackShape(std::int64_t n) {
  return {.blocks = Blocks(n, std::int64_t{kThreads} * k), .early = true};
}

// y[i] = f(x[i], ...) for n elements; a thread takes a pack of k. It loads before it stores, so y may be one of the x.
template <int k, class F, class Out, class... In>
__global__ void MapKernel(std::int64_t n, bool aligned, F f, Out* y, const In*... x) {
  const std::int64_t i = FirstOfThread<k>();
  WaitForPrevious();
  if (i >= n) return;
  const auto compute = [&](const Pack<In, k>&... in) {
    Pack<Out, k> out;
    for (int j = 0; j < k; ++j) out.at[j] = static_cast<Out>(f(in.at[j]...));
    return out;
  };
  if (aligned && i + k <= n) {
    StorePack<k>(y, i, n, std::true_type{}, compute(LoadPack<k>(x, i, n, std::true_type{})...));
  } else {
    StorePack<k>(y, i, n, aligned, compute(LoadPack<k>(x, i, n, aligned)...));
  }
}
template <int k, class F, class Out, class... In>
void Map(const Context& ctx, std::int64_t n, F f, Out* y, const In*... x) {
  const bool aligned = Aligned<k>(y) && (Aligned<k>(x) && ...);
  Launch(ctx, PackShape<k>(n), MapKernel<k, F, Out, In...>, n, aligned, f, y, x...);
}

}  // namespace swarr
