// SPDX-License-Identifier: Apache-2.0
// The entries of attention: each checks its arguments and runs the kernels of the context's device.
#include "attn/attention.h"

#include <algorithm>
#include <tuple>

#include "attn/kernels/attention_kernels.h"
#include "tensor/kernels/tile_kernel.h"
#include "tensor/ops.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

// `in` is of either kind of inputs.
template <class Inputs>
void CheckQueries(const Tensor& out, const Tensor& lse, std::int64_t G, const Inputs& in) {
  const auto& [q, sink_logits, prompts] = std::tie(in.q, in.sink_logits, in.prompts);
  const std::int64_t N = q.dim(0), H = q.dim(1), D = q.dim(2);
  SWARR_CHECK(G > 0 && H % G == 0, "attention has ", H, " query heads for ", G,
              " key heads; the first must be a multiple");
  CheckShape(out, q.dtype(), {N, H, D}, "attention output");
  CheckShape(lse, AccumulatorOf(q.dtype()), {N, H}, "attention lse");
  if (!sink_logits.empty()) CheckShape(sink_logits, q.dtype(), {H}, "the tensor of learned sinks, one a query head,");
  if (in.spec.prompt) CheckShape(prompts, DType::kI32, {N}, "attention prompts");
}

void CheckAttention(const Tensor& out, const Tensor& lse, const AttentionInputs& inputs) {
  const auto& [q, k, v, q_pos, documents, spec, sink_logits, prompts] = inputs;
  const std::int64_t N = q.dim(0), D = q.dim(2), G = k.dim(1);
  CheckQueries(out, lse, G, inputs);
  CheckShape(k, q.dtype(), {N, G, D}, "attention keys");
  CheckShape(v, q.dtype(), {N, G, D}, "attention values");
  CheckShape(q_pos, DType::kI32, {N}, "attention positions");
  CheckShape(documents, DType::kI32, {-1}, "attention documents");
}

// Tiles of a slot, and the elements of a tile's keys and of its values, per key head.
struct SlotSize {
  std::int64_t tiles, k, v;
};
SlotSize SlotSizeOf(DType dtype, int D, AttentionSpec spec, int max_length, int max_chunk) {
  const std::int64_t tiles = CacheTiles(spec, max_length, max_chunk);
  const std::int64_t depth = Dispatch(dtype, [&]<class T>() { return PanelDepth<T>(D); });
  return {tiles, depth * kPanel, CeilDiv(D, kPanel) * kPanel * kKeyTile};
}

void CheckCached(const Tensor& positions, const Tensor& slots, std::int64_t N) {
  CheckShape(positions, DType::kI32, {N}, "attention positions");
  CheckShape(slots, DType::kI32, {N}, "attention slots");
}

}  // namespace

void CheckDocuments(const Tensor& documents, const Tensor& q_pos) {
  const std::int64_t last = documents.dim(0) - 1, N = q_pos.dim(0);
  const std::int32_t *first = documents.data<std::int32_t>(), *pos = q_pos.data<std::int32_t>();
  SWARR_CHECK(last >= 0 && first[0] == 0 && first[last] == N, "attention documents must begin at row 0 and end at row ",
              N);
  for (std::int64_t d = 0; d < last; ++d) {
    SWARR_CHECK(first[d] <= first[d + 1], "attention documents must ascend; document ", d, " ends before it begins");
    const std::int32_t length = first[d + 1] - first[d];
    bool inside = true;  // in a loop without a branch: a device waits meanwhile
    for (std::int32_t n = first[d]; n < first[d + 1]; ++n) inside &= pos[n] < length;
    for (std::int32_t n = first[d]; !inside && n < first[d + 1]; ++n) {
      SWARR_CHECK(pos[n] < length, "attention position ", pos[n], " is outside a document of ", length, " tokens");
    }
  }
}

void CheckPrompts(const Tensor& prompts, const Tensor& documents) {
  const std::int32_t *first = documents.data<std::int32_t>(), *prompt = prompts.data<std::int32_t>();
  for (std::int64_t d = 0; d + 1 < documents.dim(0); ++d) {
    for (std::int32_t n = first[d]; n < first[d + 1]; ++n) {
      SWARR_CHECK(prompt[n] >= 0 && prompt[n] == prompt[first[d]], "row ", n, " has a prompt of ", prompt[n],
                  " tokens where document ", d, " has one of ", prompt[first[d]]);
    }
  }
}

void CheckSlots(const Tensor& slots, const Tensor& positions, std::int64_t count) {
  for (std::int64_t n = 0; n < slots.dim(0); ++n) {
    const std::int32_t slot = slots.data<std::int32_t>()[n], position = positions.data<std::int32_t>()[n];
    SWARR_CHECK(slot >= 0 && slot < count, "slot ", slot, " is outside a cache of ", count);
    SWARR_CHECK(position >= 0, "a key can't be stored at position ", position);
  }
}

KeyCache::KeyCache(DType dtype, int slots, int G, int D, AttentionSpec spec, int max_length, int max_chunk,
                   MemoryKind kind)
    : tiles_(CacheTiles(spec, max_length, max_chunk)), sink_tiles_(std::min(SinkTiles(spec), tiles_)) {
  const SlotSize size = SlotSizeOf(dtype, D, spec, max_length, max_chunk);
  k_ = OwnedTensor(dtype, {slots, G, size.tiles, size.k}, kind);
  v_ = OwnedTensor(dtype, {slots, G, size.tiles, size.v}, kind);
}

std::size_t KeyCacheBytes(DType dtype, int G, int D, AttentionSpec spec, int max_length, int max_chunk) {
  const SlotSize size = SlotSizeOf(dtype, D, spec, max_length, max_chunk);
  return static_cast<std::size_t>(G * size.tiles * (size.k + size.v)) * SizeOf(dtype);
}

void AttentionForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& inputs) {
  CheckAttention(out, lse, inputs);
  OnDevice(ctx, [&]<class Set>() { AttentionKernels<Set>::Forward(ctx, out, lse, inputs); });
}

void AttentionBackward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& out,
                       const Tensor& lse, const AttentionInputs& inputs) {
  CheckAttention(out, lse, inputs);
  if (const Tensor& to = gradients.dsink_logits; !to.empty()) {
    SWARR_CHECK(!inputs.sink_logits.empty(), "a gradient of learned sinks is wanted, but attention has none");
    CheckShape(to, AccumulatorOf(inputs.q.dtype()), {inputs.q.dim(1)}, "the gradient of learned sinks");
    if (to.fresh()) FillZero(ctx, to);
  }
  const Tensor &dq = gradients.dq, &dk = gradients.dk, &table = gradients.rope_table;
  SWARR_CHECK(table.empty() || ((dq.empty() || dq.fresh()) && (dk.empty() || dk.fresh())),
              "gradients of queries and keys that are turned back can't be added to others");
  if (!table.empty()) CheckShape(table, AccumulatorOf(inputs.q.dtype()), {-1, inputs.q.dim(2)}, "rope table");
  OnDevice(ctx, [&]<class Set>() { AttentionKernels<Set>::Backward(ctx, gradients, dout, out, lse, inputs); });
  if (table.empty() || AttentionTurnsBack(ctx, inputs.q)) return;
  for (const Tensor& d : {dq, dk}) RopeBackward(ctx, d, d, inputs.q_pos, table);
}

void StoreKeys(const Context& ctx, const KeyCache& cache, const Tensor& k, const Tensor& v, const Tensor& positions,
               const Tensor& slots, const Tensor& lengths) {
  const std::int64_t N = k.dim(0), G = cache.k().dim(1), D = k.dim(2);
  CheckShape(k, cache.k().dtype(), {N, G, D}, "stored keys");
  CheckShape(v, cache.k().dtype(), {N, G, D}, "stored values");
  CheckCached(positions, slots, N);
  if (!lengths.empty()) CheckShape(lengths, DType::kI32, {N}, "lengths of stored sequences");
  OnDevice(ctx, [&]<class Set>() { AttentionKernels<Set>::StoreKeys(ctx, cache, k, v, positions, slots, lengths); });
}

void CachedAttentionForward(const Context& ctx, const Tensor& out, const Tensor& lse,
                            const CachedAttentionInputs& inputs) {
  const Tensor& q = inputs.q;
  const KeyCache& cache = inputs.cache;
  CheckQueries(out, lse, cache.k().dim(1), inputs);
  CheckCached(inputs.q_pos, inputs.slots, q.dim(0));
  SWARR_CHECK(q.dtype() == cache.k().dtype(), "queries of ", Name(q.dtype()), " over a cache of ",
              Name(cache.k().dtype()));
  OnDevice(ctx, [&]<class Set>() { AttentionKernels<Set>::CachedForward(ctx, out, lse, inputs); });
}

}  // namespace swarr
