// SPDX-License-Identifier: Apache-2.0
#include "tensor/packed_weights.h"

#include "tensor/kernels/kernels.h"
#include "tensor/kernels/tile_kernel.h"

namespace swarr {

void PackedWeights::Pack(const Context& ctx, const Tensor& w) {
  OwnedTensor& panels = panels_[w.raw()];
  Dispatch(w.dtype(), [&]<class T>() {
    const std::int64_t count = CeilDiv(w.dim(0), kPanel), depth = PanelDepth<T>(w.dim(1));
    if (panels.view().empty()) panels = OwnedTensor(w.dtype(), {count, depth, kPanel});
    CheckShape(panels.view(), w.dtype(), {count, depth, kPanel}, "the packed copy of another weight at this address");
  });
  OnCpu(ctx.cpu, [&]<class Set>() { Kernels<Set>::PackWeight(ctx, panels.view(), w); });
}

const void* PackedWeights::Find(const Tensor& w) const {
  const auto found = panels_.find(w.raw());
  return found == panels_.end() ? nullptr : found->second.view().raw();
}

std::size_t PackedWeights::bytes() const {
  std::size_t sum = 0;
  for (const auto& [weight, panels] : panels_) sum += panels.view().bytes();
  return sum;
}

}  // namespace swarr
