// SPDX-License-Identifier: Apache-2.0
// Copies of weights in the layout that products read (tile_kernel.h). They pay where the same weights are multiplied
// with few rows again and again, as in decoding: there packing would cost as much as the product.
#pragma once

#include <unordered_map>

#include "tensor/context.h"

namespace swarr {

class PackedWeights {
 public:
  // Packs w [N, K], as it is now, for y = x w^T. Packing the same tensor again renews the copy.
  void Pack(const Context& ctx, const Tensor& w);
  // The panels of w, or null if w was not packed.
  const void* Find(const Tensor& w) const;
  std::size_t bytes() const;

 private:
  std::unordered_map<const void*, OwnedTensor> panels_;
};

}  // namespace swarr
