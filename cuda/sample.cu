// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/sample.cc, in two launches, which read the logits once. ScanKernel: several blocks share
// the entries of a row; each finds those that may have the largest score, and of each slice what the softmax of
// training wants to know. FinishKernel: a warp for each row computes the scores of these few entries, and another
// merges the slices. A maximum does not round, so the way in which entries are shared out leaves no trace in the
// choice, and slices have one order (softmax_row.h). Short rows have one block, which does both (DrawKernel).
#include <limits>

#include "cuda/softmax_row.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

constexpr int kScanThreads = 256;
constexpr int kScanSlices = kScanThreads / kSliceLanes;  // of a block
constexpr int kScanEntries = kScanSlices * kSlice;
constexpr int kDraws = 4;  // entries of one counter of Philox

// The largest score so far and its entry. Entry 0 stands for none, as on the CPU: a score that is not above -infinity
// is never chosen.
struct Choice {
  double score = -std::numeric_limits<double>::infinity();
  std::int64_t entry = 0;
};

// The larger of two; of equals the one with the lower entry.
__device__ Choice Better(Choice a, Choice b) {
  return b.score > a.score || (b.score == a.score && b.entry < a.entry) ? b : a;
}

__device__ Choice WarpBest(Choice choice) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    choice = Better(choice, {__shfl_xor_sync(0xffffffffu, choice.score, distance),
                             __shfl_xor_sync(0xffffffffu, choice.entry, distance)});
  }
  return choice;
}

constexpr float kInfinite = std::numeric_limits<float>::infinity();

// How a row chooses.
struct Draw {
  std::uint64_t key;
  std::uint32_t position;
  bool greedy;
  double scale;
  float inverse;

  __device__ Draw(const SampleRow& row, std::int32_t at)
      : key(row.key),
        position(static_cast<std::uint32_t>(at)),
        greedy(row.temperature == 0),
        scale(greedy ? 1.0 : row.temperature),
        inverse(static_cast<float>(1 / scale)) {}

  // Words of the entries kDraws * counter and those behind it.
  __device__ PhiloxWords Words(std::int64_t counter) const {
    return Philox(key, {static_cast<std::uint32_t>(counter), position, 0, 0});
  }
  __device__ std::uint32_t Word(std::int64_t entry) const {
    const PhiloxWords words = Words(entry / kDraws);
    std::uint32_t word = words[0];
#pragma unroll
    for (int i = 1; i < kDraws; ++i) word = entry % kDraws == i ? words[i] : word;
    return word;
  }
  template <class T>
  __device__ double Score(T z, std::int64_t entry) const {
    const double scaled = static_cast<double>(z) / scale;
    return greedy ? scaled : scaled + GumbelFrom(Word(entry));
  }
};

// The most that scores of a lane's entries can be, by far cheaper than the scores, and the least that the largest of
// them is. An entry whose noise has no good lower bound does not count for that.
struct ScoreBounds {
  float most[kLaneEntries], largest, least;

  template <class T>
  __device__ ScoreBounds(const T (&z)[kLaneEntries], const std::uint32_t (&words)[kLaneEntries], const Draw& draw) {
    float best = largest = -kInfinite;
#pragma unroll
    for (int i = 0; i < kLaneEntries; ++i) {
      most[i] = fmaf(static_cast<float>(z[i]), draw.inverse, draw.greedy ? 0.0f : MostGumbel(words[i]));
      largest = fmaxf(largest, most[i]);
      if (words[i] >> 31) best = fmaxf(best, most[i]);
    }
    // More than f32 rounds off on the way, for scores that are near the largest. Infinite ones are not to spoil it.
    const float slack = (fminf(fabsf(largest), 0x1p127f) + 160) * 0x1p-20f;
    largest += slack;
#pragma unroll
    for (float& x : most) x += slack;
    least = fmaxf(-kInfinite, best - slack - (draw.greedy ? 0.0f : kMostGumbelAbove));
  }
};

// The random words of a lane's entries of a slice, in ascending order. Two neighbouring lanes have the entries of the
// same counters: each computes half of them, and hands the other its words.
__device__ inline void WordsOfSlice(const Draw& draw, unsigned slice, std::uint32_t (&words)[kLaneEntries]) {
  const unsigned lane = threadIdx.x % kSliceLanes;
  const bool odd = lane % 2 != 0;
#pragma unroll
  for (int j = 0; j < kLaneEntries / 2; j += 2) {
    const PhiloxWords own = draw.Words(slice * (kSlice / kDraws) + (j + (odd ? 1 : 0)) * (8 / kDraws) + lane / 2);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t kept = odd ? own[2 + i] : own[i], sent = odd ? own[i] : own[2 + i],
                          received = __shfl_xor_sync(0xffffffffu, sent, 1);
      words[2 * j + i] = odd ? received : kept;
      words[2 * j + 2 + i] = odd ? kept : received;
    }
  }
}

// A lane's entries of a slice, of which `count` are there, with kLowest behind the last.
template <bool whole, class T>
__device__ void LoadEntries(const T* slice, int count, T (&z)[kLaneEntries]) {
  if (whole && count >= kSlice) {
#pragma unroll
    for (int j = 0; j < kLaneEntries / 2; ++j) {
      const auto pair = *reinterpret_cast<const Pack<T, 2>*>(slice + PairInSlice(j));
      z[2 * j] = pair.at[0];
      z[2 * j + 1] = pair.at[1];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kLaneEntries; ++i) {
    const int at = PairInSlice(i / 2) + i % 2;
    z[i] = at < count ? slice[at] : kLowest<T>;
  }
}

// What log p needs of a slice (SoftmaxPart).
template <class T>
struct SliceSum {
  T largest, sum;
};

// What is found in each part of a row: entries that may be chosen, since the most that their score can be is not below
// the least that the largest is. They are 2 or 3, as a rule.
constexpr int kMostFound = kWarp;
struct Found {
  std::int32_t* count;  // [parts]
  std::int32_t* entry;  // [parts, kMostFound]; if there are more, nobody knows them all

  __device__ Found Of(std::int64_t first) const { return {count + first, entry + first * kMostFound}; }
};

// This block's part of row n, the part-th kScanSlices slices, of which `of_slices` and `found` keep what is known.
template <bool whole, class T>
__device__ void ScanPart(const T* row, std::int64_t V, unsigned part, const Draw& draw, SliceSum<T>* of_slices,
                         const Found& found) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 0;
  const unsigned slice = part * kScanSlices + threadIdx.x / kSliceLanes;
  T z[kLaneEntries];
  LoadEntries<whole>(row + slice * kSlice,
                     static_cast<int>(min(V - std::int64_t{slice} * kSlice, std::int64_t{kSlice})), z);
  const SoftmaxPart<T> known = PartOfSlice<false>(z);
  if (threadIdx.x % kSliceLanes == 0 && slice < Blocks(V, kSlice)) of_slices[slice] = {known.largest, known.sum};

  std::uint32_t words[kLaneEntries];
#pragma unroll
  for (std::uint32_t& word : words) word = ~0u;
  if (!draw.greedy) WordsOfSlice(draw, slice, words);
  const ScoreBounds bounds(z, words, draw);
  const float least = BlockMax(bounds.least);  // with barriers: all see the zero
  unsigned candidates = 0;
  if (bounds.largest >= least) {
#pragma unroll
    for (int i = 0; i < kLaneEntries; ++i) candidates |= bounds.most[i] >= least ? 1u << i : 0u;
  }
#pragma unroll 1
  for (; candidates != 0; candidates &= candidates - 1) {
    const int i = __ffs(static_cast<int>(candidates)) - 1;
    const std::int64_t entry = std::int64_t{slice} * kSlice + PairInSlice(i / 2) + i % 2;
    if (entry >= V) continue;
    // Threads take places in any order. The best of the candidates does not depend on it, ties included.
    const int place = atomicAdd(&count, 1);
    if (place < kMostFound) found.entry[part * kMostFound + place] = static_cast<std::int32_t>(entry);
  }
  __syncthreads();
  if (threadIdx.x == 0) found.count[part] = count;
}

// The entry of a row that is chosen, by one warp. What the parts have found is gathered first, so that the scores,
// whose noise costs two logarithms in f64, are computed side by side.
template <class T>
__device__ std::int64_t ChosenEntry(unsigned parts, const Found& found, const Draw& draw, const T* row,
                                    std::int64_t V) {
  __shared__ std::int32_t gathered[kWarp * kMostFound];
  const unsigned lane = threadIdx.x % kWarp;
  Choice best;
  const auto add = [&](std::int64_t entry) {
    const double score = draw.Score(row[entry], entry);
    if (score > Choice{}.score) best = Better(best, {score, entry});
  };
#pragma unroll 1
  for (unsigned first = 0; first < parts; first += kWarp) {
    const unsigned at = first + lane;
    const int count = first + lane < parts ? found.count[at] : 0, own = count > kMostFound ? 0 : count;
    int end = own;
#pragma unroll
    for (unsigned distance = 1; distance < kWarp; distance *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, end, distance);
      if (lane >= distance) end += before;
    }
    for (int i = 0; i < own; ++i) gathered[end - own + i] = found.entry[at * kMostFound + i];
    const int all = __shfl_sync(0xffffffffu, end, kWarp - 1);
    __syncwarp();
    for (int i = static_cast<int>(lane); i < all; i += kWarp) add(gathered[i]);
    // A part that found too many is gone through whole.
    unsigned crowded = __ballot_sync(0xffffffffu, count > kMostFound);
    for (; crowded != 0; crowded &= crowded - 1) {
      const std::int64_t begin = std::int64_t{first + __ffs(static_cast<int>(crowded)) - 1} * kScanEntries;
      for (std::int64_t entry = begin + lane; entry < min(V, begin + kScanEntries); entry += kWarp) add(entry);
    }
    __syncwarp();
  }
  return WarpBest(best).entry;
}

// A row's token and its log p, from what its parts have found: a warp chooses, and another merges the slices.
template <class T>
__device__ void FinishRow(const T* row, std::int64_t V, unsigned parts, const Draw& draw, const SliceSum<T>* of_slices,
                          const Found& found, std::int32_t* token, T* logp) {
  __shared__ T lse;
  std::int64_t entry = 0;
  if (threadIdx.x < kWarp) {
    entry = ChosenEntry(parts, found, draw, row, V);
  } else if (threadIdx.x < 2 * kWarp) {
    const auto slices = static_cast<unsigned>(Blocks(V, kSlice));
    SoftmaxPart<T> of_lane{kLowest<T>, 0, 0};
    constexpr int kAtOnce = 16;  // to load, which takes longer than to merge
#pragma unroll 1
    for (unsigned first = threadIdx.x - kWarp; first < slices; first += kAtOnce * kWarp) {
      SliceSum<T> known[kAtOnce];
#pragma unroll
      for (unsigned i = 0; i < kAtOnce; ++i) {
        if (first + i * kWarp < slices) known[i] = of_slices[first + i * kWarp];
      }
#pragma unroll
      for (unsigned i = 0; i < kAtOnce; ++i) {
        if (first + i * kWarp < slices) of_lane = Merge(of_lane, {known[i].largest, known[i].sum, 0});
      }
    }
    const SoftmaxRow<T> softmax = WarpSoftmaxOf(of_lane);
    if (threadIdx.x == kWarp) lse = softmax.lse;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  *token = static_cast<std::int32_t>(entry);
  *logp = row[entry] - lse;
}

template <class T>
struct DrawnRows {
  std::int64_t V;
  const T* logits;
  const std::int32_t* positions;
  const SampleRow* rows;
  std::int32_t* tokens;
  T* logp;

  __device__ Draw DrawOf(unsigned n) const { return {rows[n], positions[n]}; }
};

// Rows of several parts: block (n, part) scans one, then a block finishes each row.
template <class T, bool whole>
__global__ void __launch_bounds__(kScanThreads, sizeof(T) == 4 ? 4 : 2)
    ScanKernel(DrawnRows<T> in, unsigned parts, SliceSum<T>* of_slices, Found found) {
  LetNextBegin();
  WaitForPrevious();
  const unsigned n = blockIdx.x / parts;
  ScanPart<whole>(in.logits + n * in.V, in.V, blockIdx.x % parts, in.DrawOf(n), of_slices + n * Blocks(in.V, kSlice),
                  found.Of(std::int64_t{n} * parts));
}
template <class T>
__global__ void __launch_bounds__(2 * kWarp)
    FinishKernel(DrawnRows<T> in, unsigned parts, const SliceSum<T>* of_slices, Found found) {
  WaitForPrevious();
  const unsigned n = blockIdx.x;
  FinishRow(in.logits + n * in.V, in.V, parts, in.DrawOf(n), of_slices + n * Blocks(in.V, kSlice),
            found.Of(std::int64_t{n} * parts), in.tokens + n, in.logp + n);
}

// Rows of one part: the block that scans one finishes it.
template <class T, bool whole>
__global__ void __launch_bounds__(kScanThreads) DrawKernel(DrawnRows<T> in) {
  __shared__ SliceSum<T> of_slices[kScanSlices];
  __shared__ std::int32_t count, entries[kMostFound];
  WaitForPrevious();
  const unsigned n = blockIdx.x;
  const T* row = in.logits + n * in.V;
  const Draw draw = in.DrawOf(n);
  const Found found{&count, entries};
  ScanPart<whole>(row, in.V, 0, draw, of_slices, found);
  __syncthreads();
  FinishRow(row, in.V, 1, draw, of_slices, found, in.tokens + n, in.logp + n);
}

// Where kernels read `rows` fast: as they are in the device's memory, or a copy of the host's.
const SampleRow* RowsOnDevice(const Context& ctx, const SampleRow* rows, std::int64_t N) {
  cudaPointerAttributes attributes{};
  SWARR_CUDA_CHECK(cudaPointerGetAttributes(&attributes, rows));
  if (attributes.type == cudaMemoryTypeDevice) return rows;
  auto* copy = ctx.arena->NewArray<SampleRow>(N);
  EnqueueCopy(*ctx.stream, copy, rows, static_cast<std::size_t>(N) * sizeof(SampleRow));
  return copy;
}

}  // namespace

template <>
void Kernels<Cuda>::SampleRows(const Context& ctx, const Tensor& tokens, const Tensor& logp, const Tensor& logits,
                               const Tensor& positions, const SampleRow* rows) {
  const std::int64_t N = logits.dim(0), V = logits.dim(1), parts = Blocks(V, kScanEntries);
  if (N == 0) return;
  ArenaScope scope(*ctx.arena);
  const SampleRow* on_device = RowsOnDevice(ctx, rows, N);
  DispatchSum(logits.dtype(), [&]<class T>() {
    const DrawnRows<T> in{
        V, logits.data<T>(), positions.data<std::int32_t>(), on_device, tokens.data<std::int32_t>(), logp.data<T>()};
    WithWhole(RowsAligned<2>(V, in.logits), [&]<bool whole>() {
      if (parts == 1) return Launch(ctx, {N, kScanThreads, 0, /*early=*/true}, DrawKernel<T, whole>, in);
      const Found found{ctx.arena->NewArray<std::int32_t>(N * parts),
                        ctx.arena->NewArray<std::int32_t>(N * parts * kMostFound)};
      auto* of_slices = ctx.arena->NewArray<SliceSum<T>>(N * Blocks(V, kSlice));
      Launch(ctx, {N * parts, kScanThreads, 0, /*early=*/true}, ScanKernel<T, whole>, in, static_cast<unsigned>(parts),
             of_slices, found);
      Launch(ctx, {N, 2 * kWarp, 0, /*early=*/true}, FinishKernel<T>, in, static_cast<unsigned>(parts), of_slices,
             found);
    });
  });
}

}  // namespace swarr
