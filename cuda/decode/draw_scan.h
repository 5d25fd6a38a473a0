// SPDX-License-Identifier: Apache-2.0
// The first look at the logits of rows that draw (cuda/sample.cu): for each slice what the softmax of training wants to
// know, and which entries may have the largest score. A score costs two logarithms in f64, and bounds of it a few
// instructions (MostGumbel, formulas.h). Most entries cost less than that: a lane compares what its largest logit and
// its largest random word would make together with what some entry is known to reach.
#pragma once

#include <limits>

#include "cuda/softmax_row.h"
#include "tensor/kernels/formulas.h"
#include "tensor/ops.h"
#include "tensor/philox.h"

namespace swarr {

constexpr int kTurnSlices = kWarp / kSliceLanes, kTurn = kTurnSlices * kSlice;  // entries that a warp scans together
constexpr int kDraws = 4;                                                       // entries of one counter of Philox

// The largest of a warp's numbers, in one instruction on integers that are in the order of their floats.
__device__ inline float WarpLargest(float x) {
  const auto ordered = [](int bits) { return bits ^ (bits >> 31 & 0x7fffffff); };
  return __int_as_float(ordered(__reduce_max_sync(0xffffffffu, ordered(__float_as_int(x)))));
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
        inverse(Reciprocal(static_cast<float>(scale))) {}

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

// The random words of a lane, of 16 entries of its slice: those of four counters of Philox, which are not the entries
// whose logits it has. Nearly all of them need no more than the largest word.
constexpr int kLaneWords = kLaneEntries;
struct LaneWords {
  std::uint32_t word[kLaneWords];
  std::uint32_t top;  // the largest

  __device__ static int EntryInSlice(int place) {
    const int lane = static_cast<int>(threadIdx.x) % kSliceLanes;
    return (place / kDraws * kSliceLanes + lane) * kDraws + place % kDraws;
  }
  __device__ LaneWords(const Draw& draw, unsigned slice) : top(0) {
#pragma unroll
    for (int i = 0; i < kLaneWords; i += kDraws) {
      const PhiloxWords of_counter = draw.Words((slice * kSlice + static_cast<unsigned>(EntryInSlice(i))) / kDraws);
#pragma unroll
      for (int j = 0; j < kDraws; ++j) {
        word[i + j] = of_counter[static_cast<std::size_t>(j)];
        top = max(top, word[i + j]);
      }
    }
  }
  __device__ std::uint32_t At(int place) const {
    std::uint32_t at = 0;
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) at = i == place ? word[i] : at;
    return at;
  }
  __device__ int TopPlace() const {
    int place = 0;
#pragma unroll
    for (int i = 1; i < kLaneWords; ++i) place = word[i] == top ? i : place;
    return place;
  }
};

// Bounds of scores in f32. `slack` is more than f32 rounds off on the way, for scores that are near `score`; an
// infinite one is not to spoil it.
__device__ inline float SlackNear(float score) { return (fminf(fabsf(score), 0x1p127f) + 160) * 0x1p-20f; }
template <class T>
__device__ float BoundOf(T z, const Draw& draw, float noise) {
  return fmaf(static_cast<float>(z), draw.inverse, noise);
}

// A lane's entries of a slice, of which `count` are there, with kLowest behind the last.
template <bool whole, class T>
__device__ void LoadEntries(const T* slice, int count, T (&z)[kLaneEntries]) {
  const int first = PairInSlice(0);
  slice += static_cast<unsigned>(first);  // so that addresses differ by what is known
  if (whole && count >= kSlice) {
#pragma unroll
    for (int j = 0; j < kLaneEntries / 2; ++j) {
      const auto pair = *reinterpret_cast<const Pack<T, 2>*>(slice + (PairInSlice(j) - first));
      z[2 * j] = pair.at[0];
      z[2 * j + 1] = pair.at[1];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kLaneEntries; ++i) {
    const int at = PairInSlice(i / 2) + i % 2;
    z[i] = at < count ? slice[at - first] : kLowest<T>;
  }
}

// What log p needs of a slice (SoftmaxPart).
template <class T>
struct SliceSum {
  T largest, sum;
};

// What a warp finds in a part of a row: entries that may be chosen, since the most that their score can be is not below
// the least that the largest is known to be. They are a few.
constexpr int kMostFound = kWarp;
struct Candidate {
  std::int32_t entry;
  float most;
};
struct PartFound {
  std::int32_t count;  // if there are more than kMostFound, nobody knows them all
  float least;
  std::uint32_t begin, end;  // turns of the row
};
struct Found {
  PartFound* part;        // [parts]
  Candidate* candidates;  // [parts, kMostFound]

  __device__ Found Of(std::int64_t first) const { return {part + first, candidates + first * kMostFound}; }
};

// Rows that draw.
template <class T>
struct DrawnRows {
  std::int64_t V;
  const T* logits;
  const std::int32_t* positions;
  const SampleRow* rows;
  std::int32_t* tokens;
  T* logp;

  __device__ Draw DrawOf(unsigned n) const { return {rows[n], positions[n]}; }
  __device__ const T* Row(unsigned n) const { return logits + n * V; }
};

// A scan of rows by one warp, eight slices of a row at a time. An entry may be chosen if the most that its score can be
// is not below the least that the largest is, as far as the warp knows.
template <bool whole, class T>
class Scan {
 public:
  __device__ Scan(const DrawnRows<T>& in, unsigned n) : draw_(in.DrawOf(n)), V_(in.V), row_(in.Row(n)) {}

  // Loads a lane's entries of a turn, to be passed to Take.
  __device__ static void Load(const T* row, std::int64_t V, unsigned turn, T (&z)[kLaneEntries]) {
    const std::int64_t begin = std::int64_t{SliceOf(turn)} * kSlice;
    LoadEntries<whole>(row + begin, static_cast<int>(min(V - begin, std::int64_t{kSlice})), z);
  }

  // Takes the slices of a turn: writes what the softmax wants to know of each, and adds entries that may be chosen to
  // the `count` that a part has.
  __device__ void Take(unsigned turn, const T (&z)[kLaneEntries], SliceSum<T>* of_slices, Candidate* found,
                       int& count) {
    const unsigned slice = SliceOf(turn);
    const std::int64_t begin = std::int64_t{slice} * kSlice;
    const int entries = static_cast<int>(min(V_ - begin, std::int64_t{kSlice}));
    const LaneWords words(draw_, slice);  // while the entries are on their way
    const SoftmaxPart<T> known = PartOfSlice<false>(z);
    if (threadIdx.x % kSliceLanes == 0 && entries > 0) of_slices[slice] = {known.largest, known.sum};

    // The largest logit of the slice and the lane's largest word say how much a score can be: in most turns less than
    // is known. Else the entry with that word says what the largest is at least.
    const float largest = BoundOf(known.largest, draw_, 0.0f),
                most = largest + (draw_.greedy ? 0.0f : MostGumbel(words.top)), slack = SlackNear(most);
    if (!__any_sync(0xffffffffu, most + slack >= least_)) return;
    float reached = draw_.greedy ? largest : -kInfinite;
    const int top = LaneWords::EntryInSlice(words.TopPlace());
    if (!draw_.greedy && words.top >> 31 && top < entries) {
      reached = BoundOf(row_[begin + top], draw_, LeastGumbel(words.top));
    }
    least_ = fmaxf(least_, WarpLargest(fmaxf(-kInfinite, reached - slack)));
    unsigned candidates = 0;
    if (most + slack >= least_) {
      const std::uint32_t enough = draw_.greedy ? 0 : WordOfMostGumbel(least_ - 2 * slack - largest);
#pragma unroll
      for (int i = 0; i < kLaneWords; ++i) candidates |= words.word[i] >= enough ? 1u << i : 0u;
    }
#pragma unroll 1
    for (; __any_sync(0xffffffffu, candidates != 0); candidates &= candidates - 1) {
      const int place = __ffs(static_cast<int>(candidates)) - 1, at = LaneWords::EntryInSlice(max(place, 0));
      const float noise = draw_.greedy ? 0.0f : MostGumbel(words.At(place));
      const bool there = place >= 0 && at < entries;
      const float bound = there ? BoundOf(row_[begin + at], draw_, noise) + slack : -kInfinite;
      const bool may = there && bound >= least_;
      const unsigned all = __ballot_sync(0xffffffffu, may), before = all & ((1u << threadIdx.x % kWarp) - 1);
      const int free = count + __popc(before);
      if (may && free < kMostFound) found[free] = {static_cast<std::int32_t>(begin) + at, bound};
      count += __popc(all);
    }
  }

  __device__ float least() const { return least_; }

 private:
  __device__ static unsigned SliceOf(unsigned turn) { return turn * kTurnSlices + threadIdx.x % kWarp / kSliceLanes; }

  Draw draw_;
  std::int64_t V_;
  const T* row_;
  float least_ = -kInfinite;  // that the largest score of the row is
};

}  // namespace swarr
