// SPDX-License-Identifier: Apache-2.0
// few_rows_fused.cu for f32: a block of a small model but for attention and residuals, in two launches (model/fused.h),
// by products of short k with the norm before them and what follows them. A head's or a unit's two columns that belong
// together, which rotary embedding turns or SwiGLU multiplies, are half a tile apart.
#include "cuda/attention/attention_tiles.h"
#include "cuda/decode/short_fused.h"
#include "cuda/pack.h"
#include "cuda/short_product.h"

namespace swarr {
namespace {

constexpr int kHalf = kShortColumns / 2;

// Of a pair of columns, what the lane of the other one has.
__device__ inline float OfPartner(float x) { return __shfl_xor_sync(0xffffffffu, x, kHalf); }

// One half of the columns of a tile are gates, the other their units.
struct GatedLayer {
  const float *gate, *up;
  float* y;
  int units, depth;

  __device__ void CopyWeights(const ShortDepth& k, float* lines, int tile) const {
    CopyShortLines<kShortColumns>(lines, k, /*aligned=*/true, [&](int i) -> const float* {
      const int unit = tile * kHalf + i % kHalf;
      return unit < units ? (i < kHalf ? gate : up) + std::int64_t{unit} * depth : nullptr;
    });
  }
  __device__ float Begin(std::int64_t, int, int) const { return 0; }
  __device__ void Store(std::int64_t row, bool there, int tile, int lane, float sum) const {
    const float other = OfPartner(sum);
    const int unit = tile * kHalf + lane;
    if (there && lane < kHalf && unit < units) y[row * units + unit] = Gated(sum, other);
  }
};

// A kind of head: its weights, with bias or null.
struct Heads {
  const float *weight, *bias;
};

// Tiles are those of all heads: queries, then keys, then values.
struct QkvLayer {
  Heads kinds[3];
  int H, G, D, depth;
  float* q;
  float *to_k, *to_v;
  SlotQueries<float> cache;
  const std::int32_t* positions;
  const float* table;

  // Column `lane` of a tile, as element `at` of a head of one kind.
  struct Place {
    int kind, head, at;
  };
  __device__ Place PlaceOf(int tile, int lane) const {
    const int of_head = D / kShortColumns, head = tile / of_head,
              at = tile % of_head * kHalf + lane % kHalf + (lane < kHalf ? 0 : D / 2);
    if (head < H) return {0, head, at};
    return head < H + G ? Place{1, head - H, at} : Place{2, head - H - G, at};
  }
  __device__ void CopyWeights(const ShortDepth& k, float* lines, int tile) const {
    CopyShortLines<kShortColumns>(lines, k, /*aligned=*/true, [&](int i) {
      const Place place = PlaceOf(tile, i);
      return kinds[place.kind].weight + std::int64_t{place.head * D + place.at} * depth;
    });
  }
  __device__ float Begin(std::int64_t, int, int) const { return 0; }
  __device__ void Store(std::int64_t row, bool there, int tile, int lane, float sum) const {
    const Place place = PlaceOf(tile, lane);
    const float* bias = kinds[place.kind].bias;
    const float own = bias ? sum + bias[place.head * D + place.at] : sum, other = OfPartner(own);
    if (!there) return;
    const int position = positions[row];
    const bool first = lane < kHalf;
    float turned = own;
    if (place.kind < 2) {
      const float* angles = table + std::int64_t{position} * D + (first ? place.at : place.at - D / 2);
      const TurnedPair<float> pair(first ? own : other, first ? other : own, angles[0], angles[D / 2]);
      turned = 0.0f + (first ? pair.first : pair.second);  // 0 +: as in rope.cu, which adds to a gradient
    }
    if (place.kind == 0) {
      q[(row * H + place.head) * D + place.at] = turned;
      return;
    }
    const std::int64_t in_cache = cache.TileOf(row, place.head, position / kKeyTile),
                       line = position % kKeyTile * D + place.at;
    (place.kind == 1 ? to_k + in_cache * cache.k_tile : to_v + in_cache * cache.v_tile)[line] = turned;
  }
};

const float* DataOf(const Tensor& t) { return t.empty() ? nullptr : t.data<float>(); }

ShortInput InputOf(const Context& ctx, const NormedRows& in) {
  const std::int64_t C = in.x.dim(1);
  return {.x = {in.x.data<float>(), C, false},
          .rows = in.x.dim(0),
          .depth = C,
          .part_depth = C,
          .aligned = true,
          .steady = ctx.steady_weights,
          .norm = in.weight.data<float>(),
          .eps = static_cast<float>(in.eps)};
}
// Of many rows the norm would be computed too often.
bool Takes(const Context& ctx, const NormedRows& in) {
  constexpr std::int64_t kMostRows = 2048;
  const std::int64_t N = in.x.dim(0), C = in.x.dim(1);
  return ctx.stream && ctx.gemm == GemmKind::kOwn && !ctx.trace_non_finite && in.x.dtype() == DType::kF32 && N > 0 &&
         N <= kMostRows && ShortFits(ctx, C) && RowsAligned<4>(C, DataOf(in.x), DataOf(in.weight));
}

}  // namespace

Tensor ShortGated(const Context& ctx, const NormedRows& in, const Tensor& gate, const Tensor& up) {
  const std::int64_t units = gate.dim(0);
  if (!Takes(ctx, in) || !Aligned<4>(DataOf(gate), DataOf(up))) return {};
  const Tensor y = ctx.arena->New(DType::kF32, {in.x.dim(0), units});
  const GatedLayer layer{DataOf(gate), DataOf(up), y.data<float>(), static_cast<int>(units),
                         static_cast<int>(in.x.dim(1))};
  LaunchShort(ctx, layer, InputOf(ctx, in), Blocks(units, kHalf));
  return y;
}

Tensor ShortQkv(const Context& ctx, const KeyCache& cache, std::int64_t D, const NormedRows& in, const QkvWeights& w,
                const QkvRows& rows) {
  if (!Takes(ctx, in) || D % kShortColumns != 0 || !w.q_norm.empty() ||
      !Aligned<4>(DataOf(w.q), DataOf(w.k), DataOf(w.v))) {
    return {};
  }
  const std::int64_t H = w.q.dim(0) / D, G = w.k.dim(0) / D;
  const Tensor q = ctx.arena->New(DType::kF32, {in.x.dim(0), H, D});
  const QkvLayer layer{
      .kinds = {{DataOf(w.q), DataOf(w.q_bias)}, {DataOf(w.k), DataOf(w.k_bias)}, {DataOf(w.v), DataOf(w.v_bias)}},
      .H = static_cast<int>(H),
      .G = static_cast<int>(G),
      .D = static_cast<int>(D),
      .depth = static_cast<int>(in.x.dim(1)),
      .q = q.data<float>(),
      .to_k = cache.k().data<float>(),
      .to_v = cache.v().data<float>(),
      .cache = QueriesOfSlots<float>(q, cache, rows.slots),
      .positions = rows.positions.data<std::int32_t>(),
      .table = rows.table.data<float>()};
  LaunchShort(ctx, layer, InputOf(ctx, in), (H + 2 * G) * D / kShortColumns);
  return q;
}

}  // namespace swarr
