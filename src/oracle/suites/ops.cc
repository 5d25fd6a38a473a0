// SPDX-License-Identifier: Apache-2.0
// The suite `ops`: what a transformer is made of beside attention.
#include "oracle/suites/op_families.h"

namespace swarr::oracle {

Suite OpsSuite() {
  return {"ops",
          "Linear layers, embedding, RMSNorm, RoPE, SwiGLU and the log-probability of tokens, each with its gradients.",
          {LinearFamily(), EmbeddingFamily(), RmsNormFamily(), RopeFamily(), SwiGluFamily(), LogprobFamily()}};
}

}  // namespace swarr::oracle
