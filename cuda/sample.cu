// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/sample.cc, in two launches, which read the logits once. ScanKernel: warps share the
// entries of a row; each finds those that may have the largest score, and of each slice what the softmax of training
// wants to know (draw_scan.h). FinishKernel: a warp for each row computes the scores of these few entries, and another
// merges the slices. A maximum does not round, so the way in which entries are shared out leaves no trace in the
// choice, and slices have one order (softmax_row.h). Short rows have one block, which does both (DrawKernel).
#include <algorithm>

#include "cuda/decode/draw_scan.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

constexpr int kScanWarps = 8;  // of a block

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

// The entry of a row that is chosen, by one warp. What may be chosen after all that the parts know is gathered first,
// so that the scores, whose noise costs two logarithms in f64, are computed side by side.
template <class T>
__device__ std::int64_t ChosenEntry(unsigned parts, const Found& found, const Draw& draw, const T* row,
                                    std::int64_t V) {
  __shared__ std::int32_t gathered[2 * kWarp];
  const unsigned lane = threadIdx.x % kWarp;
  float least = -kInfinite;
#pragma unroll 4
  for (unsigned at = lane; at < parts; at += kWarp) least = fmaxf(least, found.part[at].least);
  least = WarpLargest(least);

  Choice best;
  const auto add = [&](std::int64_t entry) {
    const double score = draw.Score(row[entry], entry);
    if (score > Choice{}.score) best = Better(best, {score, entry});
  };
  int kept = 0;
  const auto add_kept = [&] {
    __syncwarp();
#pragma unroll 1
    for (int i = static_cast<int>(lane); i < kept; i += kWarp) add(gathered[i]);
    __syncwarp();
    kept = 0;
  };
#pragma unroll 1
  for (unsigned first = 0; first < parts; first += kWarp) {
    const unsigned at = first + lane;
    const int count = at < parts ? found.part[at].count : 0, own = count > kMostFound ? 0 : count,
              most = __reduce_max_sync(0xffffffffu, own);
#pragma unroll 1
    for (int i = 0; i < most; ++i) {
      if (kept > kWarp) add_kept();
      const bool keep = i < own && found.candidates[at * kMostFound + i].most >= least;
      const unsigned all = __ballot_sync(0xffffffffu, keep);
      if (keep) gathered[kept + __popc(all & ((1u << lane) - 1))] = found.candidates[at * kMostFound + i].entry;
      kept += __popc(all);
    }
    // A part that found too many is gone through whole.
    unsigned crowded = __ballot_sync(0xffffffffu, count > kMostFound);
#pragma unroll 1
    for (; crowded != 0; crowded &= crowded - 1) {
      const PartFound& part = found.part[first + static_cast<unsigned>(__ffs(static_cast<int>(crowded)) - 1)];
      const std::int64_t end = min(V, std::int64_t{part.end} * kTurn);
      for (std::int64_t entry = std::int64_t{part.begin} * kTurn + lane; entry < end; entry += kWarp) add(entry);
    }
  }
  add_kept();
  return WarpBest(best).entry;
}

// A row's token and its log p, from what its parts have found: a warp chooses, and another merges the slices. A lane
// loads kAtOnce of them together, which takes longer than to merge.
template <int kAtOnce, class T>
__device__ void FinishRow(const T* row, std::int64_t V, unsigned parts, const Draw& draw, const SliceSum<T>* of_slices,
                          const Found& found, std::int32_t* token, T* logp) {
  __shared__ T lse;
  std::int64_t entry = 0;
  if (threadIdx.x < kWarp) {
    entry = ChosenEntry(parts, found, draw, row, V);
  } else if (threadIdx.x < 2 * kWarp) {
    const auto slices = static_cast<unsigned>(Blocks(V, kSlice));
    SoftmaxPart<T> of_lane{kLowest<T>, 0, 0};
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

// The turns of all rows, shared out to warps, a run of them to each. What a warp finds in a row is the part warp + n.
struct Runs {
  unsigned rows, turns, warps;  // turns of a row; there are no more warps than turns of all

  __host__ __device__ unsigned Parts() const { return warps + rows; }
  __device__ unsigned Begin(unsigned warp) const {
    return static_cast<unsigned>(std::uint64_t{rows} * turns * warp / warps);
  }
  __device__ unsigned WarpOf(unsigned turn) const {
    return static_cast<unsigned>(((turn + std::uint64_t{1}) * warps - 1) / (std::uint64_t{rows} * turns));
  }
};

// Long rows: each warp scans a run, then a block finishes each row. While a warp takes a turn, the entries of its next
// one are on their way.
constexpr int kScanBlocks = 4;  // of a multiprocessor, in f32
template <class T, bool whole>
__global__ void __launch_bounds__(kScanWarps* kWarp, sizeof(T) == 4 ? kScanBlocks : 1)
    ScanKernel(DrawnRows<T> in, Runs runs, SliceSum<T>* of_slices, Found found) {
  LetNextBegin();
  WaitForPrevious();
  // The lanes of a warp agree, and the compiler is to know it, since a row's keys then cost no registers.
  const unsigned warp = blockIdx.x * kScanWarps + __shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0),
                 end = runs.Begin(warp + 1);
  unsigned at = runs.Begin(warp), n = at / runs.turns, turn = at % runs.turns;
  T z[kLaneEntries], next[kLaneEntries];
  Scan<whole, T>::Load(in.Row(n), in.V, turn, next);
#pragma unroll 1
  for (; at < end; ++n, turn = 0) {
    Scan<whole, T> scan(in, n);
    PartFound part{.count = 0, .least = 0, .begin = turn, .end = min(runs.turns, turn + (end - at))};
#pragma unroll 1
    for (; turn < part.end; ++turn, ++at) {
#pragma unroll
      for (int j = 0; j < kLaneEntries; ++j) z[j] = next[j];
      if (at + 1 < end) {
        const bool ends = turn + 1 == runs.turns;
        Scan<whole, T>::Load(in.Row(ends ? n + 1 : n), in.V, ends ? 0 : turn + 1, next);
      }
      scan.Take(turn, z, of_slices + n * Blocks(in.V, kSlice), found.candidates + (warp + n) * kMostFound, part.count);
    }
    part.least = scan.least();
    if (threadIdx.x % kWarp == 0) found.part[warp + n] = part;
  }
}
template <class T>
__global__ void __launch_bounds__(2 * kWarp)
    FinishKernel(DrawnRows<T> in, Runs runs, const SliceSum<T>* of_slices, Found found) {
  LetNextBegin();
  WaitForPrevious();
  const unsigned n = blockIdx.x, first = runs.WarpOf(n * runs.turns), last = runs.WarpOf((n + 1) * runs.turns - 1);
  FinishRow<40>(in.Row(n), in.V, last - first + 1, in.DrawOf(n), of_slices + n * Blocks(in.V, kSlice),
                found.Of(first + n), in.tokens + n, in.logp + n);
}

// Short rows: a block for each, a warp for each turn, which is a part here.
constexpr int kMostDrawWarps = 8;
template <class T, bool whole>
__global__ void __launch_bounds__(kMostDrawWarps* kWarp) DrawKernel(DrawnRows<T> in) {
  __shared__ SliceSum<T> of_slices[kMostDrawWarps * kTurnSlices];
  __shared__ PartFound found[kMostDrawWarps];
  __shared__ Candidate candidates[kMostDrawWarps * kMostFound];
  LetNextBegin();
  WaitForPrevious();
  const unsigned n = blockIdx.x, turn = threadIdx.x / kWarp, turns = static_cast<unsigned>(Blocks(in.V, kTurn));
  if (turn < turns) {
    T z[kLaneEntries];
    Scan<whole, T>::Load(in.Row(n), in.V, turn, z);
    int count = 0;
    Scan<whole, T> scan(in, n);
    scan.Take(turn, z, of_slices, candidates + turn * kMostFound, count);
    if (threadIdx.x % kWarp == 0) found[turn] = {count, scan.least(), turn, turn + 1};
  }
  __syncthreads();
  FinishRow<kMostDrawWarps * kTurnSlices / kWarp>(in.Row(n), in.V, turns, in.DrawOf(n), of_slices, {found, candidates},
                                                  in.tokens + n, in.logp + n);
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
  const std::int64_t N = logits.dim(0), V = logits.dim(1), turns = Blocks(V, kTurn);
  if (N == 0) return;
  ArenaScope scope(*ctx.arena);
  const SampleRow* on_device = RowsOnDevice(ctx, rows, N);
  DispatchSum(logits.dtype(), [&]<class T>() {
    const DrawnRows<T> in{
        V, logits.data<T>(), positions.data<std::int32_t>(), on_device, tokens.data<std::int32_t>(), logp.data<T>()};
    WithWhole(RowsAligned<2>(V, in.logits), [&]<bool whole>() {
      if (turns <= kMostDrawWarps) {
        const auto threads = static_cast<unsigned>(std::max<std::int64_t>(2, turns) * kWarp);
        return Launch(ctx, {N, threads, 0, /*early=*/true}, DrawKernel<T, whole>, in);
      }
      const std::int64_t blocks = std::min<std::int64_t>(
          N * turns / kScanWarps, std::int64_t{sizeof(T) == 4 ? kScanBlocks : 1} * ctx.stream->multiprocessors);
      const Runs runs{static_cast<unsigned>(N), static_cast<unsigned>(turns),
                      static_cast<unsigned>(blocks * kScanWarps)};
      const Found found{ctx.arena->NewArray<PartFound>(runs.Parts()),
                        ctx.arena->NewArray<Candidate>(std::int64_t{runs.Parts()} * kMostFound)};
      auto* of_slices = ctx.arena->NewArray<SliceSum<T>>(N * Blocks(V, kSlice));
      Launch(ctx, {blocks, kScanWarps * kWarp, 0, /*early=*/true}, ScanKernel<T, whole>, in, runs, of_slices, found);
      Launch(ctx, {N, 2 * kWarp, 0, /*early=*/true}, FinishKernel<T>, in, runs, of_slices, found);
    });
  });
}

}  // namespace swarr
