// SPDX-License-Identifier: Apache-2.0
// The norm of heads with their rotary embedding in one launch, on a CUDA device (cuda/rmsnorm_heads.cu).
#pragma once

#include "tensor/linears.h"

namespace swarr {

// y = RopeForward(RmsNormForward(x)) for heads x[N, H, D], with rstd as RmsNormForward writes it. Returns false where
// it has done nothing.
bool FusedNormAndTurn(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& w,
                      double eps, const RowPositions& rows);

}  // namespace swarr
