// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/sample.cc, in two launches. ChooseKernel: several blocks share the entries of a row, and
// each finds its largest score. FinishKernel: one block for each row takes the largest of these and computes its
// log-probability by the softmax of training. A maximum does not round, so the way in which entries are shared out
// leaves no trace.
#include <limits>

#include "cuda/softmax_row.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

constexpr int kChooseThreads = 128;
constexpr int kDraws = 4;  // of one counter of Philox: entries that a thread takes together
constexpr int kTurns = 4;
constexpr int kEntriesPerBlock = kChooseThreads * kDraws * kTurns;

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

// The best of a block's choices, in every thread.
__device__ Choice BlockBest(Choice choice) {
  choice = WarpBest(choice);
  choice.score = OfWarp(choice.score, Choice{}.score);
  choice.entry = OfWarp(choice.entry, Choice{}.entry);
  return WarpBest(choice);
}

// kDraws entries of a row and their random words.
template <class T>
struct Draws {
  Pack<T, kDraws> z;
  PhiloxWords words;
  int count;  // less at the end of a row

  __device__ Draws(const T* row, std::int64_t v, std::int64_t V, bool aligned, std::uint64_t key, std::int32_t position)
      : z(LoadPack<kDraws>(row, v, V, aligned)),
        words(Philox(key, {static_cast<std::uint32_t>(v / kDraws), static_cast<std::uint32_t>(position), 0, 0})),
        count(static_cast<int>(max(std::int64_t{0}, min(std::int64_t{kDraws}, V - v)))) {}
};

constexpr float kNone = -std::numeric_limits<float>::infinity();

// Bounds of a score, by far cheaper than the score. 2^-20 is more than what f32 rounds off on the way.
struct ScoreBounds {
  float least, most;
  template <class T>
  __device__ ScoreBounds(T z, float inverse, bool greedy, std::uint32_t word) {
    const float score = static_cast<float>(z) * inverse, slack = (fabsf(score) + 32) * 0x1p-20f;
    const GumbelBounds noise(word);
    least = score - slack + (greedy ? 0.0f : noise.least);
    most = score + slack + (greedy ? 0.0f : noise.most);
  }
};

// Block (n, part) finds the best of the part-th kEntriesPerBlock entries of row n: choices[n, part]. Most entries can't
// be it: their score is below what another's is at least. So few scores are computed, whose noise costs two logarithms
// in f64; for these the random words, which don't all fit in registers, are made once more.
template <class T>
__global__ void __launch_bounds__(kChooseThreads)
    ChooseKernel(std::int64_t V, std::int64_t parts, bool aligned, Choice* choices, const T* logits,
                 const std::int32_t* positions, const SampleRow* rows) {
  const std::int64_t n = blockIdx.x / parts, begin = blockIdx.x % parts * kEntriesPerBlock;
  const SampleRow row = rows[n];
  const std::int32_t position = positions[n];
  const bool greedy = row.temperature == 0;
  const double scale = greedy ? 1.0 : row.temperature;
  const float inverse = static_cast<float>(1 / scale);
  const auto first_of = [&](int turn) { return begin + (turn * kChooseThreads + threadIdx.x) * kDraws; };
  const auto draws_of = [&](int turn) {
    return Draws<T>(logits + n * V, first_of(turn), V, aligned, row.key, position);
  };
  float least = kNone, most[kTurns][kDraws];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const Draws<T> draws = draws_of(turn);
#pragma unroll
    for (int i = 0; i < kDraws; ++i) {
      const ScoreBounds bounds(draws.z.at[i], inverse, greedy, draws.words[i]);
      const bool there = i < draws.count;
      most[turn][i] = there ? bounds.most : kNone;
      if (there) least = fmaxf(least, bounds.least);
    }
  }
  least = BlockMax(least);
  Choice best;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    float largest = kNone;
#pragma unroll
    for (const float bound : most[turn]) largest = fmaxf(largest, bound);
    if (!(largest >= least)) continue;
    const Draws<T> draws = draws_of(turn);
#pragma unroll
    for (int i = 0; i < kDraws; ++i) {
      if (i >= draws.count || !(most[turn][i] >= least)) continue;
      const double noise = greedy ? 0.0 : GumbelFrom(draws.words[i]),
                   score = static_cast<double>(draws.z.at[i]) / scale + noise;
      if (score > best.score) best = {score, first_of(turn) + i};
    }
  }
  best = BlockBest(best);
  if (threadIdx.x == 0) choices[blockIdx.x] = best;
}

template <class T>
__global__ void __launch_bounds__(kMaxSoftmaxThreads, 1)
    FinishKernel(std::int64_t V, std::int64_t parts, std::int32_t* tokens, T* logp, const Choice* choices,
                 const T* logits) {
  const std::int64_t n = blockIdx.x;
  Choice best;
  for (std::int64_t part = threadIdx.x; part < parts; part += blockDim.x) {
    best = Better(best, choices[n * parts + part]);
  }
  best = BlockBest(best);
  const T* z = logits + n * V;
  const SoftmaxRow<T> softmax = BlockSoftmaxOf(z, V);
  if (threadIdx.x != 0) return;
  tokens[n] = static_cast<std::int32_t>(best.entry);
  logp[n] = z[best.entry] - softmax.lse;
}

}  // namespace

template <>
void Kernels<Cuda>::SampleRows(const Context& ctx, const Tensor& tokens, const Tensor& logp, const Tensor& logits,
                               const Tensor& positions, const SampleRow* rows) {
  const std::int64_t N = logits.dim(0), V = logits.dim(1), parts = Blocks(V, kEntriesPerBlock);
  if (N == 0) return;
  ArenaScope scope(*ctx.arena);
  auto* choices = ctx.arena->NewArray<Choice>(N * parts);
  // `rows` is in the host's page-locked memory. One copy is faster than every block reading there.
  auto* device_rows = ctx.arena->NewArray<SampleRow>(N);
  EnqueueCopy(*ctx.stream, device_rows, rows, static_cast<std::size_t>(N) * sizeof(SampleRow));
  DispatchSum(logits.dtype(), [&]<class T>() {
    const bool aligned = RowsAligned<kDraws>(V, logits.data<T>());
    Launch(ctx, {N * parts, kChooseThreads}, ChooseKernel<T>, V, parts, aligned, choices, logits, positions,
           device_rows);
    Launch(ctx, {N, SoftmaxThreads(V)}, FinishKernel<T>, V, parts, tokens, logp, choices, logits);
  });
}

}  // namespace swarr
