// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/sample.cc, in two launches, which read the logits once. ScanKernel: several blocks share
// the entries of a row; each finds its largest score, and of each slice what the softmax of training wants to know.
// FinishKernel: a warp for each row takes the largest of these scores and merges the slices. A maximum does not round,
// so the way in which entries are shared out leaves no trace in the choice, and slices have one order (softmax_row.h).
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

constexpr float kNone = -std::numeric_limits<float>::infinity();

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
  template <class T>
  __device__ double Score(T z, std::int64_t entry) const {
    const double scaled = static_cast<double>(z) / scale;
    if (greedy) return scaled;
    const PhiloxWords words = Words(entry / kDraws);
    std::uint32_t word = words[0];
#pragma unroll
    for (int i = 1; i < kDraws; ++i) word = entry % kDraws == i ? words[i] : word;
    return scaled + GumbelFrom(word);
  }
};

// Bounds of a score, by far cheaper than the score. 2^-20 is more than what f32 rounds off on the way.
struct ScoreBounds {
  float least, most;
  template <class T>
  __device__ ScoreBounds(T z, const Draw& draw, std::uint32_t word) {
    const float score = static_cast<float>(z) * draw.inverse, slack = (fabsf(score) + 32) * 0x1p-20f;
    const GumbelBounds noise(word);
    least = score - slack + (draw.greedy ? 0.0f : noise.least);
    most = score + slack + (draw.greedy ? 0.0f : noise.most);
  }
};

// The random words of a lane's entries of a slice, in ascending order. Two neighbouring lanes have the entries of the
// same counters: each computes half of them, and hands the other its words.
__device__ inline void WordsOfSlice(const Draw& draw, std::int64_t slice, std::uint32_t (&words)[kLaneEntries]) {
  const unsigned lane = threadIdx.x % kSliceLanes;
  const bool odd = lane % 2 != 0;
#pragma unroll
  for (int j = 0; j < kLaneEntries / 2; j += 2) {
    const PhiloxWords own = draw.Words((slice * kSlice + (j + (odd ? 1 : 0)) * 8) / kDraws + lane / 2);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t kept = odd ? own[2 + i] : own[i], sent = odd ? own[i] : own[2 + i],
                          received = __shfl_xor_sync(0xffffffffu, sent, 1);
      words[2 * j + i] = odd ? received : kept;
      words[2 * j + 2 + i] = odd ? kept : received;
    }
  }
}

// A lane's entries of a slice, with kLowest behind the last of a row.
template <bool whole, class T>
__device__ void LoadEntries(const T* row, std::int64_t first, std::int64_t V, T (&z)[kLaneEntries]) {
#pragma unroll
  for (int j = 0; j < kLaneEntries / 2; ++j) {
    const std::int64_t v = first + PairInSlice(j);
    const Pack<T, 2> pair = LoadPack<2>(row, v, V, std::bool_constant<whole>{});
    z[2 * j] = v < V ? pair.at[0] : kLowest<T>;
    z[2 * j + 1] = v + 1 < V ? pair.at[1] : kLowest<T>;
  }
}

// Block (n, part) takes the part-th kScanSlices slices of row n: of_slices[n, slice] and choices[n, part]. Most entries
// can't be chosen: their score is below what another's is at least. So few scores are computed, whose noise costs two
// logarithms in f64. These few are first gathered, so that one warp computes them side by side.
template <class T, bool whole>
__global__ void __launch_bounds__(kScanThreads)
    ScanKernel(std::int64_t V, unsigned parts, SoftmaxPart<T>* of_slices, Choice* choices, const T* logits,
               const std::int32_t* positions, const SampleRow* rows) {
  __shared__ std::uint16_t gathered[kScanEntries];
  __shared__ int count;
  LetNextBegin();
  WaitForPrevious();
  const std::int64_t n = blockIdx.x / parts, first_slice = std::int64_t{blockIdx.x % parts} * kScanSlices,
                     slice = first_slice + threadIdx.x / kSliceLanes, slices = Blocks(V, kSlice);
  const T* row = logits + n * V;
  const Draw draw(rows[n], positions[n]);
  T z[kLaneEntries];
  LoadEntries<whole>(row, slice * kSlice, V, z);
  std::uint32_t words[kLaneEntries] = {};
  if (!draw.greedy) WordsOfSlice(draw, slice, words);
  float least = kNone, most[kLaneEntries];
#pragma unroll
  for (int i = 0; i < kLaneEntries; ++i) {
    const ScoreBounds bounds(z[i], draw, words[i]);
    const bool there = slice * kSlice + PairInSlice(i / 2) + i % 2 < V;
    most[i] = there ? bounds.most : kNone;
    if (there) least = fmaxf(least, bounds.least);
  }
  const SoftmaxPart<T> part = PartOfSlice(z);
  if (threadIdx.x % kSliceLanes == 0 && slice < slices) of_slices[n * slices + slice] = part;

  if (threadIdx.x == 0) count = 0;
  least = BlockMax(least);  // with barriers: all see the zero
#pragma unroll
  for (int i = 0; i < kLaneEntries; ++i) {
    if (!(most[i] >= least) || most[i] == kNone) continue;
    gathered[atomicAdd(&count, 1)] =
        static_cast<std::uint16_t>(threadIdx.x / kSliceLanes * kSlice + PairInSlice(i / 2) + i % 2);
  }
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  Choice best;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kWarp) {
    const std::int64_t entry = first_slice * kSlice + gathered[i];
    const double score = draw.Score(row[entry], entry);
    if (score > Choice{}.score) best = Better(best, {score, entry});
  }
  best = WarpBest(best);
  if (threadIdx.x == 0) choices[blockIdx.x] = best;
}

// A warp for each row.
template <class T>
__global__ void FinishKernel(std::int64_t V, unsigned parts, std::int32_t* tokens, T* logp,
                             const SoftmaxPart<T>* of_slices, const Choice* choices, const T* logits) {
  WaitForPrevious();
  const std::int64_t n = blockIdx.x, slices = Blocks(V, kSlice);
  Choice best;
  for (unsigned part = threadIdx.x; part < parts; part += kWarp) best = Better(best, choices[n * parts + part]);
  best = WarpBest(best);
  const T chosen = logits[n * V + best.entry];
  SoftmaxPart<T> of_lane{kLowest<T>, 0, 0};
#pragma unroll 4
  for (std::int64_t s = threadIdx.x; s < slices; s += kWarp) of_lane = Merge(of_lane, of_slices[n * slices + s]);
  const SoftmaxRow<T> softmax = WarpSoftmaxOf(of_lane);
  if (threadIdx.x != 0) return;
  tokens[n] = static_cast<std::int32_t>(best.entry);
  logp[n] = chosen - softmax.lse;
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
  auto* choices = ctx.arena->NewArray<Choice>(N * parts);
  const SampleRow* on_device = RowsOnDevice(ctx, rows, N);
  DispatchSum(logits.dtype(), [&]<class T>() {
    auto* of_slices = ctx.arena->NewArray<SoftmaxPart<T>>(N * Blocks(V, kSlice));
    WithWhole(RowsAligned<2>(V, logits.data<T>()), [&]<bool whole>() {
      Launch(ctx, {N * parts, kScanThreads, 0, /*early=*/true}, ScanKernel<T, whole>, V, static_cast<unsigned>(parts),
             of_slices, choices, logits, positions, on_device);
    });
    Launch(ctx, {N, kWarp, 0, /*early=*/true}, FinishKernel<T>, V, static_cast<unsigned>(parts), tokens, logp,
           of_slices, choices, logits);
  });
}

}  // namespace swarr
