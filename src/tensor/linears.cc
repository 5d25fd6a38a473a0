// SPDX-License-Identifier: Apache-2.0
#include "tensor/linears.h"

namespace swarr {

void AddedMatMulNN(const Context& ctx, const Tensor& dx, std::initializer_list<InputGradientTerm> terms) {
  SWARR_CHECK(terms.size() > 0 && terms.size() <= kMostTerms, "a sum of ", terms.size(), " products; 1 to ", kMostTerms,
              " can be added");
  if (FusedMatMulNN(ctx, dx, terms)) return;
  bool accumulate = false;
  for (const auto& [dy, w] : terms) {
    MatMulNN(ctx, dx, dy, w, accumulate);
    accumulate = true;
  }
}

}  // namespace swarr
