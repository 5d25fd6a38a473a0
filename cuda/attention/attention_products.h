// SPDX-License-Identifier: Apache-2.0
// Products of a warp's rows with tiles of 32 rows in shared memory, for attention in bf16 (cuda/mma.h).
//
// A tile in shared memory has rows of P numbers: the head dim, padded with zeros to P = 32, 64 or 128. The pitch is P +
// 8: eight successive rows start in eight different groups of four banks, so ldmatrix reads without conflicts. Two
// neighbouring sums of a product, rounded, are at once the thread's part of the operand `a` of the next product. Rows
// do not mix, so what stands in other rows changes no bits.
#pragma once

#include "cuda/attention/attention_tiles.h"
#include "cuda/mma.h"
#include "tensor/kernels/math.h"

namespace swarr {

constexpr int kTileRows = 32;  // rows of a tile that stands as b
template <int P>
constexpr int kPitch = P + 8;
template <int P>
constexpr int kTileSize = kTileRows* kPitch<P>;

__device__ inline int Lane() { return static_cast<int>(threadIdx.x) % kWarp; }

constexpr float kInverseLn2 = 1.4426950408889634074f;

// What the backward makes of q.k and dout.v.
struct ScoreGradient {
  float scale, scale2;
  // p = exp(scale q.k - lse) = 2^(scale2 q.k - lse2)
  __device__ float Weight(float dot, float lse2) const { return Exp2(__fmaf_rn(dot, scale2, -lse2)); }
  // ds = scale p (dout.v - delta) = p (scale dout.v - scaled_delta)
  __device__ float OfScore(float p, float dout_v, float scaled_delta) const {
    return p * __fmaf_rn(dout_v, scale, -scaled_delta);
  }
};
inline ScoreGradient ScoreGradientOf(std::int64_t D) {
  return {1.0f / std::sqrt(static_cast<float>(D)), ScoreScale2(D)};
}

// Starts to copy `rows` rows of D numbers as a tile; zeros stand for rows from `valid` on. The whole block of kThreads
// takes part. D is a multiple of 8, and every row of `from` starts at a multiple of 16 bytes.
template <int P, int kThreads = 4 * kWarp>
__device__ inline void CopyRows(BFloat16* tile, int rows, const BFloat16* from, std::int64_t stride, int valid, int D) {
  constexpr int kPieces = P / 8, kStep = kThreads / kPieces;
  const int first = static_cast<int>(threadIdx.x) / kPieces, column = static_cast<int>(threadIdx.x) % kPieces * 8,
            count = column < D ? valid : 0;
  const BFloat16* at = from + first * stride + column;
#pragma unroll
  for (int row = 0; row < rows; row += kStep, at += kStep * stride) {
    const bool copy = row + first < count;
    CopyAsync16(tile + (row + first) * kPitch<P> + column, copy ? at : from, copy ? 16 : 0);
  }
}

// Starts to copy a tile of keys, and behind it the tile of their values.
template <int P>
__device__ inline void CopyKeysAndValues(BFloat16* to, const KeyTiles<BFloat16>& keys, int tile, int D) {
  const int valid = keys.Valid(tile);
  CopyRows<P>(to, kTileRows, keys.K(tile), keys.row, valid, D);
  CopyRows<P>(to + kTileSize<P>, kTileRows, keys.V(tile), keys.row, valid, D);
}

// 16 rows of a tile as the operand a, for a sum over the head dim. They are kept in registers, or read again for every
// product.
template <int P, bool kKept>
class RowsAsA {
 public:
  __device__ void Load(const BFloat16* rows) {
    at_ = rows + (Lane() / 8 % 2 * 8 + Lane() % 8) * kPitch<P> + Lane() / 16 * 8;
    if constexpr (kKept) {
#pragma unroll
      for (int k = 0; k < P / 16; ++k) LoadMatrix4(kept_[k], at_ + k * 16);
    }
  }
  // The first `count` of 16 rows of D numbers in global memory, and zeros.
  __device__ void LoadGlobal(const BFloat16* rows, int count, int D) {
    static_assert(kKept);
#pragma unroll
    for (int k = 0; k < P / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = Lane() / 4 + i % 2 * 8, column = k * 16 + i / 2 * 8 + Lane() % 4 * 2;
        kept_[k][i] = row < count && column < D ? *reinterpret_cast<const unsigned*>(rows + row * D + column) : 0u;
      }
    }
  }
  __device__ void Get(int k, unsigned (&a)[4]) const {
    if constexpr (kKept) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = kept_[k][i];
    } else {
      LoadMatrix4(a, at_ + k * 16);
    }
  }

 private:
  const BFloat16* at_ = nullptr;
  unsigned kept_[kKept ? P / 16 : 1][4];
};

// Scores of 16 M rows with the 32 rows of a tile: [m][j] is rows 16 m .., tile rows 8 j ...
template <int M>
using Scores = float[M][kTileRows / 8][4];
// 16 M rows of P sums.
template <int M, int P>
using RowSums = float[M][P / 8][4];
// Weights as a: 16 M rows, two steps of 16 of the tile's rows.
template <int M>
using WeightsAsA = unsigned[M][kTileRows / 16][4];

// scores = a tile^T, ascending in D.
template <int P, int M, bool kKept>
__device__ inline void MultiplyByRows(Scores<M>& scores, const RowsAsA<P, kKept> (&a)[M], const BFloat16* tile) {
  const BFloat16* at = tile + (Lane() / 16 * 8 + Lane() % 8) * kPitch<P> + Lane() / 8 % 2 * 8;
#pragma unroll
  for (auto& rows : scores) {
#pragma unroll
    for (auto& c : rows) c[0] = c[1] = c[2] = c[3] = 0;
  }
#pragma unroll
  for (int k = 0; k < P / 16; ++k) {
    unsigned rows[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) a[m].Get(k, rows[m]);
#pragma unroll
    for (int j = 0; j < kTileRows / 16; ++j) {
      unsigned b[4];
      LoadMatrix4(b, at + j * 16 * kPitch<P> + k * 16);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        MultiplyAccumulate(scores[m][2 * j], rows[m], b[0], b[1]);
        MultiplyAccumulate(scores[m][2 * j + 1], rows[m], b[2], b[3]);
      }
    }
  }
}

// sums += weights tile, ascending in the tile's rows.
template <int P, int M>
__device__ inline void AddProducts(RowSums<M, P>& sums, const WeightsAsA<M>& weights, const BFloat16* tile) {
  const BFloat16* at = tile + (Lane() / 8 % 2 * 8 + Lane() % 8) * kPitch<P> + Lane() / 16 * 8;
#pragma unroll
  for (int k = 0; k < kTileRows / 16; ++k) {
#pragma unroll
    for (int n = 0; n < P / 16; ++n) {
      unsigned b[4];
      LoadMatrix4Transposed(b, at + k * 16 * kPitch<P> + n * 16);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        MultiplyAccumulate(sums[m][2 * n], weights[m][k], b[0], b[1]);
        MultiplyAccumulate(sums[m][2 * n + 1], weights[m][k], b[2], b[3]);
      }
    }
  }
}

// Rounds 16 rows of scores to weights.
__device__ inline void RoundToA(unsigned (&a)[kTileRows / 16][4], const float (&scores)[kTileRows / 8][4]) {
#pragma unroll
  for (int k = 0; k < kTileRows / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&c)[4] = scores[2 * k + i / 2];
      a[k][i] = RoundPair(c[i % 2 * 2], c[i % 2 * 2 + 1]);
    }
  }
}

// Calls f.template operator()<P>() with the narrowest P that holds D.
template <class F>
void DispatchWidth(std::int64_t D, F&& f) {
  if (D <= 32) return f.template operator()<32>();
  if (D <= 64) return f.template operator()<64>();
  f.template operator()<128>();
}

}  // namespace swarr
