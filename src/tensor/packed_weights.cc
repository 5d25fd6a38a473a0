// SPDX-License-Identifier: Apache-2.0
#include "tensor/packed_weights.h"

#include "tensor/kernels/kernels.h"
#include "tensor/kernels/tile_kernel.h"

namespace swarr {

void PackedWeights::Pack(const Context& ctx, const Tensor& w, bool far) {
  PackedWeight& copy = copies_[w.raw()];
  OwnedTensor& panels = copy.panels;
  const std::int64_t count = CeilDiv(w.dim(0), kPanel);
  Dispatch(w.dtype(), [&]<class T>() {
    const std::int64_t depth = PanelDepth<T>(w.dim(1));
    if (panels.view().empty()) panels = OwnedTensor(w.dtype(), {count, depth, kPanel});
    CheckShape(panels.view(), w.dtype(), {count, depth, kPanel}, "the packed copy of another weight at this address");
  });
  OnCpu(ctx.cpu, [&]<class Set>() {
    const std::int64_t blocks = count * panels.view().dim(1) / kSegment<BFloat16>;
    copy.notes.resize(far ? static_cast<std::size_t>(blocks) : 0);
    if (far && Kernels<Set>::PackWeightShort(ctx, panels.view(), copy.notes, w)) return;
    copy.notes.clear();
    Kernels<Set>::PackWeight(ctx, panels.view(), w);
  });
}

void PackedWeights::PackAll(const Context& ctx, std::span<const Tensor> weights, std::int64_t sequences) {
  constexpr std::int64_t kFew = 4;             // rows of a step: more wait for the products instead
  constexpr std::size_t kOwnCache = 2u << 20;  // of a core with AMX: its second-level cache
  std::size_t bytes = 0;
  for (const Tensor& w : weights) bytes += w.bytes();
  const bool far = sequences <= kFew && bytes > static_cast<std::size_t>(ctx.threads) * kOwnCache;
  for (const Tensor& w : weights) Pack(ctx, w, far);
}

const PackedWeight* PackedWeights::Find(const Tensor& w) const {
  const auto found = copies_.find(w.raw());
  return found == copies_.end() || found->second.panels.view().empty() ? nullptr : &found->second;
}

std::size_t PackedWeights::bytes() const {
  std::size_t sum = 0;
  for (const auto& [weight, copy] : copies_) sum += copy.panels.view().bytes();
  return sum;
}

}  // namespace swarr
