// SPDX-License-Identifier: Apache-2.0
// The families of the suite `ops`. Their truths are the kernels of tensor/ops.h. Mistakes are made in plain loops with
// a switch for each, or by tampering with what the kernels are given and give.
#pragma once

#include "oracle/suite.h"

namespace swarr::oracle {

Family LinearFamily();
Family EmbeddingFamily();
Family RmsNormFamily();
Family RopeFamily();
Family SwiGluFamily();
Family LogprobFamily();

}  // namespace swarr::oracle
