// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include <limits>

#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"
#include "tensor/kernels/softmax_row.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

constexpr int kBlocks = 16, kDraws = 4 * kBlocks;  // counters of Philox, and draws, computed side by side

// Philox of the counters {first + j, position, 0, 0}; words[i][j] is word i of counter j. Inlined, its rounds were not
// vectorised.
[[gnu::noinline]] void PhiloxBlocks(std::uint64_t key, std::uint32_t first, std::uint32_t position,
                                    std::uint32_t (&words)[4][kBlocks]) {
  for (std::uint32_t j = 0; j < kBlocks; ++j) {
    words[0][j] = first + j;
    words[1][j] = position;
    words[2][j] = words[3][j] = 0;
  }
  PhiloxKey round_key(key);
  for (int round = 0; round < kPhiloxRounds; ++round, round_key.Next()) {
    for (int j = 0; j < kBlocks; ++j) {
      PhiloxRound(round_key, words[0][j], words[1][j], words[2][j], words[3][j]);
    }
  }
}

// Standard Gumbel noise of the vocabulary entries 4 first .. 4 first + kDraws - 1.
inline void GumbelBlock(std::uint64_t key, std::uint32_t first, std::uint32_t position, double (&noise)[kDraws]) {
  std::uint32_t words[4][kBlocks];
  PhiloxBlocks(key, first, position, words);
  double by_word[4][kBlocks];
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < kBlocks; ++j) by_word[i][j] = GumbelFrom(words[i][j]);
  }
  for (int j = 0; j < kBlocks; ++j) {
    for (int i = 0; i < 4; ++i) noise[4 * j + i] = by_word[i][j];
  }
}

// The index of the largest logit plus noise; of equals, the first.
template <class T>
std::int32_t Choose(const T* z, std::int64_t V, const SampleRow& row, std::int32_t position) {
  std::int64_t best = 0;
  double best_score = -std::numeric_limits<double>::infinity();
  double noise[kDraws] = {};
  for (std::int64_t begin = 0; begin < V; begin += kDraws) {
    if (row.temperature != 0) {
      GumbelBlock(row.key, static_cast<std::uint32_t>(begin / 4), static_cast<std::uint32_t>(position), noise);
    }
    const double scale = row.temperature == 0 ? 1.0 : row.temperature;
    for (std::int64_t v = begin; v < V && v < begin + kDraws; ++v) {
      const double score = static_cast<double>(z[v]) / scale + noise[v - begin];
      if (score > best_score) {
        best_score = score;
        best = v;
      }
    }
  }
  return static_cast<std::int32_t>(best);
}

// Apart from the choice: g++ 12 does not vectorise it within.
template <class T>
[[gnu::noinline]] T LseOf(const T* z, std::int64_t V) {
  return SoftmaxOf(z, V).lse;
}

}  // namespace

template <>
void Kernels<SWARR_SET>::SampleRows(const Context& ctx, const Tensor& tokens, const Tensor& logp, const Tensor& logits,
                                    const Tensor& positions, const SampleRow* rows) {
  const std::int64_t V = logits.dim(1);
  DispatchSum(logits.dtype(), [&]<class T>() {
    ForRows(ctx, logits.dim(0), V * 16, [&](std::int64_t n) {
      const T* z = logits.data<T>() + n * V;
      const std::int32_t token = Choose(z, V, rows[n], positions.data<std::int32_t>()[n]);
      tokens.data<std::int32_t>()[n] = token;
      logp.data<T>()[n] = z[token] - LseOf(z, V);
    });
  });
}

}  // namespace swarr
