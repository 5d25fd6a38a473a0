// SPDX-License-Identifier: Apache-2.0
// A block of a model but for attention and residuals, in two launches (model/fused.h): products of few rows
// (few_rows.h) with the norm before them and what follows them. Values are rounded where the ops would store them.
#include <bit>

#include "cuda/decode/few_rows_launch.h"
#include "cuda/decode/few_rows_qkv.h"
#include "cuda/decode/short_fused.h"
#include "model/fused.h"

namespace swarr {
namespace {

// One half of a panel's lines are gates, the other their units.
struct GatedLayer {
  static constexpr bool kNormed = true;
  static constexpr int kHalf = kPanel / 2;

  CUtensorMap gate, up;
  BFloat16* y;
  int units;

  __device__ static int Lines(int) { return kPanel; }
  template <class F>
  __device__ void ForBoxes(int panel, F&& f) const {
    f(gate, panel * kHalf, 0);
    f(up, panel * kHalf, kHalf);
  }
  template <class S>
  static constexpr std::size_t AsideBytes() {
    return 0;
  }
  __device__ Nothing LoadEarly(int, int) const { return {}; }
  template <class S>
  __device__ Nothing Hold(const void*, int, int) const {
    return {};
  }
  template <class S>
  __device__ void FetchEarly(void*, int, int, Nothing) const {}
  template <class S>
  __device__ void FetchLate(void*, int, int, int) const {}
  template <class S>
  __device__ void Store(float* sums, const void*, int tile, int row, int rows, Nothing) const {
    constexpr int kParts = kHalf / kPart, kAcross = S::kGroups * kParts;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows * kAcross; i += S::kThreads) {
      const int panel = i % kAcross / kParts, at = i % kParts * kPart, unit = (tile * S::kGroups + panel) * kHalf + at;
      if (unit >= units) continue;
      const float* from = sums + i / kAcross * S::kSumsStride + panel * kPanel + at;
      float gates[kPart], ups[kPart];
      LoadSums(gates, from);
      LoadSums(ups, from + kHalf);
#pragma unroll
      for (int j = 0; j < kPart; ++j) gates[j] = Gated(Rounded(gates[j]), Rounded(ups[j]));
      StoreRun(y + std::int64_t{row + i / kAcross} * units + unit, gates);
    }
  }
};

const BFloat16* DataOf(const Tensor& t) { return t.empty() ? nullptr : t.data<BFloat16>(); }

}  // namespace

Tensor FusedGated(const Context& ctx, const NormedRows& in, const Tensor& gate, const Tensor& up) {
  if (in.x.dtype() == DType::kF32) return ShortGated(ctx, in, gate, up);
  const std::int64_t units = gate.dim(0);
  if (!NormedRowsTake(ctx, in) || !RowsAligned<kRun>(units, gate.data<BFloat16>(), up.data<BFloat16>())) return {};
  const Tensor y = ctx.arena->New(DType::kBF16, {in.x.dim(0), units});
  const GatedLayer layer{MatrixOf(gate, GatedLayer::kHalf), MatrixOf(up, GatedLayer::kHalf), y.data<BFloat16>(),
                         static_cast<int>(units)};
  const std::int64_t lines = 2 * Blocks(units, GatedLayer::kHalf) * GatedLayer::kHalf;
  // Where most multiprocessors have one of the largest tiles, what these bring from the second-level cache decides.
  using SharedTile = FewShape<3, 64, 16, 2>;
  if (in.x.dim(0) > SharedTile::kRows && FewRowsFit<SharedTile>(ctx, layer, in.x.dim(1)) &&
      3 * RowBlocks<SharedTile>(in.x.dim(0)) * Blocks(lines, SharedTile::kColumns) > 2 * ctx.stream->multiprocessors) {
    LaunchFewRowsAs<SharedTile>(ctx, layer, RowsOf(in), lines);
    return y;
  }
  LaunchCheapestFewRows<FewShape<1, 8, 8>, FewShape<1, 16, 8>, FewShape<1, 32, 8>, FewShape<2, 32, 16>,
                        FewShape<2, 64, 16>, FewShape<3, 64, 16>>(ctx, layer, RowsOf(in), lines);
  return y;
}

Tensor FusedQkv(const Context& ctx, const KeyCache& cache, std::int64_t D, const NormedRows& in, const QkvWeights& w,
                const QkvRows& rows) {
  if (in.x.dtype() == DType::kF32) return ShortQkv(ctx, cache, D, in, w, rows);
  if (!NormedRowsTake(ctx, in) || D % (2 * kRun) != 0 || !HeadsFit(D) ||
      !Aligned<kRun>(DataOf(w.q), DataOf(w.k), DataOf(w.v), DataOf(w.q_bias), DataOf(w.k_bias), DataOf(w.v_bias),
                     DataOf(w.q_norm), DataOf(w.k_norm))) {
    return {};
  }
  const std::int64_t H = w.q.dim(0) / D, G = w.k.dim(0) / D;
  const Tensor q = ctx.arena->New(DType::kBF16, {in.x.dim(0), H, D});
  const int lines = static_cast<int>(std::min<std::int64_t>(D, kPanel));
  const QkvLayer layer{.kinds = {{MatrixOf(w.q, lines), DataOf(w.q_bias), DataOf(w.q_norm)},
                                 {MatrixOf(w.k, lines), DataOf(w.k_bias), DataOf(w.k_norm)},
                                 {MatrixOf(w.v, lines), DataOf(w.v_bias), nullptr}},
                       .H = static_cast<int>(H),
                       .G = static_cast<int>(G),
                       .D = static_cast<int>(D),
                       .log_D = std::countr_zero(static_cast<std::uint64_t>(D)),
                       .eps = static_cast<float>(in.eps),
                       .q = q.data<BFloat16>(),
                       .to_k = cache.k().data<BFloat16>(),
                       .to_v = cache.v().data<BFloat16>(),
                       .cache = QueriesOfSlots<BFloat16>(q, cache, rows.slots),
                       .positions = rows.positions.data<std::int32_t>(),
                       .table = rows.table.data<float>()};
  const std::int64_t columns = (H + 2 * G) * D;
  // With many rows attention's blocks have much to fetch, and want the room that few large tiles leave; the largest if
  // it has room for all of its weights.
  constexpr std::int64_t kManyRows = 64;
  using LargeTile = FewShape<2, 32, 16>;
  using LargestTile = FewShape<3, 32, 12>;
  const bool large = D <= kPanel && q.dim(0) > kManyRows;
  if (large && FewRowsHoldWeights<LargestTile>(ctx, layer, in.x.dim(1))) {
    LaunchFewRowsAs<LargestTile>(ctx, layer, RowsOf(in), columns);
  } else if (large && FewRowsFit<LargeTile>(ctx, layer, in.x.dim(1))) {
    LaunchFewRowsAs<LargeTile>(ctx, layer, RowsOf(in), columns);
  } else if (D <= kPanel) {
    LaunchCheapestFewRows<FewShape<1, 8, 8>, FewShape<1, 16, 8>>(ctx, layer, RowsOf(in), columns);
  } else {
    LaunchCheapestFewRows<FewShape<2, 8>, FewShape<2, 32, 16>, FewShape<2, 64, 16>>(ctx, layer, RowsOf(in), columns);
  }
  return q;
}

}  // namespace swarr
