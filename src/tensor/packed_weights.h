// SPDX-License-Identifier: Apache-2.0
// Copies of weights in the layout that products read (tile_kernel.h). They pay where the same weights are multiplied
// with few rows again and again, as in decoding: there packing would cost as much as the product.
#pragma once

#include <span>
#include <unordered_map>
#include <vector>

#include "tensor/context.h"
#include "tensor/kernels/short_panels.h"

namespace swarr {

struct PackedWeight {
  OwnedTensor panels;            // [panels, rows of k, kPanel]; short ones leave room behind the last
  std::vector<ShortNote> notes;  // of each block, if panels are short, else none
};

class PackedWeights {
 public:
  // Packs w [N, K], as it is now, for y = x w^T. Packing the same tensor again renews the copy. `far`: bringing weights
  // is what these products wait for, so that panels are short if the kernel reads such and all of w fits.
  void Pack(const Context& ctx, const Tensor& w, bool far = false);
  // Packs the weights of a step for so many sequences, in which each is multiplied once. They are far if sequences are
  // few and the caches of the threads' cores don't hold the weights.
  void PackAll(const Context& ctx, std::span<const Tensor> weights, std::int64_t sequences);
  // The copy of w, or null if w was not packed.
  const PackedWeight* Find(const Tensor& w) const;
  std::size_t bytes() const;

 private:
  std::unordered_map<const void*, PackedWeight> copies_;
};

}  // namespace swarr
